"""Pictures of a report for the documentation.

    gmvaluator demo --out demo-run && python benchmarks/report_screenshots.py demo-run/index.html

Writes report.png (the gallery), report-dark.png (values and their spread, dark) and
report-phone.png (360 px wide) to docs/images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from browser import Page, running_browser

READY = "document.documentElement?.dataset.ready === 'yes'"


def main() -> None:
    """Parse, open, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    with running_browser() as browser:
        tab = browser.page()
        take(tab, args, "report", "light", (1120, 900), "#generated")
        take(tab, args, "report-dark", "dark", (1120, 900), "#spread")
        take(tab, args, "report-phone", "light", (360, 760), "#generated", scale=2)
        print("\n".join(tab.complaints) or "no complaints")


def take(
    tab: Page,
    args: argparse.Namespace,
    name: str,
    scheme: str,
    size: tuple[int, int],
    section: str,
    scale: float = 1,
) -> None:
    """One picture, with a section at the top of the window."""
    tab.prefer(scheme)
    tab.resize(*size, scale)
    tab.open(args.report, READY)
    tab.ask("document.documentElement.style.scrollBehavior = 'auto'")
    tab.ask(f"document.querySelector('{section}').scrollIntoView()")
    # what comes near is drawn when it is seen
    time.sleep(0.5)
    tab.picture(args.out / f"{name}.png")


if __name__ == "__main__":
    main()
