"""What all HTML pages share."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmvaluator.report.charts import outline
from gmvaluator.report.html import TINY, data_uri, is_tiny, page_template, percent, write_page
from page_checks import Tree

PAGES = {
    "gmvaluator.report": "page.html.j2",
    "gmvaluator.payout": "statement.html.j2",
    "gmvaluator.audit": "evidence.html.j2",
}


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, kind)
    return stream.getvalue()


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


def test_small_png_files_alone_are_tiny() -> None:
    assert is_tiny(picture(TINY, 3))
    assert is_tiny(picture(3, TINY))
    assert not is_tiny(picture(TINY + 1, 3))
    assert not is_tiny(picture(3, TINY + 1))
    assert not is_tiny(picture(3, 3, "JPEG"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_address_holds_the_picture_and_its_kind(kind: str) -> None:
    content = picture(3, 3, kind)
    head, _, data = data_uri(content).partition(",")
    assert head == f"data:image/{kind.lower()};base64"
    assert base64.b64decode(data) == content


def test_all_pages_extend_one_base_and_escape_what_they_are_given(tmp_path: Path) -> None:
    for package, name in PAGES.items():
        environment = page_template(package, name).environment
        source, _, _ = environment.loader.get_source(environment, name)  # type: ignore[union-attr]
        assert source.startswith('{% extends "base.html.j2" %}'), name
        assert "<!doctype" not in source
        escaped = environment.from_string("{{ name }}").render(name="<b>\udce9")
        write_page(tmp_path / "page.html", escaped)
        assert (tmp_path / "page.html").read_text("utf-8") == "&lt;b&gt;\\udce9"


def test_the_base_forbids_scripts_without_a_hash() -> None:
    base = page_template("gmvaluator.report", "base.html.j2")
    for arguments, scripts in (({}, ""), ({"script_hash": "abc="}, "script-src 'sha256-abc='; ")):
        tree = Tree(base.render(arguments))
        policy = next(meta["content"] for meta in tree.named("meta") if "http-equiv" in meta)
        assert policy == (
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {scripts}"
            "base-uri 'none'; form-action 'none'"
        )


def test_the_outline_of_a_histogram_touches_the_top_at_its_fullest_bin() -> None:
    path = outline(np.array([1, 4, 0]), 30, 8)
    assert path == "M0 8L0.0 6.0L10.0 6.0L10.0 0.0L20.0 0.0L20.0 8.0L30.0 8.0L30 8Z"
    assert outline(np.zeros(2, np.int64), 2, 8) == "M0 8L0.0 8.0L1.0 8.0L1.0 8.0L2.0 8.0L2 8Z"
