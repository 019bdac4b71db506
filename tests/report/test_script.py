"""The page in use: paged, searched, opened, in every colour and size, under hostile names."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import new_page, wait_until
from playwright.sync_api import Browser, expect

from gmvaluator import GMValuator, Skip
from gmvaluator.report import columns as report_columns
from gmvaluator.report import report_run
from gmvaluator.report.columns import spread_order
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.record import RecordedSettings
from image_makers import image_folder
from page_checks import opened_page, text_of
from run_makers import made_test, renamed_run

NASTY = "<script>window.hacked=1</script></style>\"'&{{}}\u2028\u202e" + "x" * 90


def hostile(run: Run) -> Run:
    """The run under names that try to leave their place, a lone surrogate among its settings."""
    nasty = renamed_run(run, lambda row: f"{NASTY}{row}", NASTY)
    record = replace(run.valuation.record, settings=RecordedSettings({NASTY: NASTY, "o": "\udce9"}))
    skipped = (("train", Skip(NASTY, NASTY)),)
    return replace(nasty, valuation=replace(nasty.valuation, skipped=skipped, record=record))


def test_strings_of_users_stay_text_in_a_browser(
    run: Run, tmp_path: Path, browser: Browser
) -> None:
    file = report_run(hostile(run), tmp_path / "page.html", title=NASTY)
    assert "<script>window" not in file.read_text()
    page, complaints = opened_page(browser, file, viewport={"width": 360, "height": 700})
    wanted = f"{NASTY}0"
    assert page.locator("h1").text_content() == NASTY
    assert page.locator(".gen h3").first.text_content() == wanted
    assert page.locator("#train-list .values small").nth(1).text_content() == f"label\u00a0{NASTY}"
    page.evaluate("location.hash = '#train-0'")
    expect(page.locator("#detail")).to_be_visible()
    assert page.locator("#detail-title").text_content() == wanted
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#detail").evaluate("dialog => dialog.scrollWidth") <= 360
    assert page.evaluate("window.hacked") is None
    # the label is one to choose as well
    page.keyboard.press("Escape")
    page.locator("#train-label").select_option(label=NASTY)
    expect(page.locator("#train-place")).to_have_text("1–20 of 30")
    assert complaints == []


def test_a_reader_pages_searches_and_opens(made: Path, run: Run, browser: Browser) -> None:
    page, complaints = opened_page(
        browser, made / "run" / "report.html", viewport={"width": 1200, "height": 900}
    )
    cards, place = page.locator(".gen"), page.locator("#generated-place")
    first = page.locator(".gen h3").first
    gallery = page.locator("#generated-list")
    from_records = gallery.inner_html()
    expect(place).to_have_text("1–12 of 15")
    expect(page.locator("#generated-back")).to_be_disabled()
    page.locator("#generated-order").select_option("as in the set")
    expect(first).to_have_text(run.generated.ids[0])
    expect(cards.nth(1).locator("h3")).to_have_text(run.generated.ids[1])
    expect(place).to_have_text("1–12 of 15")
    page.locator("#generated-next").click()
    expect(place).to_have_text("13–15 of 15")
    expect(cards).to_have_count(3)
    expect(page.locator("#generated-next")).to_be_disabled()
    page.locator("#generated-back").click()
    expect(place).to_have_text("1–12 of 15")
    # the tables give the same cards as the records of what is seen first
    page.locator("#generated-order").select_option("spread over the whole set")
    expect(cards.nth(1).locator("h3")).to_have_text(run.generated.ids[spread_order(15)[1]])
    assert gallery.inner_html() == from_records
    best = np.argsort(-run.valuation.quality, kind="stable")
    page.locator("#generated-order").select_option("highest quality first")
    expect(first).to_have_text(run.generated.ids[best[0]])
    page.locator("#generated-label").select_option("class1")
    expect(place).to_have_text("1–7 of 7")
    # a training image by its id
    row = int(np.argmax(run.valuation.values))
    page.locator("#train-search").fill(run.train.ids[row].upper())
    expect(page.locator("#train-place")).to_have_text("1–1 of 1")
    page.locator("#train-list a.open").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    body = page.locator("#detail-body")
    shown = body.locator(".cons .id").all_text_contents()
    contributions = run.valuation.contributions
    scores = np.where(contributions.rows == row, contributions.scores, 0).sum(axis=1)
    wanted = [run.generated.ids[j] for j in np.argsort(-scores, kind="stable") if scores[j] > 0]
    assert len(wanted) == run.valuation.n_supported[row]
    assert shown == wanted
    about = body.text_content() or ""
    share = 100 * run.valuation.values[row] / run.valuation.values.sum()
    assert "rank1 of 30" in about
    assert f"value{format_number(run.valuation.values[row])}share" in about
    assert f"share of all value{format_number(share)} %" in about
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    wait_until(page, "() => location.hash === ''")
    focused = "document.activeElement.getAttribute('href')"
    assert page.evaluate(focused) == f"#train-{row}"
    page.locator("#train-search").fill("nowhere")
    expect(page.locator("#train-place")).to_have_text("nothing found")
    # arrows lead from picture to picture
    page.locator("#generated a.open").first.focus()
    page.keyboard.press("ArrowRight")
    place_of_focus = (
        "[...document.querySelectorAll('#generated a.open')].indexOf(document.activeElement)"
    )
    assert page.evaluate(place_of_focus) == 1
    page.keyboard.press("ArrowDown")
    assert page.evaluate(place_of_focus) > 2
    assert page.locator("#failed").text_content() == ""
    assert complaints == []


def test_every_order_sorts_as_python_does(made: Path, run: Run, browser: Browser) -> None:
    page, complaints = opened_page(browser, made / "run" / "report.html")
    images = report_columns.Images(run.valuation, report_columns.image_columns(run))
    ids: dict[report_columns.Side, tuple[str, ...]] = {
        "generated": run.generated.ids,
        "train": run.train.ids,
    }
    shown = {"generated": ".gen h3", "train": "#train-list .id"}
    for side in ids:
        orders = report_columns.ORDERS[side]
        # the order that the page opens with comes last: it is drawn already
        for place in [*range(1, len(orders)), 0]:
            rows = images.order(side, orders[place])[: 12 if side == "generated" else 20]
            page.locator(f"#{side}-order").select_option(str(place))
            expect(page.locator(shown[side])).to_have_text([ids[side][row] for row in rows])
    assert complaints == []


def test_light_dark_phone_print_and_no_script(made: Path, run: Run, browser: Browser) -> None:
    file = made / "run" / "report.html"
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 800}, "color_scheme": "dark"}
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(246, 247, 249)", "rgb(15, 18, 23)"
    page, complaints = new_page(browser, java_script_enabled=False, **phone)
    page.goto(file.absolute().as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(background) == dark
    expect(page.locator("#unscripted")).to_be_visible()
    for section in ("meaning", "spread", "group-1", "skipped", "how"):
        expect(page.locator(f"#{section}")).to_be_visible()
    for section in ("generated", "train", "find", "downloads"):
        expect(page.locator(f"#{section}")).to_be_hidden()
        expect(page.locator(f"nav [href='#{section}']")).to_be_hidden()
    expect(page.locator(".numbers dd").first).to_have_text("30")
    total = format_number(run.valuation.values[["class1" in i for i in run.train.ids]].sum())
    row = page.locator("#group-1 tr", has=page.get_by_text("class1", exact=True))
    expect(row.locator("td").nth(1)).to_have_text(total)
    assert complaints == []
    page, complaints = opened_page(browser, file, **phone)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator("#unscripted")).to_have_count(0)
    images = page.locator("img")
    assert images.count() > 100
    loaded = "images => images.every((image) => image.complete && image.naturalWidth === 8)"
    assert images.evaluate_all(loaded)
    assert page.evaluate(background) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == light
    for wanted in (light, dark):
        page.locator("#theme").click()
        assert page.evaluate(background) == wanted
    page.emulate_media(media="print")
    expect(page.locator("#theme")).to_be_hidden()
    assert complaints == []


def test_images_without_a_contributor_are_marked(
    run: Run, tmp_path: Path, browser: Browser
) -> None:
    test = made_test(images=2, share=0.125, level=0.05)
    p_values = np.linspace(0.01, 0.9, 15)
    scores = run.valuation.contributions.scores.copy()
    silent = int(spread_order(15)[-1])
    scores[silent] = 0
    valuation = replace(
        run.valuation,
        contributions=replace(run.valuation.contributions, scores=scores),
        match_p=p_values,
        record=replace(run.valuation.record, unattributed=test),
    )
    file = report_run(replace(run, valuation=valuation), tmp_path / "page.html")
    text = text_of(file)
    assert "12.5 %" in text
    assert "their scores were kept" in text
    page, complaints = opened_page(browser, file)
    first = int((p_values[spread_order(15)[:12]] <= 0.05).sum())
    rest = int((p_values[spread_order(15)[12:]] <= 0.05).sum())
    assert first > 0
    marks = page.locator("#generated-list .warning", has_text="no close match: p ")
    expect(marks).to_have_count(first)
    page.locator("#generated-next").click()
    expect(page.locator(".gen")).to_have_count(3)
    expect(marks).to_have_count(rest)
    nearest = page.locator('#generated-list [aria-label="Nearest training images"]')
    expect(nearest).to_have_count(1)
    page.evaluate(f"location.hash = '#generated-{silent}'")
    body = page.locator("#detail-body")
    expect(body).to_contain_text("12 of 12 nearest training images, best first.")
    expect(body).to_contain_text("This image gave no score.")
    expect(body).to_contain_text(f"p-value of its match{p_values[silent]:.2f}label")
    assert complaints == []
    record = replace(valuation.record, unattributed=replace(test, applied=True))
    withheld = replace(valuation, record=record)
    text = text_of(report_run(replace(run, valuation=withheld), tmp_path / "page.html"))
    assert "are marked no close match and give no score" in text


def test_copies_that_count_once_are_marked(tmp_path: Path, browser: Browser) -> None:
    train = image_folder(tmp_path / "train", 6)
    shutil.copy(train / "class0" / "000.png", train / "class1" / "copy.png")
    generated = tmp_path / "generated"
    generated.mkdir()
    shutil.copy(train / "class0" / "000.png", generated / "drawn.png")
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="none", k=3, candidates=5, cache=False
    )
    valuation = valuator.fit(train).value(generated)
    valuation.save(tmp_path / "run")
    file = report_run(open_run(tmp_path / "run"))
    assert "1 cluster of copies. A cluster counts once" in text_of(file)
    page, complaints = opened_page(browser, file)
    expect(page.locator("#train-list small", has_text="one of 2 copies")).to_have_count(2)
    expect(page.locator(".gen .cons small", has_text="2 copies")).to_have_count(1)
    body = page.locator("#detail-body")
    for row in range(7):
        copy = valuation.train_ids[row] in ("class0/000.png", "class1/copy.png")
        page.evaluate(f"location.hash = '#train-{row}'")
        expect(body).to_contain_text(f"row {row + 1} of 7")
        about = body.text_content() or ""
        assert ("one of 2 copies" in about) == copy
        assert f"value{format_number(valuation.values[row])}share" in about
        assert body.locator(".cons").first.locator("li").count() == valuation.n_supported[row]
    assert complaints == []


def test_a_large_run_holds_a_part_and_says_so(
    run: Run, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_columns, "MOST_PAIRS", 80)
    file = report_run(run, tmp_path / "page.html")
    page, complaints = opened_page(browser, file)
    row = int(np.argmax(run.valuation.n_supported))
    page.evaluate(f"location.hash = '#train-{row}'")
    body = page.locator("#detail-body")
    expect(body).to_contain_text(f"of these {run.valuation.n_supported[row]} are in this file")
    expect(body).to_contain_text("all in contributions.parquet")
    last = spread_order(15)[-1]
    page.evaluate(f"location.hash = '#generated-{last}'")
    expect(body).to_contain_text("0 of 12 contributors")
    assert complaints == []


def test_the_script_writes_numbers_as_python_does(made: Path, browser: Browser) -> None:
    rng = np.random.default_rng(0)
    numbers = [0.5, 1234.5, 1e-4, 9.99999e-5, 1e9, 123456789.0, 0.00048828125, -2.5, 99999.5]
    numbers += (10.0 ** rng.uniform(-9, 12, 300)).tolist()
    page, _ = opened_page(browser, made / "run" / "report.html")
    texts = page.evaluate("numbers => numbers.map((x) => number(x))", numbers)
    assert texts == [format_number(number) for number in numbers]
