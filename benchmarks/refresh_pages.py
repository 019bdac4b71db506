"""Put the tables of docs/results into the pages under docs, between their markers.

    python benchmarks/refresh_pages.py            # rewrite
    python benchmarks/refresh_pages.py --check    # fail if a page shows other figures

A page holds `<!-- results: NAME -->` … `<!-- end -->`; what is between is docs/results/NAME.md,
whose pictures lie beside it.
"""

from __future__ import annotations

import argparse
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
    stale = []
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        fresh = refreshed(text, DOCS / "results")
        if fresh != text:
            stale.append(page.name)
            if not args.check:
                page.write_text(fresh, encoding="utf-8")
    if args.check and stale:
        print(f"not what docs/results holds: {', '.join(stale)}; run benchmarks/refresh_pages.py")
        sys.exit(1)


def refreshed(text: str, results: Path) -> str:
    """The text with every marked part replaced by the results of its name."""

    def part(found: re.Match[str]) -> str:
        table = (results / f"{found[2]}.md").read_text(encoding="utf-8").strip()
        table = PICTURE.sub(rf"\1{results.name}/", table)
        return f"{found[1]}\n{table}\n\n{found[3]}"

    return PART.sub(part, text)


if __name__ == "__main__":
    main()
