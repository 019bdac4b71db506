"""The page: well-formed, self-contained, escaped, small, and really shown by a browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gmvaluator.errors import InputError, RunError
from gmvaluator.report import (
    ContributorCard,
    GeneratedCard,
    PageData,
    SkippedRow,
    ValueCard,
    write_page,
)
from gmvaluator.report.page import Concentration, format_number, render_page

NASTY = "<script>alert(1)</script>\"'&}</style>"
VOID = {"meta", "link", "img", "br", "hr", "input"}


def png(shade: int | tuple[int, int, int], side: int = 28) -> bytes:
    target = io.BytesIO()
    mode = "L" if isinstance(shade, int) else "RGB"
    Image.new(mode, (side, side), shade).save(target, "PNG")
    return target.getvalue()


def digit_png(rng: np.random.Generator) -> bytes:
    """About as many bytes as a 28 × 28 digit: a fifth of the pixels are not black."""
    pixels: NDArray[np.uint8] = rng.integers(0, 256, (28, 28), dtype=np.uint8)
    pixels[:, :7] = pixels[:, 20:] = 0
    pixels[:5] = pixels[22:] = 0
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", optimize=True)
    return target.getvalue()


RED, BLUE = png((254, 1, 2)), png((3, 4, 253), side=200)
PAGE = PageData(
    title="Valuation of 3 images",
    asked="How much did 3 training images contribute to 1 generated image?",
    generated=(
        GeneratedCard(
            "g/0.png",
            RED,
            0.8,
            (
                ContributorCard("t/0.png", BLUE, 0.25, 0.6, "cat"),
                ContributorCard("t/1.png", None, 1234.5678, 0.2),
            ),
        ),
    ),
    most=(ValueCard("t/0.png", BLUE, 0.6, 1, 1, "cat"),),
    least=(ValueCard("t/2.png", RED, 0.0, 3, 0),),
    summary=(("Training images", "3"),),
    settings=(("encoder", "l2"),),
    versions=(("gmvaluator", "0.1.0"),),
    seconds=(("recall", "0.1"),),
    skipped=(SkippedRow("train", "t/9.png", "truncated JPEG"),),
    values=(0.6, 0.2, 0.0),
)


class Tree(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
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
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def text_of(page: PageData) -> str:
    return re.sub(r"\s+", " ", " ".join(Tree(render_page(page)).text))


def test_every_part_of_the_data_is_on_the_page() -> None:
    text = text_of(PAGE)
    for part in (
        *("Valuation of 3 images", "How much did 3 training images", "Training images 3"),
        *("g/0.png", "t/0.png", "t/1.png", "0.2500", "0.6000", "1,235", "quality 0.8000"),
        *("#1", "#3", "label cat", "truncated JPEG", "t/9.png", "encoder", "recall"),
        *("similarity is not proof of causation", "1 of 3 training images have no value"),
    ):
        assert part in text
    assert "—" not in text
    counted = text_of(replace(PAGE, n_generated=5000))
    assert "1 of 5,000 generated images" in counted


def test_the_page_refers_to_nothing_outside_itself() -> None:
    html = render_page(PAGE)
    tree = Tree(html)
    assert not {"script", "link", "iframe", "img", "object"} & {name for name, _ in tree.tags}
    for _, attributes in tree.tags:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert set(re.findall(r"url\(([a-z]+:)", html)) == {"data:"}
    assert "http://" not in html
    assert "https://" not in html
    policy = next(m["content"] for m in tree.named("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


def test_links_and_labels_lead_somewhere() -> None:
    tree = Tree(render_page(PAGE))
    ids = [attributes["id"] for _, attributes in tree.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in tree.named("a")} <= set(ids)
    assert {a["aria-labelledby"] for _, a in tree.tags if "aria-labelledby" in a} <= set(ids)
    pictures = [a for a in tree.named("span") if a.get("role") == "img"]
    assert len(pictures) == 5
    names = [p["aria-label"] for p in pictures]
    assert names.count("Training image t/1.png (not available)") == 1
    assert tree.named("html") == [{"lang": "en"}]
    assert any(m.get("name") == "viewport" for m in tree.named("meta"))


def test_each_image_is_stored_once_and_tiny_ones_stay_sharp() -> None:
    html = render_page(PAGE)
    stored = re.findall(r"\.p(\d+)\{background-image:url\(data:image/png;base64,([^)]*)\)\}", html)
    assert sorted(base64.b64decode(data) for _, data in stored) == sorted([RED, BLUE])
    number = {base64.b64decode(data): number for number, data in stored}
    classes = [a["class"].split() for a in Tree(html).named("span") if a.get("role") == "img"]
    assert classes.count(["pic", "px", f"p{number[RED]}"]) == 2
    assert classes.count(["pic", f"p{number[BLUE]}"]) == 2
    assert classes.count(["pic", "none"]) == 1


def test_user_strings_cannot_become_markup() -> None:
    page = PageData(
        NASTY,
        NASTY,
        (GeneratedCard(NASTY, RED, 1, (ContributorCard(NASTY, RED, 0, 1, NASTY),), NASTY),),
        (ValueCard(NASTY, RED, 1, 1, 1, NASTY),),
        (ValueCard(NASTY, RED, 1, 1, 1, NASTY),),
        summary=((NASTY, NASTY),),
        settings=((NASTY, NASTY),),
        versions=((NASTY, NASTY),),
        seconds=((NASTY, NASTY),),
        skipped=(SkippedRow(NASTY, NASTY, NASTY),),
    )
    harmless = replace(PAGE, generated=(), most=(), least=())
    html = render_page(page)
    tree = Tree(html)
    assert "<script" not in html
    assert html.count("</style>") == render_page(harmless).count("</style>") == 1
    assert "".join(tree.text).count(NASTY) >= 15
    assert sum(a.get("title") == NASTY for a in tree.named("span")) == 2


def test_an_empty_run_still_makes_a_page() -> None:
    text = text_of(PageData("Empty", "Nothing.", (), (), ()))
    assert "No generated images to show." in text
    assert "None: every image of both sets was used." in text
    alone = replace(PAGE, generated=(GeneratedCard("g", None, 0.0, ()),), values=(0.0, 0.0))
    assert "No contributors." in text_of(alone)


def test_a_page_of_two_hundred_generated_digits_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train = [digit_png(rng) for _ in range(900)]
    assert 300 < np.mean([len(data) for data in train]) < 500
    generated = tuple(
        GeneratedCard(
            f"{j % 10}/{j:06d}.png",
            digit_png(rng),
            0.9,
            tuple(
                ContributorCard(f"{i % 10}/{i:06d}.png", train[i], rng.random(), 0.09, "7")
                for i in rng.integers(0, 900, 10)
            ),
        )
        for j in range(200)
    )
    path = write_page(replace(PAGE, generated=generated), tmp_path / "deep" / "index.html")
    assert path.stat().st_size < 2_000_000
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]


def test_bad_bytes_and_unwritable_places(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no PNG"):
        render_page(replace(PAGE, most=(ValueCard("t", b"\xff\xd8jpeg" * 9, 1, 1),)))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_page(PAGE, tmp_path / "file" / "index.html")
    surrogate = replace(PAGE, title="caf\udce9")
    assert b"caf\\udce9" in write_page(surrogate, tmp_path / "index.html").read_bytes()


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


def test_concentration_agrees_with_sorting_by_hand() -> None:
    values = tuple(np.random.default_rng(1).pareto(2.0, 1000).tolist())
    curve = Concentration(values)
    top = sum(sorted(values)[-100:]) / sum(values)
    assert curve.held_by(0.1) == pytest.approx(top)
    assert curve.held_by(0.0) == 0.0
    assert curve.held_by(1.0) == pytest.approx(1.0)
    points = [tuple(map(float, point.split(","))) for point in curve.points.split()]
    assert points[0] == (0.0, 100.0)
    assert points[-1] == (100.0, 0.0)
    heights = [100 - y for _, y in points]
    assert heights == sorted(heights)
    assert Concentration((1.0, 0.0, 0.0)).n_zero == 2


def test_a_browser_shows_it_without_complaint(tmp_path: Path) -> None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium or Chrome on this machine")
    path = write_page(PAGE, tmp_path / "index.html")
    shot = tmp_path / "shot.png"
    command = [
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--hide-scrollbars", "--enable-logging=stderr", "--window-size=1000,2400"),
        *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", path.as_uri()),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in result.stderr
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((254, 1, 2), (3, 4, 253)):
        # Each is shown twice or more, at least 60 × 60 pixels large.
        assert (pixels == colour).all(axis=1).sum() > 2 * 60 * 60
