"""The report: complete, self-contained, escaped, never a wrong picture, and really used in a
browser with and without its script.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import READY, new_page, running_browser
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from gmvaluator import GMValuator, ImageSet, InputError, RunError, Skip, cli
from gmvaluator.progress import as_progress
from gmvaluator.report import columns as report_columns
from gmvaluator.report import page as report_page
from gmvaluator.report import pictures as report_pictures
from gmvaluator.report import report_run
from gmvaluator.report import tables as report_tables
from gmvaluator.report.columns import Line, Side, spread_order
from gmvaluator.report.html import percent
from gmvaluator.report.packing import pack_column, script_json
from gmvaluator.report.pictures import STATES, read_pictures
from gmvaluator.report.tables import GroupColumn, sum_groups
from gmvaluator.runs.distribution import Concentration, histogram
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.runs.formatting import format_number
from image_makers import encode, image_folder, random_images

NASTY = "<script>window.hacked=1</script></style>\"'&{{}}\u2028\u202e" + "x" * 90
VOID = {"meta", "link", "img", "br", "hr", "input"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 30 images in `train`, 15 in `generated`, and their `run` with a report."""
    folder = tmp_path_factory.mktemp("made")
    image_folder(folder / "train", 30)
    image_folder(folder / "generated", 15, seed=1)
    (folder / "train" / "class0" / "bad.png").write_bytes(encode(random_images(1)[0])[:-30])
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="realism", k=12, candidates=20, cache=False
    )
    valuator.fit(folder / "train").value(folder / "generated").save(folder / "run")
    report_run(open_run(folder / "run"))
    return folder


@pytest.fixture(scope="module")
def run(made: Path) -> Run:
    return open_run(made / "run")


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of it at another place; the run still names the first."""
    return shutil.copytree(made, tmp_path / "home")


def opened(home: Path) -> Run:
    return open_run(home / "run", train=home / "train", generated=home / "generated")


class Tree(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


def text_of(page: Path) -> str:
    """The text that stands in the file, before the script draws cards."""
    return Tree(page.read_text()).words


def opened_page(browser: Browser, file: Path, **options: Any) -> tuple[Page, list[str]]:
    """The file in a new tab, once its script has drawn what is seen first, and the complaints."""
    page, complaints = new_page(browser, **options)
    page.goto(file.absolute().as_uri())
    page.locator(READY).wait_for(state="attached")
    return page, complaints


def drawn(browser: Browser, file: Path) -> Tree:
    """The page as the script leaves it."""
    page, complaints = opened_page(browser, file)
    tree = Tree(page.content())
    assert complaints == []
    assert page.locator("#failed").text_content() == ""
    page.close()
    return tree


def test_the_page_shows_the_run(made: Path, run: Run, browser: Browser) -> None:
    text = drawn(browser, made / "run" / "report.html").words
    valuation = run.valuation
    best = int(np.argmax(valuation.values))
    first = valuation.contributors(0)
    settings = valuation.info["settings"]
    for part in (
        *("How much did each of 30 training images contribute to 15 generated images?",),
        *(valuation.train_ids[best], format_number(valuation.values[best]), "class1"),
        *(valuation.generated_ids[0], first.ids[0], first.ids[9]),
        *(format_number(float(first.distances[0])), format_number(float(first.scores[0]))),
        *("bad.png", "truncated", "Similarity is not cause", settings["encoder"], run.seal),
        *(valuation.info["versions"]["numpy"], valuation.info["inputs"]["train"]["fingerprint"]),
        *(f"supports {valuation.n_supported[best]}", "Value by label", "embed train"),
    ):
        assert str(part) in text, part


def test_the_page_refers_to_nothing_outside_itself_and_runs_one_script(made: Path) -> None:
    page = (made / "run" / "report.html").read_text()
    tree = Tree(page)
    assert not {"link", "iframe", "object", "embed"} & {name for name, _ in tree.tags}
    for _, attributes in tree.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?://|url\(|@import", page)
    policy = next(m["content"] for m in tree.named("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert page.count("<script>") == 1
    start = page.index("<script>") + 8
    script = page[start : page.index("</script>", start)]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_links_and_labels_lead_somewhere(made: Path, browser: Browser) -> None:
    tree = drawn(browser, made / "run" / "report.html")
    ids = [attributes["id"] for _, attributes in tree.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for a in tree.named("a")}
    images = {link for link in links if re.fullmatch(r"(train|generated)-\d+", link)}
    assert links - images <= set(ids)
    assert len(images) > 30
    assert {a["aria-labelledby"] for _, a in tree.tags if "aria-labelledby" in a} <= set(ids)
    assert all(a["alt"] for a in tree.named("img"))
    assert tree.named("html")[0]["lang"] == "en"


def test_sums_by_a_column_are_those_of_the_values(run: Run, home: Path) -> None:
    values = run.valuation.values
    groups = sum_groups(values, run.train.column("label"))
    assert [group.name for group in groups] == sorted(
        ("class0", "class1"), key=lambda name: -values[[name in i for i in run.train.ids]].sum()
    )
    assert sum(group.total for group in groups) == pytest.approx(values.sum())
    assert [group.count for group in groups] == [15, 15]
    ids = run.train.ids
    owners = ["path,owner", *(f"{name},<i>{at % 3}" for at, name in enumerate(ids))]
    (home / "train" / "list.csv").write_text("\n".join(owners))
    found = open_run(home / "run", train=home / "train" / "list.csv")
    page = report_run(found, home / "owners.html", metadata=["owner"])
    shown = re.findall(
        r"<th scope=\"row\"><bdi>&lt;i&gt;(\d)</bdi></th><td>10</td><td>([\d.]+)", page.read_text()
    )
    wanted = {str(at): format_number(values[at::3].sum()) for at in range(3)}
    assert dict(shown) == wanted
    with pytest.raises(InputError, match="no column 'licence'"):
        report_run(found, home / "none.html", metadata=["licence"])
    assert not (home / "none.html").exists()


def test_images_without_a_cell_have_groups_of_their_own(run: Run, home: Path) -> None:
    values = run.valuation.values
    ids = run.train.ids
    owners = ["none", "(no longer listed)", ""]
    rows = ["path,owner", *(f"{name},{owners[at % 3]}" for at, name in enumerate(ids[:21]))]
    (home / "train" / "list.csv").write_text("\n".join(rows))
    train = open_run(home / "run", train=home / "train" / "list.csv").train
    cells = [None if cell in (None, "") else cell for cell in train.column("owner")]
    groups = sum_groups(values, cells, train.gone("owner"))
    found = {(group.name, group.named): (group.count, group.total) for group in groups}
    wanted = {
        ("none", True): values[:21:3],
        ("(no longer listed)", True): values[1:21:3],
        ("(no entry)", False): values[2:21:3],
        ("(no longer listed)", False): values[21:],
    }
    assert found.keys() == wanted.keys()
    for name, of in wanted.items():
        assert found[name] == pytest.approx((len(of), of.sum()))
    assert train.gone("owner").sum() == 9
    # labels are the run's own: no image has lost its label
    assert not train.gone("label").any()
    moved = open_run(home / "run", train=home / "train" / "list.csv")
    page = report_run(moved, home / "page.html", metadata=["owner"]).read_text()
    assert page.count("9 of 30 training images are no longer listed in the set. Their") == 1
    assert page.count("<em>(no longer listed)</em></th><td>9</td>") == 1
    assert page.count("<bdi>(no longer listed)</bdi></th><td>7</td>") == 1


def test_values_below_0_have_totals_and_no_shares(run: Run, tmp_path: Path) -> None:
    values = np.array([3.0, -1.0, -1.0, 0.5])
    groups = sum_groups(values, ["a", "b", "b", "a"])
    assert [(group.name, group.total, group.share) for group in groups] == [
        ("a", 3.5, None),
        ("b", -2.0, None),
    ]
    found = run.valuation.contributions
    signed = replace(found, scores=found.scores - found.scores.mean())
    valuation = replace(run.valuation, contributions=signed)
    text = text_of(report_run(replace(run, valuation=valuation), tmp_path / "page.html"))
    below = int((valuation.values < 0).sum())
    assert below > 0
    assert f"{below} values are below 0, so there are no shares of a whole" in text
    assert "share of value" not in text
    assert "How value is spread" not in text


def test_images_that_gave_no_score_list_the_nearest(
    run: Run, tmp_path: Path, browser: Browser
) -> None:
    found = run.valuation.contributions
    scores = found.scores.copy()
    scores[0] = 0
    valuation = replace(run.valuation, contributions=replace(found, scores=scores))
    page = report_run(replace(run, valuation=valuation), tmp_path / "page.html")
    tree = drawn(browser, page)
    assert tree.words.count("gave no score: nearest training images") == 1
    lists = [a.get("aria-label") for a in tree.named("ol")]
    assert lists.count("Nearest training images") == 1
    assert lists.count("Contributors") == 11
    assert "not a contributor of any" not in page.read_text()


def test_images_that_moved_or_changed_are_marked_and_never_shown(
    home: Path, browser: Browser
) -> None:
    run = opened(home)
    rows = np.argsort(run.valuation.ranks)[:3]
    files = [home / "train" / run.train.ids[row] for row in rows]
    new = encode(random_images(1, 8, seed=77)[0])
    files[0].write_bytes(new)
    files[1].unlink()
    found = opened(home)
    files[2].unlink()
    page = report_run(found, home / "page.html")
    text = text_of(page)
    assert "1 training picture is not shown: the content is no longer what was valued" in text
    assert "1 training picture is not shown: no longer where the run found them" in text
    assert "1 training picture is not shown: the image cannot be read any more" in text
    assert "1 of 30 images are no longer listed in the set" in text
    labels = [a.get("aria-label", "") for a in drawn(browser, page).named("span")]
    for row, state in zip(rows, ("changed", "missing", "unreadable"), strict=True):
        assert f"Training image {run.train.ids[row]}, picture {state}" in labels
    shown = ImageSet.open([np.asarray(Image.open(io.BytesIO(new)))]).png(0, 128)
    assert base64.b64encode(shown).decode() not in page.read_text()
    # a whole set that is gone: numbers stay
    shutil.rmtree(home / "train")
    valuation = replace(found.valuation, info=found.valuation.info | {"inputs": {}})
    bare = replace(found, valuation=valuation, train=valuation.open_images("train"))
    text = drawn(browser, report_run(bare, home / "bare.html")).words
    assert "the run was made from images in memory; pass the set" in text
    assert format_number(valuation.values.max()) in text


def test_an_older_run_says_that_pictures_go_by_name(run: Run, tmp_path: Path) -> None:
    valuation = replace(run.valuation, train_keys=None, generated_keys=None)
    older = replace(
        run,
        valuation=valuation,
        train=valuation.open_images("train"),
        generated=valuation.open_images("generated"),
    )
    text = text_of(report_run(older, tmp_path / "page.html"))
    assert "did not record what its images hold" in text


def test_pictures_beyond_the_size_asked_for_are_marked(
    run: Run, tmp_path: Path, browser: Browser
) -> None:
    page = report_run(run, tmp_path / "page.html", megabytes=0)
    assert 'id="pictures-' not in page.read_text()
    tree = drawn(browser, page)
    assert tree.named("img") == []
    labels = [a.get("aria-label", "") for a in tree.named("span")]
    assert f"Generated image {run.generated.ids[0]}, picture left out" in labels
    assert "Not all pictures fit into this file" in text_of(page)
    for megabytes in (float("nan"), float("inf"), -1.0, 1e305):
        with pytest.raises(InputError, match="wanted 0 or more, and not infinite"):
            report_run(run, tmp_path / "page.html", megabytes=megabytes)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        report_run(run, tmp_path / "file" / "page.html")


def test_a_folder_is_refused_before_anything_is_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report_page, "read_pictures", None)
    for folder in (".", tmp_path):
        with pytest.raises(InputError, match="is a folder; wanted the file to write, such as"):
            report_run(run, folder)
    assert list(tmp_path.iterdir()) == []


def test_reads_are_bounded_whatever_they_give(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_pictures, "MOST_READ", 4)
    new = encode(random_images(1, 8, seed=77)[0])
    files = sorted((home / "train").rglob("*[0-9].png"))
    files[0].unlink()
    for file in files[1:]:
        file.write_bytes(new)
    run = opened(home)
    keys: list[tuple[Side, int]] = [("train", row) for row in range(30)]
    found = read_pictures(run, keys, 1_000_000, as_progress(False))
    assert found.shown == {}
    assert sorted(found.troubles.values()) == ["changed"] * 4 + ["missing"]
    assert found.full
    codes = found.codes("train", 30)
    assert (codes == STATES.index("left out")).sum() == 25


def hostile(run: Run) -> Run:
    """The run under names that try to leave their place, a lone surrogate among its settings."""

    def renamed(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{NASTY}{at}" for at in range(len(ids)))

    sides = {}
    for side in (run.train, run.generated):
        assert side.images is not None
        images = side.images.select(side.rows)
        images.ids = renamed(side.ids)
        labels = (NASTY,) * len(side.ids)
        sides[id(side)] = replace(side, ids=images.ids, images=images, labels=labels)
    train, generated = sides[id(run.train)], sides[id(run.generated)]
    valuation = replace(
        run.valuation,
        train_ids=train.ids,
        generated_ids=generated.ids,
        train_labels=train.labels,
        generated_labels=generated.labels,
        skipped=(("train", Skip(NASTY, NASTY)),),
        info=run.valuation.info | {"settings": {NASTY: NASTY, "odd": "\udce9"}},
    )
    return replace(run, valuation=valuation, train=train, generated=generated)


def test_strings_of_users_stay_text_in_a_browser(
    run: Run, tmp_path: Path, browser: Browser
) -> None:
    file = report_run(hostile(run), tmp_path / "page.html", title=NASTY)
    assert "<script>window" not in file.read_text()
    page, complaints = opened_page(browser, file, viewport={"width": 360, "height": 700})
    wanted = f"{NASTY}0"
    assert page.locator("h1").text_content() == NASTY
    assert page.locator(".gen h3").first.text_content() == wanted
    assert page.locator("#most-list .values small").first.text_content() == f"label {NASTY}"
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
    assert page.evaluate("location.hash") == ""
    focused = "document.activeElement.getAttribute('href')"
    assert page.evaluate(focused) == f"#train-{row}"
    page.locator("#train-search").fill("nowhere")
    expect(page.locator("#train-place")).to_have_text("nothing found")
    # arrows lead from picture to picture
    page.locator("#most a.open").first.focus()
    page.keyboard.press("ArrowRight")
    place_of_focus = (
        "[...document.querySelectorAll('#most a.open')].indexOf(document.activeElement)"
    )
    assert page.evaluate(place_of_focus) == 1
    page.keyboard.press("ArrowDown")
    assert page.evaluate(place_of_focus) > 2
    assert page.locator("#failed").text_content() == ""
    assert complaints == []


def test_every_order_sorts_as_python_does(made: Path, run: Run, browser: Browser) -> None:
    page, complaints = opened_page(browser, made / "run" / "report.html")
    images = report_columns.Images(run.valuation, report_columns.image_columns(run))
    ids = {"generated": run.generated.ids, "train": run.train.ids}
    shown = {"generated": ".gen h3", "train": "#train-list .id"}
    for side, orders in report_columns.ORDERS.items():
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
    expect(page.locator("noscript p")).to_be_visible()
    for section in ("meaning", "spread", "group-1", "skipped", "how"):
        expect(page.locator(f"#{section}")).to_be_visible()
    for section in ("generated", "most", "least", "every"):
        expect(page.locator(f"#{section}")).to_be_hidden()
        expect(page.locator(f"nav [href='#{section}']")).to_be_hidden()
    expect(page.locator(".numbers dd").first).to_have_text("30")
    total = format_number(run.valuation.values[["class1" in i for i in run.train.ids]].sum())
    row = page.locator("#group-1 tr", has=page.get_by_text("class1", exact=True))
    expect(row.locator("td").nth(1)).to_have_text(total)
    assert complaints == []
    page, complaints = opened_page(browser, file, **phone)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator("noscript p")).to_have_count(0)
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
    record = {"images": 2, "share": 0.125, "level": 0.05, "applied": False}
    p_values = np.linspace(0.01, 0.9, 15)
    scores = run.valuation.contributions.scores.copy()
    silent = int(spread_order(15)[-1])
    scores[silent] = 0
    valuation = replace(
        run.valuation,
        contributions=replace(run.valuation.contributions, scores=scores),
        match_p=p_values,
        info=run.valuation.info | {"unattributed": record},
    )
    file = report_run(replace(run, valuation=valuation), tmp_path / "page.html")
    text = text_of(file)
    assert "12.5 %" in text
    assert "their scores were kept" in text
    page, complaints = opened_page(browser, file)
    first = int((p_values[spread_order(15)[:12]] <= 0.05).sum())
    rest = int((p_values[spread_order(15)[12:]] <= 0.05).sum())
    assert first > 0
    marks = page.locator("#generated-list .warning", has_text="no contributor found: p ")
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
    expect(body).to_contain_text(f"p-value of its match{format_number(p_values[silent])}")
    assert complaints == []
    withheld = replace(
        valuation, info=valuation.info | {"unattributed": record | {"applied": True}}
    )
    text = text_of(report_run(replace(run, valuation=withheld), tmp_path / "page.html"))
    assert "are marked no contributor found and give no score" in text


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
    expect(page.locator("#most-list small", has_text="one of 2 copies")).to_have_count(2)
    expect(page.locator(".gen .cons small", has_text="2 copies")).to_have_count(1)
    body = page.locator("#detail-body")
    for row in range(7):
        copy = valuation.train_ids[row] in ("class0/000.png", "class1/copy.png")
        page.evaluate(f"location.hash = '#train-{row}'")
        expect(body).to_contain_text(f"row {row + 1} of 7")
        about = body.text_content() or ""
        assert ("one of 2 copies" in about) == copy
        assert f"value{format_number(valuation.values[row])}share" in about
        assert body.locator(".cons li").count() == valuation.n_supported[row]
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


def test_a_column_and_a_line_make_a_field_of_every_card(
    run: Run, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, lines = report_columns.image_columns, report_columns.card_lines

    def with_owner(run: Run) -> Any:
        made = columns(run)
        made["train"]["owner"] = [f"<b>{name}" for name in run.train.ids]
        return made

    def with_owner_lines(valuation: Any) -> Any:
        made = lines(valuation)
        return made | {"train": (*made["train"], Line("owner", "owner {}"))}

    monkeypatch.setattr(report_page, "image_columns", with_owner)
    monkeypatch.setattr(report_page, "card_lines", with_owner_lines)
    columns_of_groups = (*report_tables.GROUP_COLUMNS, GroupColumn("half", lambda group, _: "½"))
    monkeypatch.setattr(report_tables, "GROUP_COLUMNS", columns_of_groups)
    page, complaints = opened_page(browser, report_run(run, tmp_path / "page.html"))
    owners = page.locator("#train-list small", has_text="owner <b>")
    expect(owners).to_have_count(20)
    page.locator("#train-next").click()
    expect(owners).to_have_count(10)
    assert page.locator("#group-1 td", has_text="½").count() == 2
    assert complaints == []


def test_the_script_writes_numbers_as_python_does(made: Path, browser: Browser) -> None:
    rng = np.random.default_rng(0)
    numbers = [0.5, 1234.5, 1e-4, 9.99999e-5, 1e9, 123456789.0, 0.00048828125, -2.5, 99999.5]
    numbers += (10.0 ** rng.uniform(-9, 12, 300)).tolist()
    page, _ = opened_page(browser, made / "run" / "report.html")
    texts = page.evaluate("numbers => numbers.map((x) => number(x))", numbers)
    assert texts == [format_number(number) for number in numbers]


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [
        (0.5, 2, "50.00 %"),
        (0.125, 1, "12.5 %"),
        (0.00004, 2, "< 0.01 %"),
        (0.00004, 0, "< 1 %"),
        (0.0, 2, "0.00 %"),
        (1.0, 0, "100 %"),
    ],
)
def test_a_share_above_0_is_never_shown_as_0(share: float, decimals: int, text: str) -> None:
    assert percent(share, decimals) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (-2.5, "-2.500"),
        (0.000123456, "0.0001235"),
        (1.5e-7, "1.50e-07"),
        (12345.678, "12,346"),
        (123456, "123,456"),
        (2e12, "2.00e+12"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert format_number(number) == text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.float32, np.float64])
def test_packed_arrays_come_back(dtype: Any) -> None:
    array: NDArray[Any] = np.random.default_rng(0).uniform(0, 250, (7, 3)).astype(dtype)
    packed = pack_column(array)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    back = planes.reshape(array.itemsize, -1).T.tobytes()
    np.testing.assert_array_equal(np.frombuffer(back, dtype), array.ravel())
    assert len(pack_column(array[:0])["data"]) > 0


def test_json_cannot_leave_its_element() -> None:
    text = script_json([NASTY, "\udce9", "<!--"])
    assert not set("<>&\u2028") & set(text)
    assert text.isascii()
    assert json.loads(text) == [NASTY, "\udce9", "<!--"]
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json(float("nan"))


@pytest.mark.parametrize("m", [1, 2, 3, 12, 200, 1000])
def test_any_number_of_first_rows_spans_the_whole(m: int) -> None:
    order = spread_order(m)
    np.testing.assert_array_equal(np.sort(order), np.arange(m))
    for first in (2, 8, 50):
        if first < m:
            gaps = np.diff(np.sort(np.concatenate([order[:first], [m]])))
            assert gaps.max() <= 4 * m / first


def test_concentration_agrees_with_sorting_by_hand() -> None:
    values = np.random.default_rng(1).pareto(2.0, 1000)
    curve = Concentration(values)
    assert curve.held_by(0.1) == pytest.approx(np.sort(values)[-100:].sum() / values.sum())
    assert curve.held_by(0.0) == 0.0
    assert curve.held_by(1.0) == pytest.approx(1.0)
    points = curve.points()
    np.testing.assert_allclose(points[[0, -1]], [[0, 0], [1, 1]])
    assert (np.diff(points, axis=0) >= 0).all()
    assert Concentration(np.array([1.0, 0.0, 0.0])).n_zero == 2
    assert Concentration(np.zeros(3)).held_by(1.0) == 0.0
    # of few images the top is one of them, and is called what it is
    few = Concentration(np.array([3.0, *[1.0] * 39]))
    assert few.named(0.01) == "top 2.5 %"
    assert few.held_by(0.01) == pytest.approx(3 / 42)
    assert [curve.named(top) for top in (0.01, 0.1, 0.5)] == ["top 1 %", "top 10 %", "top 50 %"]
    assert Concentration(np.array([2.0])).named(0.5) == "top 100 %"


@pytest.mark.parametrize("power", [0, 1, 6, 40])
def test_a_histogram_counts_every_positive_value_once(power: int) -> None:
    values = np.random.default_rng(2).uniform(0.1, 1, 500) ** power
    values[:50] = 0
    counted = histogram(values)
    assert counted is not None
    assert counted.counts.sum() == 450
    assert counted.log_values == (power > 2)
    assert histogram(np.zeros(4)) is None


def test_command_writes_the_report_and_says_where(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["gmvaluator", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    sets = ["--train", str(home / "train"), "--generated", str(home / "generated")]
    page = home / "page.html"
    status, out, _ = called("report", str(home / "run"), *sets, "--out", str(page), "--json")
    found = json.loads(out)
    assert (status, found["report"], found["bytes"]) == (0, str(page), page.stat().st_size)
    status, _, err = called("report", str(home / "run"), *sets, "--metadata", "licence")
    assert (status, "no column 'licence'; choose one of: label" in err) == (2, True)
    before = sorted(home.rglob("*"))
    status, _, err = called("report", str(home / "run"), "--figures", "--metadata", "nope")
    assert (status, "no column 'nope'" in err) == (2, True)
    status, _, err = called("report", str(home / "run"), "--figures", "--pictures", "inf")
    assert (status, "megabytes=inf" in err) == (2, True)
    assert sorted(home.rglob("*")) == before
    status, _, err = called("report", str(home / "run"), "--train", str(home / "gone"))
    assert (status, "gone" in err) == (2, True)
    record = json.loads((home / "run" / "run.json").read_text())
    (home / "run" / "run.json").write_text(json.dumps(record | {"format": 9}))
    status, _, err = called("report", str(home / "run"))
    assert (status, "has format 9 and this version reads" in err) == (4, True)
