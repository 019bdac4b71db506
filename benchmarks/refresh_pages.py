"""Put the tables of docs/results into the pages under docs, between their markers.

    python benchmarks/refresh_pages.py            # rewrite
    python benchmarks/refresh_pages.py --check    # fail if a page shows other figures

A page, in docs or a folder of it, holds `<!-- results: NAME -->` … `<!-- end -->`; what is between
is docs/results/NAME.md, whose pictures lie beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PICTURE = re.compile(r"(!\[[^\]]*\]\()(?![/.]|\w+:)")


def main() -> None:
    """Parse, rewrite or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = refresh(DOCS, write=not args.check)
    if args.check and stale:
        print(f"not what docs/results holds: {', '.join(stale)}; run benchmarks/refresh_pages.py")
        sys.exit(1)


def refresh(docs: Path, *, write: bool) -> list[str]:
    """Pages that showed other figures than docs/results, rewritten if so asked."""
    results, stale = docs / "results", []
    for page in sorted(docs.rglob("*.md")):
        if results in page.parents:
            continue
        text = page.read_text(encoding="utf-8")
        fresh = refreshed(text, results, Path(os.path.relpath(results, page.parent)).as_posix())
        if fresh != text:
            stale.append(page.relative_to(docs).as_posix())
            if write:
                page.write_text(fresh, encoding="utf-8")
    return stale


def refreshed(text: str, results: Path, way: str = "results") -> str:
    """The text with every marked part replaced by the results of its name.

    `way` leads from the page to the results.
    """

    def part(found: re.Match[str]) -> str:
        table = (results / f"{found[2]}.md").read_text(encoding="utf-8").strip()
        table = PICTURE.sub(rf"\1{way}/", table)
        return f"{found[1]}\n{table}\n\n{found[3]}"

    return PART.sub(part, text)


if __name__ == "__main__":
    main()
