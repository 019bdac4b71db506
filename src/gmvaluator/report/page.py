"""One self-contained HTML page about a valuation run: no script, no network, no other file.

It is handed plain strings, numbers and PNG bytes and knows nothing of the pipeline.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from gmvaluator.errors import InputError
from gmvaluator.publishing import publish_file

TEMPLATE = "page.html.j2"
OPEN_CARDS = 10
# Images with no longer side are enlarged with hard pixels: smoothing would blur 28 pixels away.
_TINY = 64
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ContributorCard:
    """A training image that contributed to a generated one; `png` None = image not available."""

    id: str
    png: bytes | None
    distance: float  # smaller = more alike
    score: float  # ≥ 0; the scores of one generated image sum to its quality
    label: str | None = None


@dataclass(frozen=True)
class GeneratedCard:
    """A generated image and its contributors, best first (as many as should be shown)."""

    id: str
    png: bytes | None
    quality: float  # 0 bad … 1 good
    contributors: tuple[ContributorCard, ...]
    label: str | None = None


@dataclass(frozen=True)
class ValueCard:
    """A training image and its value over all generated images; rank 1 = highest."""

    id: str
    png: bytes | None
    value: float
    rank: int
    n_supported: int | None = None  # generated images it contributes to
    label: str | None = None


@dataclass(frozen=True)
class SkippedRow:
    """An image that was left out, from the `train` or `generated` set, and why."""

    set: str
    id: str
    reason: str


@dataclass(frozen=True)
class PageData:
    """Everything the page shows.

    Attributes:
        title: heading of the page.
        asked: what was asked, in plain words, as one sentence.
        summary: (name, number) pairs for the row of large numbers, ready to print.
        settings, versions, seconds: (name, text) pairs of the "How it was computed" section.
        generated: cards in the order to show; `n_generated` counts all, shown or not.
        most, least: training images of highest and lowest value, in the order to show.
        skipped: images left out.
        values: the value of every training image, for the concentration curve; empty = no curve.
    """

    title: str
    asked: str
    generated: tuple[GeneratedCard, ...]
    most: tuple[ValueCard, ...]
    least: tuple[ValueCard, ...]
    summary: Rows = ()
    settings: Rows = ()
    versions: Rows = ()
    seconds: Rows = ()
    skipped: tuple[SkippedRow, ...] = ()
    values: tuple[float, ...] = ()
    n_generated: int | None = None


def write_page(page: PageData, path: str | Path) -> Path:
    """Write the page as one HTML file and return its path.

    Every distinct image is stored once, as a data URI in the style sheet, however often it is
    shown. Raises `InputError` for bytes that are no PNG and `RunError` if the file cannot be
    written.
    """
    target = Path(path)
    html = render_page(page)
    with publish_file(target) as part:
        # Ids of files whose names are not UTF-8 may hold lone surrogates.
        part.write_text(html, "utf-8", errors="backslashreplace")
    return target


def render_page(page: PageData) -> str:
    """The page as a string; see `write_page`."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = format_number
    environment.filters["share"] = _share
    source = (resources.files(__name__.rpartition(".")[0]) / TEMPLATE).read_text("utf-8")
    pictures = _Pictures()
    context: dict[str, Any] = {
        "page": page,
        "n_generated": len(page.generated) if page.n_generated is None else page.n_generated,
        "open_cards": OPEN_CARDS,
        "picture": pictures.add,
        "curve": Concentration(page.values) if sum(page.values) > 0 else None,
    }
    # The body is rendered first: it is what tells which pictures the style sheet must hold.
    template = environment.from_string(source)
    body = template.render(**context, part="body", pictures=[])
    return template.render(**context, part="head", pictures=pictures.rules) + body


def format_number(number: float) -> str:
    """Four significant digits, thousands separated, no exponent between 1e-4 and 1e9."""
    if not math.isfinite(number):
        return str(number)
    if number == 0 or (float(number).is_integer() and abs(number) < 1e9):
        return f"{number:,.0f}"
    if not 1e-4 <= abs(number) < 1e9:
        return f"{number:.2e}"
    digits = max(0, 3 - math.floor(math.log10(abs(number))))
    return f"{number:,.{digits}f}"


@dataclass(frozen=True)
class Concentration:
    """How unevenly value is spread: the share of all value that the top images hold."""

    values: tuple[float, ...]

    @cached_property
    def _cumulated(self) -> list[float]:
        total, running, shares = math.fsum(self.values), 0.0, [0.0]
        for value in sorted(self.values, reverse=True):
            running += value
            shares.append(running / total)
        return shares

    def held_by(self, top: float) -> float:
        """Share of all value (0 … 1) held by the `top` (0 … 1) most valuable images."""
        return self._cumulated[round(top * len(self.values))]

    @property
    def n_zero(self) -> int:
        """Training images without any value."""
        return sum(value == 0 for value in self.values)

    @property
    def points(self) -> str:
        """SVG polyline on a 100 × 100 grid, the top images at the left."""
        n = len(self.values)
        rows = sorted({round(i * n / 200) for i in range(201)})
        return " ".join(f"{100 * i / n:.1f},{100 - 100 * self._cumulated[i]:.1f}" for i in rows)


class _Pictures:
    """Numbers distinct images and collects one style rule for each."""

    def __init__(self) -> None:
        self.rules: list[tuple[int, str]] = []
        self._numbers: dict[bytes, str] = {}

    def add(self, png: bytes | None) -> str:
        """The CSS classes that show this image."""
        if png is None:
            return "pic none"
        if png not in self._numbers:
            if not png.startswith(_SIGNATURE) or len(png) < 24:
                raise InputError("A card of the page holds bytes that are no PNG; pass PNG bytes.")
            number = len(self.rules)
            width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
            tiny = " px" if max(width, height) <= _TINY else ""
            self.rules.append((number, base64.b64encode(png).decode("ascii")))
            self._numbers[png] = f"pic{tiny} p{number}"
        return self._numbers[png]


def _share(part: float, whole: float) -> str:
    """`part` of `whole` in percent, 0 … 100, for the length of a bar."""
    return f"{100 * min(1.0, max(0.0, part / whole)):.0f}" if whole > 0 else "0"
