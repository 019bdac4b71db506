"""Put the figures of docs/results into README.md and the pages under docs, between their markers.

    python benchmarks/refresh_pages.py            # rewrite
    python benchmarks/refresh_pages.py --check    # fail if a page shows other figures

A page holds two kinds of markers:

    <!-- results: NAME --> … <!-- end -->
        All of docs/results/NAME.md, whose pictures lie beside it.
    <!-- cell: NAME / KEY / … / COLUMN -->0.5<!-- end -->
        One cell of a table in docs/results/NAME.md. Each KEY is a part of the table's title, or
        the next of the leading cells of the row.

The files directly in docs/results are the source, no pages.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
CELL = re.compile(r"(<!-- cell: ([^>]+?) -->)[^|\n]*?(<!-- end -->)")
PICTURE = re.compile(r"(!\[[^\]]*\]\()(?![/.]|\w+:)")
TABLE = re.compile(r"^\*\*(?P<title>.+)\*\*\n\n(?P<lines>(?:\|.*\n?)+)", re.MULTILINE)


def main() -> None:
    """Parse, rewrite or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = refresh(ROOT, write=not args.check)
    if args.check and stale:
        print(f"not what docs/results holds: {', '.join(stale)}; run benchmarks/refresh_pages.py")
        sys.exit(1)


def refresh(root: Path, *, write: bool) -> list[str]:
    """Pages that show other figures than docs/results; `write` rewrites them."""
    results, stale = root / "docs" / "results", []
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        if page.parent == results or not page.is_file():
            continue
        text = page.read_text(encoding="utf-8")
        fresh = refreshed(text, results, Path(os.path.relpath(results, page.parent)).as_posix())
        if fresh != text:
            stale.append(page.relative_to(root).as_posix())
            if write:
                page.write_text(fresh, encoding="utf-8")
    return stale


def refreshed(text: str, results: Path, way: str = "results") -> str:
    """The text with every marked part replaced by what the results hold.

    `way` leads from the page to the results.
    """

    def part(match: re.Match[str]) -> str:
        table = (results / f"{match[2]}.md").read_text(encoding="utf-8").strip()
        table = PICTURE.sub(rf"\1{way}/", table)
        return f"{match[1]}\n{table}\n\n{match[3]}"

    text = PART.sub(part, text)
    return CELL.sub(lambda match: f"{match[1]}{cell(results, match[2])}{match[3]}", text)


def cell(results: Path, path: str) -> str:
    """The cell that `NAME / KEY / … / COLUMN` names.

    Raises:
        LookupError: no table has it, or more than one.
    """
    name, *keys, column = path.split(" / ")
    text = (results / f"{name}.md").read_text(encoding="utf-8")
    values = []
    for title, header, *rows in _tables(text):
        of_row = [key for key in keys if key not in title]
        if column in header:
            at = header.index(column)
            values += [row[at] for row in rows if row[: len(of_row)] == of_row]
    if len(values) != 1:
        raise LookupError(f"{path}: wanted one cell of docs/results/{name}.md, not {len(values)}")
    return values[0]


def _tables(text: str) -> Iterator[list[list[str]]]:
    """Each table as the parts of its title, its header and its rows."""
    for match in TABLE.finditer(text):
        header, _, *rows = match["lines"].splitlines()
        yield [re.split("[,:] ", match["title"]), *(_cells(line) for line in (header, *rows))]


def _cells(line: str) -> list[str]:
    return [part.strip() for part in line.strip().strip("|").split("|")]


if __name__ == "__main__":
    main()
