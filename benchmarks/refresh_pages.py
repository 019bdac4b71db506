"""Put figures of docs/results, and the rooms of the package, into README.md and docs.

    python benchmarks/refresh_pages.py            # rewrite
    python benchmarks/refresh_pages.py --check    # fail if a page shows other figures

A page holds three kinds of markers:

    <!-- results: NAME --> … <!-- end -->
        All of docs/results/NAME.md, whose pictures lie beside it.
    <!-- cell: NAME / KEY / … / COLUMN -->0.5<!-- end -->
        One cell of a table in docs/results/NAME.md. Each KEY is a part of the table's title, or
        the next of the leading cells of the row.
    <!-- rooms --> … <!-- end -->
        The rooms of the import contract in pyproject.toml, by floor, each with its first sentence.

The files directly in docs/results are the source, no pages.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
CELL = re.compile(r"(<!-- cell: ([^>]+?) -->)[^|\n]*?(<!-- end -->)")
ROOMS = re.compile(r"(<!-- rooms -->\n).*?(<!-- end -->)", re.DOTALL)
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
    text = CELL.sub(lambda match: f"{match[1]}{cell(results, match[2])}{match[3]}", text)
    return ROOMS.sub(lambda match: f"{match[1]}\n{rooms(ROOT)}\n\n{match[2]}", text)


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


def rooms(root: Path) -> str:
    """The floors of the import contract as a text block, the highest first."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    floors = list(reversed(contract["layers"]))
    lines = []
    for number, floor in reversed(list(enumerate(floors))):
        for at, name in enumerate(re.split(r" ([|:]) ", floor)[::2]):
            mark = ":" if " : " in floor and at else " "
            label = f"{number:>2}" if at == 0 else "  "
            lines.append(f"{label} {mark} {name:<11} {_first_sentence(root, name)}")
    return "\n".join(["```text", *lines, "```"])


def _first_sentence(root: Path, room: str) -> str:
    package = root / "src" / "gmvaluator"
    file = package / room / "__init__.py"
    file = file if file.is_file() else package / f"{room}.py"
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n\n")[0].replace("\n", " ").removesuffix(".")


def _tables(text: str) -> Iterator[list[list[str]]]:
    """Each table as the parts of its title, its header and its rows."""
    for match in TABLE.finditer(text):
        header, _, *rows = match["lines"].splitlines()
        yield [re.split("[,:] ", match["title"]), *(_cells(line) for line in (header, *rows))]


def _cells(line: str) -> list[str]:
    return [part.strip() for part in line.strip().strip("|").split("|")]


if __name__ == "__main__":
    main()
