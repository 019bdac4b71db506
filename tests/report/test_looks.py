"""How the page looks and is reached: ids, numbers, copies, filters, contrast, keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from gmvaluator.matching.duplicates.clusters import Clusters
from gmvaluator.report import report_run
from gmvaluator.report.columns import common_end, p_digits, telling_end
from gmvaluator.runs.folder import Run
from page_checks import opened_page
from run_makers import made_test, renamed_run

LONG = "collections/2024/scans_600dpi/page_{:06d}_crop_final_version.png"
# every text, with what lies below it: the first opaque background of its parents
CONTRASTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const clear = (colour) => /, 0\\)$|transparent/.test(colour);
  const below = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!clear(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *:not(script):not(option)")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility({ opacityProperty: true }) || element.disabled) continue;
    const style = getComputedStyle(element);
    const paint = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(paint), light(below(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.outerHTML.slice(0, 80)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def long_run(run: Run) -> Run:
    """The run with long ids, 12 copies of one training image, 2 of another, values above 10,000,
    and a test that finds no contributor for five images.
    """
    renamed = renamed_run(run, LONG.format)
    leaders = np.arange(30)
    leaders[:12], leaders[20:22] = 0, 20
    near = leaders != np.arange(30)
    near[5] = False
    distances = np.where(near, 0.125, 0).astype(np.float32)
    contributions = run.valuation.contributions
    valuation = replace(
        renamed.valuation,
        contributions=replace(contributions, scores=contributions.scores * 234_567.0),
        quality=run.valuation.quality * 234_567.0,
        clusters=Clusters(leaders, near, distances),
        match_p=np.repeat([0.0025, 0.5], [5, 10]),
        record=replace(
            run.valuation.record, unattributed=made_test(images=5, n_null=399, level=0.02)
        ),
    )
    return replace(renamed, valuation=valuation)


@pytest.fixture(scope="module")
def page(
    long_run: Run, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    file = report_run(long_run, tmp_path_factory.mktemp("looks") / "page.html")
    tab, complaints = opened_page(browser, file, viewport={"width": 1440, "height": 900})
    yield tab
    assert complaints == []
    tab.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_ids_show_where_they_differ_and_numbers_stay_whole(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    card = page.locator("#train-list .id").first
    name = card.get_attribute("title") or ""
    assert card.text_content() == name
    number = name[-29:-23]
    shown = card.evaluate(
        """(id, number) => {
          const node = id.querySelector(".tail").firstChild;
          const range = document.createRange();
          const at = node.data.indexOf(number);
          range.setStart(node, at);
          range.setEnd(node, at + number.length);
          const [digits, box] = [range.getBoundingClientRect(), id.getBoundingClientRect()];
          return digits.left >= box.left && digits.right <= box.right && digits.width > 20;
        }""",
        number,
    )
    assert shown
    # one line, and no wider than its card
    numbers = page.locator("#train-list .val, .gen .cons .strong, .cluster .top b")
    assert numbers.count() > 40
    assert numbers.evaluate_all(
        """all => all.every((one) => {
          const range = document.createRange();
          range.selectNodeContents(one);
          const card = one.closest("li, .cluster").getBoundingClientRect();
          return new Set([...range.getClientRects()].map((box) => box.top)).size === 1
            && range.getBoundingClientRect().right <= card.right + 1;
        })"""
    )
    # values lie above their bars, not over them
    assert page.locator("#train-list .val").evaluate_all(
        """all => all.every((one) => one.getBoundingClientRect().bottom
            <= one.parentElement.querySelector(".bar").getBoundingClientRect().top)"""
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1440, "height": 900})


def test_the_whole_id_is_copied(page: Page, long_run: Run) -> None:
    copied = page.locator("#train-list .id").first.evaluate(
        """(id) => {
          getSelection().selectAllChildren(id.querySelector(".tail"));
          const clipboardData = new DataTransfer();
          const event = new ClipboardEvent("copy", { clipboardData, bubbles: true });
          id.dispatchEvent(event);
          return event.clipboardData.getData("text/plain");
        }"""
    )
    assert copied == long_run.train.ids[int(np.argmin(long_run.valuation.ranks))]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("location.hash = '#train-7'")
    button = page.locator("#detail .copy")
    button.click()
    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == LONG.format(7)
    page.keyboard.press("Escape")


def test_clusters_are_shown_with_their_images(page: Page, long_run: Run) -> None:
    cards = page.locator("#clusters-list .cluster")
    expect(cards).to_have_count(2)
    first = cards.first
    expect(first.locator(".top")).to_contain_text("12 images")
    expect(first.locator("img")).to_have_count(10)
    expect(first.locator("small", has_text="counted")).to_have_count(1)
    expect(first.locator("small", has_text="exact copy")).to_have_count(1)
    expect(first.locator("small", has_text="d\u00a00.1250")).to_have_count(8)
    first.get_by_text("+2 more").click()
    detail = page.locator("#detail-body")
    expect(detail.locator("#detail-title")).to_have_text(LONG.format(0))
    expect(detail.locator(".cons").last.locator("li")).to_have_count(12)
    page.keyboard.press("Escape")
    # drawn from the tables, the cards are the same; an id of any image finds its cluster
    drawn = page.locator("#clusters-list").inner_html()
    page.locator("#clusters-order").select_option("as in the set")
    page.locator("#clusters-order").select_option("most images first")
    expect(cards).to_have_count(2)
    assert page.locator("#clusters-list").inner_html() == drawn
    page.locator("#clusters-search").fill("page_000021")
    expect(cards).to_have_count(1)
    expect(cards.locator(".top")).to_contain_text("2 images")
    page.locator("#clusters-search").fill("")
    expect(cards).to_have_count(2)


def test_lists_show_a_part(page: Page, long_run: Run) -> None:
    place = page.locator("#generated-place")
    chosen = page.locator("#generated-filter")
    parts = ["all", "no close match (5)", "a close match (10)", "gave no score (0)"]
    assert chosen.locator("option").all_text_contents() == parts
    for text, shown in zip(parts[1:], ("1–5 of 5", "1–10 of 10", "nothing found"), strict=True):
        chosen.select_option(text)
        expect(place).to_have_text(shown)
    chosen.select_option(parts[1])
    warning = page.locator("#generated-list .warning").first
    expect(warning).to_have_text("no close match: p\u00a00.0025")
    chosen.select_option("all")
    train = page.locator("#train-filter")
    supported = int((long_run.valuation.n_supported > 0).sum())
    for text, count in (
        (f"contributed ({supported})", supported),
        (f"did not contribute ({30 - supported})", 30 - supported),
        ("has copies (14)", 14),
        ("has no copies (16)", 16),
    ):
        train.select_option(text)
        expect(page.locator("#train-place")).to_have_text(
            f"1–{min(20, count)} of {count}" if count else "nothing found"
        )
    train.select_option("all")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.locator(".raw").evaluate("details => { details.open = true; }")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 400
    assert [entry for entry in contrasts if entry[0] < 4.5] == []
    page.evaluate("location.hash = '#generated-1'")
    expect(page.locator("#detail")).to_be_visible()
    assert [entry for entry in page.evaluate(CONTRASTS) if entry[0] < 4.5] == []
    page.keyboard.press("Escape")


@pytest.mark.parametrize("chosen", [False, True])
def test_a_dark_page_is_printed_on_white(page: Page, chosen: bool) -> None:
    page.emulate_media(color_scheme="light" if chosen else "dark", media="print")
    page.evaluate("(theme) => setTheme(theme)", "dark" if chosen else "system")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 400
    assert [entry for entry in contrasts if entry[0] < 4.5] == []
    assert page.locator(".gen").first.evaluate(
        "card => getComputedStyle(card).backgroundColor"
    ) == ("rgb(255, 255, 255)")
    page.evaluate("setTheme('system')")
    page.emulate_media(color_scheme="light", media="screen")


def test_everything_is_reached_by_keys_and_has_a_name(page: Page) -> None:
    nameless = page.locator("button, select, input, a[href]").evaluate_all(
        """all => all.filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label")
            || one.labels?.[0]?.textContent.trim() || one.querySelector("img[alt], [aria-label]")))
          .map((one) => one.outerHTML.slice(0, 100))"""
    )
    assert nameless == []
    for target in ("#train-filter", "#train-csv", "#find-file", "#csv-values", ".raw summary"):
        # Tab arrives from the one before
        page.locator(target).evaluate("element => element.focus()")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert page.locator(target).evaluate("element => element === document.activeElement")
        ring = "#find-drop" if target == "#find-file" else target
        outline = page.locator(ring).evaluate("element => getComputedStyle(element).outlineStyle")
        assert outline == "solid", target


def test_nothing_moves_and_print_leaves_controls_out(page: Page) -> None:
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert "transition" not in page.locator("style").first.inner_html()
    page.emulate_media(media="print")
    for part in ("#train-form", "#find", "#downloads", "nav"):
        expect(page.locator(part)).to_be_hidden()
    expect(page.locator("#train-list")).to_be_visible()
    page.emulate_media(media="screen")


def test_settings_have_plain_names_and_the_record_is_there(made: Path, browser: Browser) -> None:
    page, complaints = opened_page(browser, made / "run" / "report.html")
    how = page.locator("#how")
    expect(how).to_contain_text("Contributors of each generated image12")
    expect(how).to_contain_text("Images compared bypixels@8")
    expect(how.locator("pre")).to_be_hidden()
    how.locator("summary").click()
    record = json.loads((made / "run" / "run.json").read_text())
    del record["files"]
    assert json.loads(how.locator("pre").text_content() or "") == record
    assert complaints == []
    page.close()


def test_ends_that_all_ids_share_and_those_that_differ_are_counted() -> None:
    assert telling_end([f"{row:05d}_same_1.png" for row in range(100)], 0) == 13
    assert telling_end([f"a/{row:05d}_same.png" for row in range(100)], 9) == 6
    assert telling_end(["same"] * 9, 0) == 14
    assert common_end(["a/1_x.png", "b/22_x.png", "_x.png"]) == 6
    assert common_end(["one.png"]) == common_end([]) == common_end(["a", "b"]) == 0


@pytest.mark.parametrize(("n_null", "digits"), [(399, 4), (99, 2), (202, 3), (1, 1), (24, 2)])
def test_p_values_have_no_more_digits_than_tell_them_apart(n_null: int, digits: int) -> None:
    assert p_digits(n_null) == digits
