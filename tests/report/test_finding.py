"""Search by picture: the picture itself by its content, others by look at 8×8."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import READY, new_page, wait_until
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from gmvaluator.report import report_run
from gmvaluator.runs.folder import Run
from image_makers import encode, random_images
from page_checks import opened_page

PICKED = "#find-file"


@pytest.fixture(scope="module")
def page(made: Path, browser: Browser) -> Iterator[Page]:
    tab, complaints = new_page(browser)
    tab.goto((made / "run" / "report.html").absolute().as_uri())
    tab.locator(READY).wait_for(state="attached")
    yield tab
    assert complaints == []
    tab.close()


def cards(page: Page) -> list[str]:
    items = page.locator("#find-list li")
    return [text.replace("\u00a0", " ") for text in items.all_text_contents()]


def test_content_keys_are_those_of_python(page: Page) -> None:
    for n in (0, 1, 127, 128, 129, 1000):
        content = bytes(i * i % 251 for i in range(n))
        key = page.evaluate("bytes => Array.from(contentKey(Uint8Array.from(bytes)))", [*content])
        assert bytes(key) == hashlib.blake2b(content, digest_size=16).digest(), n


def test_a_picture_finds_itself_and_nothing_else(page: Page, made: Path, run: Run) -> None:
    for side, name in (("train", run.train.ids[3]), ("generated", run.generated.ids[2])):
        page.locator(PICKED).set_input_files(made / side / name)
        status = page.locator("#find-said")
        expect(status).to_have_text(
            "The picture itself is in the run. No other picture looks like it at 8×8."
        )
        kind = {"train": "training", "generated": "generated"}[side]
        assert cards(page) == [f"same file{kind}{name}"]
    # the card leads to the image
    page.locator("#find-list a.open").click()
    expect(page.locator("#detail-title")).to_have_text(run.generated.ids[2])
    page.keyboard.press("Escape")


def test_another_file_of_a_picture_is_found_by_its_look(
    page: Page, made: Path, run: Run, tmp_path: Path
) -> None:
    name = run.train.ids[5]
    with Image.open(made / "train" / name) as picture:
        larger = picture.resize((200, 200), Image.Resampling.NEAREST)
    (tmp_path / "larger.jpg").write_bytes(encode(larger, "JPEG", quality=90))
    page.locator(PICKED).set_input_files(tmp_path / "larger.jpg")
    status = page.locator("#find-said")
    expect(status).to_have_text(
        "The file itself is not in the run. One other picture looks like it at 8×8."
    )
    (card,) = cards(page)
    assert card.endswith(f"% aparttraining{name}")
    assert float(card.split(" ")[0]) < 3
    (tmp_path / "new.png").write_bytes(encode(random_images(1, seed=99)[0]))
    page.locator(PICKED).set_input_files(tmp_path / "new.png")
    expect(status).to_have_text(
        "The file itself is not in the run. No other picture looks like it at 8×8."
    )
    assert cards(page) == []


def test_a_picture_can_be_dropped_and_pasted_and_a_text_is_no_picture(
    page: Page, made: Path, run: Run, tmp_path: Path
) -> None:
    content = [*(made / "train" / run.train.ids[7]).read_bytes()]
    for event, holder, field in (
        ("DragEvent", "document.getElementById('find-drop')", "dataTransfer"),
        ("ClipboardEvent", "window", "clipboardData"),
    ):
        kind = "drop" if field == "dataTransfer" else "paste"
        page.evaluate(
            f"""(content) => {{
                const {field} = new DataTransfer();
                {field}.items.add(new File([Uint8Array.from(content)], "a.png"));
                {holder}.dispatchEvent(new {event}("{kind}", {{ {field}, bubbles: true }}));
            }}""",
            content,
        )
        expect(page.locator("#find-said")).to_contain_text("The picture itself is in the run.")
        expect(page.locator("#find-list li")).to_have_text([f"same filetraining{run.train.ids[7]}"])
        page.locator("#find-list").evaluate("list => list.replaceChildren()")
    (tmp_path / "text.png").write_text("no picture")
    page.locator(PICKED).set_input_files(tmp_path / "text.png")
    expect(page.locator("#find-said")).to_have_text(
        "text.png is no picture that this browser can read. Choose a PNG or JPEG."
    )


def test_images_without_a_picture_in_the_file_are_found_by_content_alone(
    run: Run, made: Path, tmp_path: Path, browser: Browser
) -> None:
    page, complaints = opened_page(browser, report_run(run, tmp_path / "page.html", megabytes=0))
    page.locator(PICKED).set_input_files(made / "train" / run.train.ids[3])
    expect(page.locator("#find-said")).to_have_text(
        "The picture itself is in the run. No other picture looks like it at 8×8. Looks could be "
        "compared with the 0 of 45 images whose pictures are in this file."
    )
    wait_until(page, "() => document.querySelectorAll('#find-list li').length === 1")
    assert complaints == []
    page.close()


def test_looks_are_compared_as_pillow_shrinks(page: Page) -> None:
    across = np.linspace(0, 255, 64)
    pixels = np.stack([np.tile(across, (48, 1)), np.tile(across[::-1], (48, 1))], axis=-1)
    pixels = np.concatenate([pixels, np.full((48, 64, 1), 90)], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    cells = page.evaluate(
        "async (bytes) => Array.from(await signatureOf(new Blob([Uint8Array.from(bytes)])))",
        [*stream.getvalue()],
    )
    wanted = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BOX))
    assert np.abs(np.array(cells).reshape(8, 8, 3) - wanted.astype(float)).max() <= 8
