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
from browser import Browser, running_browser
from numpy.typing import NDArray
from PIL import Image

from gmvaluator import GMValuator, ImageSet, InputError, RunError, Skip, cli
from gmvaluator.progress import as_progress
from gmvaluator.report import page as report_page
from gmvaluator.report import pictures as report_pictures
from gmvaluator.report import tables as report_tables
from gmvaluator.report import write_report
from gmvaluator.report.groups import group_table
from gmvaluator.report.packing import pack_array, script_json
from gmvaluator.report.pictures import STATES, Side, read_pictures, spread_order
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.record import Inputs, RecordedSettings
from image_makers import encode, image_folder, random_images
from run_makers import made_test

READY = "document.documentElement?.dataset.ready === 'yes'"
NASTY = "<script>window.hacked=1</script></style>\"'&{{}}\u2028\u202e" + "x" * 90
VOID = {"meta", "link", "img", "br", "hr", "input"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


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
    write_report(open_run(folder / "run"))
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


def text_of(page: Path) -> str:
    return re.sub(r"\s+", " ", "".join(Tree(page.read_text()).text))


def test_the_page_shows_the_run(made: Path, run: Run) -> None:
    text = text_of(made / "run" / "report.html")
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
    assert policy.startswith("default-src 'none'; img-src data: blob:")
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_links_and_labels_lead_somewhere(made: Path) -> None:
    tree = Tree((made / "run" / "report.html").read_text())
    ids = [attributes["id"] for _, attributes in tree.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for a in tree.named("a")}
    images = {link for link in links if re.fullmatch(r"(train|generated)-\d+", link)}
    assert links - images <= set(ids)
    assert images
    assert {a["aria-labelledby"] for _, a in tree.tags if "aria-labelledby" in a} <= set(ids)
    assert all(a["alt"] for a in tree.named("img"))
    assert tree.named("html") == [{"lang": "en"}]


def test_sums_by_a_column_are_those_of_the_values(run: Run, home: Path) -> None:
    values = run.valuation.values
    table = group_table(values, "label", run.train.column("label"))
    assert [group.name for group in table.groups] == sorted(
        ("class0", "class1"), key=lambda name: -values[[name in i for i in run.train.ids]].sum()
    )
    assert sum(group.total for group in table.groups) == pytest.approx(values.sum())
    assert [group.count for group in table.groups] == [15, 15]
    ids = run.train.ids
    owners = ["path,owner", *(f"{name},<i>{at % 3}" for at, name in enumerate(ids))]
    (home / "train" / "list.csv").write_text("\n".join(owners))
    found = open_run(home / "run", train=home / "train" / "list.csv")
    page = write_report(found, home / "owners.html", metadata=["owner"])
    shown = re.findall(
        r"<th scope=\"row\"><bdi>&lt;i&gt;(\d)</bdi></th><td>10</td><td>([\d.]+)", page.read_text()
    )
    wanted = {str(at): format_number(values[at::3].sum()) for at in range(3)}
    assert dict(shown) == wanted
    with pytest.raises(InputError, match="no column 'licence'"):
        write_report(found, home / "none.html", metadata=["licence"])
    assert not (home / "none.html").exists()


def test_images_without_a_cell_have_groups_of_their_own(run: Run, home: Path) -> None:
    values = run.valuation.values
    ids = run.train.ids
    owners = ["none", "(no longer listed)", ""]
    rows = ["path,owner", *(f"{name},{owners[at % 3]}" for at, name in enumerate(ids[:21]))]
    (home / "train" / "list.csv").write_text("\n".join(rows))
    train = open_run(home / "run", train=home / "train" / "list.csv").train
    cells = [None if cell in (None, "") else cell for cell in train.column("owner")]
    table = group_table(values, "owner", cells, train.gone("owner"))
    found = {(group.name, group.real): (group.count, group.total) for group in table.groups}
    wanted = {
        ("none", True): values[:21:3],
        ("(no longer listed)", True): values[1:21:3],
        ("(no entry)", False): values[2:21:3],
        ("(no longer listed)", False): values[21:],
    }
    assert found.keys() == wanted.keys()
    for name, of in wanted.items():
        assert found[name] == pytest.approx((len(of), of.sum()))
    assert (table.n, table.n_gone) == (4, 9)
    # labels are the run's own: no image has lost its label
    assert not train.gone("label").any()
    moved = open_run(home / "run", train=home / "train" / "list.csv")
    page = write_report(moved, home / "page.html", metadata=["owner"]).read_text()
    assert page.count("9 of 30 training images are no longer listed in the set. What") == 1
    assert page.count("<em>(no longer listed)</em></th><td>9</td>") == 1
    assert page.count("<bdi>(no longer listed)</bdi></th><td>7</td>") == 1


def test_values_below_0_have_totals_and_no_shares(run: Run, tmp_path: Path) -> None:
    values = np.array([3.0, -1.0, -1.0, 0.5])
    table = group_table(values, "owner", ["a", "b", "b", "a"])
    assert [(g.name, g.total, g.share) for g in table.groups] == [
        ("a", 3.5, None),
        ("b", -2.0, None),
    ]
    assert table.n_below == 2
    found = run.valuation.contributions
    signed = replace(found, scores=found.scores - found.scores.mean())
    valuation = replace(run.valuation, contributions=signed)
    text = text_of(write_report(replace(run, valuation=valuation), tmp_path / "page.html"))
    below = int((valuation.values < 0).sum())
    assert below > 0
    assert f"{below} values are below 0, so there are no shares of a whole" in text
    assert "share of value" not in text
    assert "How value is spread" not in text


def test_images_that_gave_no_score_list_the_nearest(run: Run, tmp_path: Path) -> None:
    found = run.valuation.contributions
    scores = found.scores.copy()
    scores[0] = 0
    valuation = replace(run.valuation, contributions=replace(found, scores=scores))
    page = write_report(replace(run, valuation=valuation), tmp_path / "page.html")
    assert text_of(page).count("gave no score: nearest training images") == 1
    lists = [a.get("aria-label") for a in Tree(page.read_text()).named("ol")]
    assert lists.count("Nearest training images") == 1
    assert lists.count("Contributors") == 11
    assert "not a contributor of any" not in page.read_text()


def test_images_that_moved_or_changed_are_marked_and_never_shown(home: Path) -> None:
    run = opened(home)
    rows = np.argsort(run.valuation.ranks)[:3]
    files = [home / "train" / run.train.ids[row] for row in rows]
    new = encode(random_images(1, 8, seed=77)[0])
    files[0].write_bytes(new)
    files[1].unlink()
    found = opened(home)
    files[2].unlink()
    page = write_report(found, home / "page.html")
    text = text_of(page)
    assert "1 training picture is not shown: the content is no longer what was valued" in text
    assert "1 training picture is not shown: no longer where the run found them" in text
    assert "1 training picture is not shown: the image cannot be read any more" in text
    assert "1 of 30 images are no longer listed in the set" in text
    labels = [a.get("aria-label", "") for a in Tree(page.read_text()).named("span")]
    for row, state in zip(rows, ("changed", "missing", "unreadable"), strict=True):
        assert f"Training image {run.train.ids[row]}, picture {state}" in labels
    shown = ImageSet.open([np.asarray(Image.open(io.BytesIO(new)))]).png(0, 128)
    assert base64.b64encode(shown).decode() not in page.read_text()
    # a whole set that is gone: numbers stay
    shutil.rmtree(home / "train")
    valuation = replace(found.valuation, record=replace(found.valuation.record, inputs=Inputs()))
    bare = replace(found, valuation=valuation, train=valuation.open_images("train"))
    text = text_of(write_report(bare, home / "bare.html"))
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
    text = text_of(write_report(older, tmp_path / "page.html"))
    assert "did not record what its images hold" in text


def test_pictures_beyond_the_size_asked_for_are_marked(run: Run, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "page.html", megabytes=0)
    assert "data:image" not in page.read_text()
    assert "Not all pictures fit into this file" in text_of(page)
    for megabytes in (float("nan"), float("inf"), -1.0, 1e305):
        with pytest.raises(InputError, match="wanted 0 or more, and not infinite"):
            write_report(run, tmp_path / "page.html", megabytes=megabytes)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_report(run, tmp_path / "file" / "page.html")


def test_a_folder_is_refused_before_anything_is_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report_page, "read_pictures", None)
    for folder in (".", tmp_path):
        with pytest.raises(InputError, match="is a folder; wanted the file to write, such as"):
            write_report(run, folder)
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
    assert found.found == {}
    assert sorted(found.troubles.values()) == ["changed"] * 4 + ["missing"]
    assert found.full
    codes = found.states("train", 30)
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
        record=replace(
            run.valuation.record, settings=RecordedSettings({NASTY: NASTY, "odd": "\udce9"})
        ),
    )
    return replace(run, valuation=valuation, train=train, generated=generated)


def test_strings_of_users_stay_text_in_a_browser(
    run: Run, tmp_path: Path, browser: Browser
) -> None:
    page = write_report(hostile(run), tmp_path / "page.html", title=NASTY)
    assert "<script>window" not in page.read_text()
    tab = browser.page()
    tab.resize(360, 700)
    tab.open(page, READY)
    assert tab.ask("document.querySelector('h1').textContent") == NASTY
    wanted = f"{NASTY}0"
    assert tab.ask("document.querySelector('.gen h3').textContent") == wanted
    tab.ask("location.hash = '#train-0'")
    tab.wait("document.getElementById('detail').open")
    assert tab.ask("document.getElementById('detail-title').textContent") == wanted
    assert tab.ask("document.documentElement.scrollWidth") <= 360
    assert tab.ask("document.getElementById('detail').scrollWidth") <= 360
    assert tab.ask("window.hacked") is None
    assert tab.complaints == []


def test_a_reader_pages_searches_and_opens(
    made: Path, run: Run, tmp_path: Path, browser: Browser
) -> None:
    tab = browser.page()
    tab.resize(1200, 900)
    tab.open(made / "run" / "report.html", READY)
    cards = "document.querySelectorAll('.gen h3').length"
    html_of = (
        "document.getElementById('gallery').innerHTML"
        ".replace(/ src=\"[^\"]*\"/g, '').replace(/\\s+/g, ' ').replace(/> </g, '><').trim()"
    )
    by_python = tab.ask(html_of)
    choose = (
        "(id, value) => { const e = document.getElementById(id); e.value = value;"
        "e.dispatchEvent(new Event(e.tagName === 'SELECT' ? 'change' : 'input')); }"
    )
    place = "document.getElementById('gallery-place').textContent"
    first = "document.querySelector('.gen h3').textContent"
    tab.ask(f"({choose})('gallery-order', 'set')")
    tab.wait(f"{place} === '1–12 of 15' && {first} === {json.dumps(run.generated.ids[0])}")
    tab.ask("document.getElementById('gallery-next').click()")
    tab.wait(f"{place} === '13–15 of 15' && {cards} === 3")
    # what the script draws is what was there before it
    tab.ask(f"({choose})('gallery-order', 'spread')")
    tab.wait(f"{cards} === 12")
    by_script = tab.ask(html_of)
    order = r' (alt|class|href|aria-label|role|style)="[^"]*"'
    assert re.sub(order, "", by_script) == re.sub(order, "", by_python)
    assert sorted(re.findall(order, by_script)) == sorted(re.findall(order, by_python))
    best = np.argsort(-run.valuation.quality, kind="stable")
    tab.ask(f"({choose})('gallery-order', 'best')")
    tab.wait(f"{first} === {json.dumps(run.generated.ids[best[0]])}")
    # a training image by its id
    row = int(np.argmax(run.valuation.values))
    tab.ask(f"({choose})('train-search', {json.dumps(run.train.ids[row].upper())})")
    tab.wait("document.getElementById('train-place').textContent === '1–1 of 1'")
    tab.ask("document.querySelector('#train-list a.open').focus()")
    tab.press("Enter")
    tab.wait("document.getElementById('detail').open")
    body = "document.getElementById('detail-body')"
    shown = tab.ask(f"[...{body}.querySelectorAll('.cons .id')].map((e) => e.textContent)")
    found = run.valuation.contributions
    scores = np.where(found.rows == row, found.scores, 0).sum(axis=1)
    wanted = [run.generated.ids[j] for j in np.argsort(-scores, kind="stable") if scores[j] > 0]
    assert len(wanted) == run.valuation.n_supported[row]
    assert shown == wanted
    about = tab.ask(f"{body}.textContent")
    assert "rank1 of 30" in about
    assert format_number(run.valuation.values[row]) in about
    tab.press("Escape")
    tab.wait("!document.getElementById('detail').open && location.hash === ''")
    assert tab.ask("document.activeElement.getAttribute('href')") == f"#train-{row}"
    tab.ask(f"({choose})('train-search', 'nowhere')")
    tab.wait("document.getElementById('train-place').textContent === 'nothing found'")
    # arrows lead from picture to picture
    tab.ask("document.querySelectorAll('#most a.open')[0].focus()")
    tab.press("ArrowRight")
    focused = "[...document.querySelectorAll('#most a.open')].indexOf(document.activeElement)"
    assert tab.ask(focused) == 1
    tab.press("ArrowDown")
    assert tab.ask(focused) > 2
    assert tab.ask("document.getElementById('failed').textContent") == ""
    assert tab.complaints == []


def test_light_dark_phone_print_and_no_script(made: Path, browser: Browser) -> None:
    tab = browser.page()
    tab.prefer("dark")
    tab.resize(360, 800)
    tab.script(False)
    page = made / "run" / "report.html"
    tab.open(page)
    assert tab.ask("document.documentElement.scrollWidth") <= 360
    loaded = "[...document.images].every((image) => image.complete && image.naturalWidth === 8)"
    assert tab.ask(loaded)
    assert tab.ask("document.images.length") > 100
    hidden = "[...document.querySelectorAll('.scripted')].every((e) => !e.checkVisibility())"
    assert tab.ask(hidden)
    background = "getComputedStyle(document.body).backgroundColor"
    assert tab.ask(background) == "rgb(15, 18, 23)"
    tab.prefer("light")
    assert tab.ask(background) == "rgb(246, 247, 249)"
    tab.script(True)
    tab.open(page, READY)
    theme = "document.getElementById('theme')"
    for wanted in ("rgb(246, 247, 249)", "rgb(15, 18, 23)"):
        tab.ask(f"{theme}.click()")
        assert tab.ask(background) == wanted
    tab.prefer("light", media="print")
    assert not tab.ask(f"{theme}.checkVisibility()")
    assert tab.complaints == []


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
    page = write_report(replace(run, valuation=valuation), tmp_path / "page.html")
    text = text_of(page)
    assert text.count("no contributor found: p ") == int(
        (p_values[spread_order(15)[:12]] <= 0.05).sum()
    )
    assert "12.5 %" in text
    assert "their scores were kept" in text
    tab = browser.page()
    tab.open(page, READY)
    tab.ask("document.getElementById('gallery-next').click()")
    tab.wait("document.querySelectorAll('.gen').length === 3")
    rest = int((p_values[spread_order(15)[12:]] <= 0.05).sum())
    assert tab.ask("document.querySelectorAll('.stranger').length") == rest
    nearest = "document.querySelectorAll('#gallery [aria-label=\"Nearest training images\"]')"
    assert tab.ask(f"{nearest}.length") == 1
    tab.ask(f"location.hash = '#generated-{silent}'")
    tab.wait(
        "document.getElementById('detail-body').textContent"
        ".includes('12 of its 12 nearest training images; it gave no score, best first')"
    )
    assert tab.complaints == []
    record = replace(valuation.record, unattributed=replace(test, applied=True))
    applied = replace(valuation, record=record)
    text = text_of(write_report(replace(run, valuation=applied), tmp_path / "page.html"))
    assert "are marked no contributor found and give nothing" in text


def test_copies_that_count_once_are_told(tmp_path: Path, browser: Browser) -> None:
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
    page = write_report(open_run(tmp_path / "run"))
    text = text_of(page)
    assert "1 cluster of copies. A cluster counts once" in text
    assert "one of 2 copies" in text
    tab = browser.page()
    tab.open(page, READY)
    body = "document.getElementById('detail-body')"
    for row in range(7):
        copy = valuation.train_ids[row] in ("class0/000.png", "class1/copy.png")
        tab.ask(f"location.hash = '#train-{row}'")
        tab.wait(f"{body}.textContent.includes('row {row + 1} of 7')")
        about = tab.ask(f"{body}.textContent")
        assert ("one of 2 copies" in about) == copy
        assert (f"value{format_number(valuation.values[row])}share" in about) is True
        shown = tab.ask(f"{body}.querySelectorAll('.cons li').length")
        assert shown == valuation.n_supported[row]
    assert tab.complaints == []


def test_a_large_run_holds_a_part_and_says_so(
    run: Run, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_tables, "MOST_PAIRS", 80)
    page = write_report(run, tmp_path / "page.html")
    tab = browser.page()
    tab.open(page, READY)
    row = int(np.argmax(run.valuation.n_supported))
    tab.ask(f"location.hash = '#train-{row}'")
    tab.wait("document.getElementById('detail').open")
    assert "of these are in this file, all in contributions.parquet" in tab.ask(
        "document.getElementById('detail-body').textContent"
    )
    last = spread_order(15)[-1]
    tab.ask(f"location.hash = '#generated-{last}'")
    tab.wait("document.getElementById('detail-body').textContent.includes('0 of its 12')")
    assert tab.complaints == []


def test_the_script_writes_numbers_as_python_does(made: Path, browser: Browser) -> None:
    script = (Path(cli.__file__).parents[1] / "report" / "report.js").read_text()
    source = script[script.index("const whole") : script.index("const share")]
    rng = np.random.default_rng(0)
    numbers = [0.5, 1234.5, 1e-4, 9.99999e-5, 1e9, 123456789.0, 0.00048828125, -2.5, 99999.5]
    numbers += (10.0 ** rng.uniform(-9, 12, 300)).tolist()
    tab = browser.page()
    found = tab.ask(f"(() => {{ {source}; return {json.dumps(numbers)}.map(number); }})()")
    assert found == [format_number(number) for number in numbers]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.float32, np.float64])
def test_packed_arrays_come_back(dtype: Any) -> None:
    array: NDArray[Any] = np.random.default_rng(0).uniform(0, 250, (7, 3)).astype(dtype)
    packed = pack_array(array)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    back = planes.reshape(array.itemsize, -1).T.tobytes()
    np.testing.assert_array_equal(np.frombuffer(back, dtype), array.ravel())
    assert len(pack_array(array[:0])["data"]) > 0


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


def test_command_writes_the_report_and_says_where(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["gmvaluator", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    sets = ["--train-images", str(home / "train"), "--generated-images", str(home / "generated")]
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
    status, _, err = called("report", str(home / "run"), "--train-images", str(home / "gone"))
    assert (status, "gone" in err) == (2, True)
    record = json.loads((home / "run" / "run.json").read_text())
    (home / "run" / "run.json").write_text(json.dumps(record | {"format": 9}))
    status, _, err = called("report", str(home / "run"))
    assert (status, "has format 9 and this version reads" in err) == (4, True)
