"""What the HTML pages of the package share: template environment, filters, style, writing.

`report`, `payout` and `audit` keep their templates in their own folders; each extends
`base.html.j2` of this folder. No page refers to anything outside its file.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from gmvaluator.runs.formatting import format_number

if TYPE_CHECKING:
    from jinja2 import Template

REPORT = "report.html"
TITLE = "Value of training images"
# of all thumbnails, before base64 makes them a third longer
PICTURE_MEGABYTES = 10.0
# the page enlarges pictures up to this side (pixels) without smoothing, which would blur them
TINY = 64
_PNG = b"\x89PNG"


def page_template(package: str, name: str) -> Template:
    """The template `name` in the folder of a package, with autoescape and the filters of all pages.

    Filters: `number` (four significant digits), `count` (1,234), `percent`, `data_uri`.
    Test: `tiny` (a PNG that is enlarged without smoothing).
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader(__package__, "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "count": "{:,}".format,
        "percent": percent,
        "data_uri": data_uri,
    }
    environment.tests["tiny"] = is_tiny
    return environment.get_template(name)


def write_page(file: Path, html: str) -> None:
    """Write a page as UTF-8; a lone surrogate (from a file name that is not UTF-8) is escaped."""
    file.write_text(html, encoding="utf-8", errors="backslashreplace")


def percent(share: float, decimals: int = 2) -> str:
    """A share of 1 as `12.34 %`; a share above 0 is never shown as 0, but as `< 0.01 %`."""
    least = 10.0**-decimals
    if 0 < 100 * share < least / 2:
        return f"< {least:.{decimals}f} %"
    return f"{100 * share:.{decimals}f} %"


def data_uri(picture: bytes) -> str:
    """The address of a PNG or JPEG that holds the picture itself."""
    kind = "png" if picture.startswith(_PNG) else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def is_tiny(picture: bytes) -> bool:
    """Whether a picture is a PNG of at most `TINY` pixels a side."""
    sides = (int.from_bytes(picture[start : start + 4], "big") for start in (16, 20))
    return picture.startswith(_PNG) and max(sides) <= TINY
