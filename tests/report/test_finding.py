"""Search by picture: the picture itself by its content, others by look at 8×8."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import READY, new_page, wait_until
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Page, expect

from gmvaluator import GMValuator, ImageSet
from gmvaluator.report import report_run
from gmvaluator.report.lookalikes import CELLS, COLOUR_STEP, STEP, signature
from gmvaluator.report.pictures import THUMBNAIL_SIDE
from gmvaluator.runs.folder import Run, open_run
from image_makers import encode, random_images
from page_checks import opened_page

PICKED = "#find-file"
# pictures that come with matplotlib
SAMPLES = Path(get_data_path()) / "sample_data"
Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


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


def browser_signature(page: Page, content: bytes) -> NDArray[np.int64]:
    levels = page.evaluate(
        "async (content) => Array.from(await signatureOf(new Blob([bytesOf(content)])))",
        base64.b64encode(content).decode(),
    )
    return np.array(levels)


def python_signature(content: bytes, tmp_path: Path) -> NDArray[np.int64]:
    file = tmp_path / "one.png"
    file.write_bytes(content)
    thumbnail = ImageSet.open(file).thumbnail(0, THUMBNAIL_SIDE)
    assert thumbnail is not None
    return signature(thumbnail.pixels).astype(np.int64)


def photograph() -> Image.Image:
    """512 × 600 pixels."""
    with Image.open(SAMPLES / "grace_hopper.jpg") as picture:
        return picture.convert("RGB")


def pictures(digits: Digits) -> dict[str, bytes]:
    """Files of photographs, drawings and digits, in many sizes."""
    whole = photograph()
    across = np.linspace(0, 255, 64)
    ramps = np.stack([np.tile(across, (48, 1)), np.tile(across[::-1], (48, 1))], axis=-1)
    ramps = np.concatenate([ramps, np.full((48, 64, 1), 90)], axis=-1).astype(np.uint8)
    part = whole.crop((150, 100, 250, 165))
    turned, dark = Image.Exif(), PngInfo()
    turned[0x0112] = 6
    dark.add(b"gAMA", (180_000).to_bytes(4, "big"))
    files = {
        "photograph": encode(whole, "JPEG", quality=90),
        "larger than the page reads": encode(whole.resize((1300, 1500)), "JPEG", quality=90),
        "part": encode(part),
        "turned on its side": encode(part, "JPEG", exif=turned),
        "of another gamma": encode(part, pnginfo=dark),
        "narrow": encode(whole.crop((200, 0, 205, 120))),
        "small": encode(whole.resize((5, 6))),
        "ramps": encode(ramps),
        "one pixel": encode(np.full((1, 1, 3), 254, np.uint8)),
        "white": encode(np.full((9, 13), 255, np.uint8)),
        "odd": encode(random_images(1, 27)[0]),
    }
    files |= {f"digit {i}": encode(digit) for i, digit in enumerate(digits[0][:5])}
    files["transparent"] = (SAMPLES / "Minduka_Present_Blue_Pack.png").read_bytes()
    return files


def test_the_browser_makes_the_signatures_of_python(
    page: Page, digits: Digits, tmp_path: Path
) -> None:
    for name, content in pictures(digits).items():
        shown, wanted = browser_signature(page, content), python_signature(content, tmp_path)
        assert len(wanted) == CELLS
        apart = np.abs(shown - wanted)
        # pictures that the page shrinks to thumbnails are smoothed in doing so
        large = name in ("photograph", "larger than the page reads", "transparent")
        assert apart.max() <= (1 if large else 0), name


def test_a_signature_is_of_the_means_of_areas() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 40, 3), np.uint8)
    cells = pixels.astype(float).reshape(8, 3, 8, 5, 3).mean(axis=(1, 3))
    levels = signature(pixels)
    np.testing.assert_array_equal(levels[:64], np.rint(cells.mean(axis=2).ravel() / STEP))
    coarse = cells.reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    red_blue = (coarse[..., 0] - coarse[..., 2]) / 2 + 128
    np.testing.assert_array_equal(levels[64:80], np.rint(red_blue.ravel() / COLOUR_STEP))
    # each pixel drawn as 3 × 2 is the same picture
    np.testing.assert_array_equal(signature(pixels.repeat(3, 0).repeat(2, 1)), levels)
    grey = rng.integers(0, 256, (7, 9), np.uint8)
    np.testing.assert_array_equal(signature(grey), signature(np.stack([grey] * 3, axis=-1)))


def test_a_difference_is_that_of_colours(page: Page) -> None:
    pairs = np.random.default_rng(1).integers(40, 200, (20, 2, 4, 4, 3)).astype(np.uint8)
    for pair in pairs:
        # cells of brightness as large as those of colour: nothing is lost but rounding
        first, second = (picture.repeat(2, 0).repeat(2, 1) for picture in pair)
        root = np.sqrt(((first.astype(float) - second) ** 2).mean()) / 255
        shown = page.evaluate(
            "([first, second]) => difference(first, 0, second)",
            [signature(picture).tolist() for picture in (first, second)],
        )
        assert shown == pytest.approx(root, abs=0.01)


@pytest.fixture(scope="module")
def photographs(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 parts of a photograph and 20 digits in `train`, and a `run` of them."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "train").mkdir()
    whole = photograph()
    for i in range(40):
        left, top = 45 * (i % 8) + 20, 80 * (i // 8) + 20
        part = whole.crop((left, top, left + 150, top + 110))
        (folder / "train" / f"part{i:02d}.png").write_bytes(encode(part))
    for i, digit in enumerate(digits[0][:20]):
        (folder / "train" / f"digit{i:02d}.png").write_bytes(encode(digit))
    valuator = GMValuator(encoder="pixels@8", rerank="none", quality="none", k=5, cache=False)
    valuator.fit(folder / "train").value(folder / "train").save(folder / "run")
    report_run(open_run(folder / "run"), folder / "page.html")
    return folder


def test_a_resized_jpeg_of_a_picture_finds_the_picture_first(
    photographs: Path, tmp_path: Path, browser: Browser
) -> None:
    page, complaints = opened_page(browser, photographs / "page.html")
    status = page.locator("#find-said")
    for name in ("part03.png", "part21.png", "part38.png", "digit04.png", "digit17.png"):
        with Image.open(photographs / "train" / name) as picture:
            copy = picture.copy()
        larger = copy.resize((2 * copy.width, 2 * copy.height))
        for file, content, most in (
            # other bytes, the same pixels; only digits are no larger than thumbnails
            ("same.png", encode(copy, compress_level=1), 0 if copy.width == 28 else 1),
            ("larger.jpg", encode(larger, "JPEG", quality=80), 2),
        ):
            (tmp_path / file).write_bytes(content)
            page.locator("#find-list").evaluate("list => list.replaceChildren()")
            page.locator(PICKED).set_input_files(tmp_path / file)
            expect(status).to_contain_text("The file itself is not in the run.")
            expect(status).to_contain_text("at 8×8")
            # once as a training image, once as a generated one
            first = cards(page)[:2]
            assert {card.partition("% apart")[2] for card in first} == {
                f"training{name}",
                f"generated{name}",
            }, name
            assert max(float(card.split(" ")[0]) for card in first) <= most, (name, file)
    assert complaints == []
    page.close()
