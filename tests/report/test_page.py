"""The page: complete, self-contained, never a wrong picture."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from gmvaluator import ImageSet, InputError, RunError
from gmvaluator.report import page as report_page
from gmvaluator.report import report_run
from gmvaluator.report.html import percent
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.record import Inputs
from image_makers import encode, random_images
from page_checks import Tree, drawn, text_of


def test_the_page_shows_the_run(made: Path, run: Run, browser: Browser) -> None:
    text = drawn(browser, made / "run" / "report.html").words
    valuation = run.valuation
    best = int(np.argmax(valuation.values))
    first, quality = valuation.contributors(0), float(valuation.quality[0])
    info = valuation.record.as_json()
    settings = info["settings"]
    for part in (
        *("How much did each of 30 training images contribute to 15 generated images?",),
        *(valuation.train_ids[best], format_number(valuation.values[best]), "class1"),
        *(valuation.generated_ids[0], first.ids[0], first.ids[9]),
        *(format_number(float(first.distances[0])), percent(first.scores[0] / quality, 1)),
        *("bad.png", "truncated", "Similarity is not cause", settings["encoder"], run.seal),
        *(info["versions"]["numpy"], info["inputs"]["train"]["fingerprint"]),
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


def opened(home: Path) -> Run:
    return open_run(home / "run", train=home / "train", generated=home / "generated")


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
    assert "1 of 30 training images are no longer listed in the set" in text
    labels = [a.get("aria-label", "") for a in drawn(browser, page).named("span")]
    for row, state in zip(rows, ("changed", "missing", "unreadable"), strict=True):
        assert f"Training image {run.train.ids[row]}, picture {state}" in labels
    shown = ImageSet.open([np.asarray(Image.open(io.BytesIO(new)))]).png(0, 128)
    assert base64.b64encode(shown).decode() not in page.read_text()
    # a whole set that is gone: numbers stay
    shutil.rmtree(home / "train")
    valuation = replace(found.valuation, record=replace(found.valuation.record, inputs=Inputs()))
    bare = replace(found, valuation=valuation, train=valuation.open_images("train"))
    text = drawn(browser, report_run(bare, home / "bare.html")).words
    assert "The training images of the run were in memory; pass them" in text
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


def test_command_writes_the_report_and_says_where(
    home: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    sets = ["--train-images", str(home / "train")]
    sets += ["--generated-images", str(home / "generated")]
    page = home / "page.html"
    status, out, _ = call("report", str(home / "run"), *sets, "--out", str(page), "--json")
    found = json.loads(out)
    assert (status, found["report"], found["bytes"]) == (0, str(page), page.stat().st_size)
    status, _, err = call("report", str(home / "run"), *sets, "--metadata", "licence")
    assert (status, "no column 'licence'; choose one of: label" in err) == (2, True)
    before = sorted(home.rglob("*"))
    status, _, err = call("report", str(home / "run"), "--figures", "--metadata", "nope")
    assert (status, "no column 'nope'" in err) == (2, True)
    status, _, err = call("report", str(home / "run"), "--figures", "--pictures", "inf")
    assert (status, "--pictures inf" in err) == (2, True)
    assert sorted(home.rglob("*")) == before
    status, _, err = call("report", str(home / "run"), "--train-images", str(home / "gone"))
    assert (status, "gone" in err) == (2, True)
    record = json.loads((home / "run" / "run.json").read_text())
    (home / "run" / "run.json").write_text(json.dumps(record | {"format": 9}))
    status, _, err = call("report", str(home / "run"))
    assert (status, "has format 9 and this version reads" in err) == (4, True)
