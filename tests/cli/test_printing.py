"""Tables of the terminal: aligned, plain, of bearable width."""

from __future__ import annotations

import numpy as np
import pytest

from gmvaluator import GMValuator
from gmvaluator.cli.options import pair
from gmvaluator.cli.printing import _values, table
from gmvaluator.errors import InputError
from gmvaluator.runs.formatting import NAME_WIDTH, shortened


def test_columns_are_aligned() -> None:
    shown = table(("owner", "paid"), [("Ann", "1.50"), ("Bob & sons", "1,200.00")], left=("owner",))
    assert shown.split("\n") == [
        "owner           paid",
        "Ann             1.50",
        "Bob & sons  1,200.00",
    ]


def test_a_long_name_does_not_widen_the_table() -> None:
    rows = [("A" * 150 + "B" * 150, "1.50"), ("Bob", "2.00")]
    lines = table(("owner", "paid"), rows, left=("owner",)).split("\n")
    assert max(map(len, lines)) <= NAME_WIDTH + 2 + len("paid")
    assert lines[1].startswith("AAA")
    assert "A…B" in lines[1]
    assert lines[1].endswith("B  1.50")


def test_numbers_are_never_cut_off() -> None:
    columns, row = [f"column {i}" for i in range(40)], ["123,456,789.00"] * 40
    assert table(columns, [row], left=()).split("\n")[1].split() == row


def test_names_are_shown_as_they_are() -> None:
    shown = table(("id", "n"), [("[bold]x[/bold]", "1"), ("a\x1b[31m\nb", "2")], left=("id",))
    assert shown.split("\n")[1:] == ["[bold]x[/bold]  1", "a?[31m?b        2"]
    assert "\x1b" not in shown


def test_wide_letters_are_aligned_by_their_width() -> None:
    lines = table(("id", "n"), [("日本", "1"), ("abcd", "2")], left=("id",)).split("\n")
    assert lines[1:] == ["日本  1", "abcd  2"]


@pytest.mark.parametrize("length", range(NAME_WIDTH - 2, NAME_WIDTH + 4))
def test_a_shortened_name_has_the_width_or_less(length: int) -> None:
    name = "x" * length
    assert len(shortened(name)) == min(length, NAME_WIDTH)
    assert (shortened(name) == name) == (length <= NAME_WIDTH)


def test_a_pair_that_cannot_be_read_says_how_to_write_it() -> None:
    assert pair("a=1", "--rerank NAME=WEIGHT", float) == ("a", 1.0)
    for text in ("a", "=1", "a=", "a=x"):
        with pytest.raises(InputError, match=r"--rerank '.*' cannot be read; write --rerank NAME="):
            pair(text, "--rerank NAME=WEIGHT", float)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00000"), (1e-9, "< 0.00001"), (1.2e-5, "0.00001"), (0.5, "0.50000")],
)
def test_a_small_value_is_not_printed_as_zero(value: float, text: str) -> None:
    digits = np.zeros((3, 8, 8), np.uint8)
    digits[:, 0] = np.arange(3, dtype=np.uint8)[:, None] * 50
    valuation = (
        GMValuator(encoder="pixels@8", rerank="none", quality="none", k=1, null="off", cache=False)
        .fit(digits)
        .value(digits[:1])
    )
    frame = valuation.to_pandas().assign(value=value)
    shown = _values(frame).splitlines()[1]
    assert f"  {text} " in shown
