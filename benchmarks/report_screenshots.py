"""Pictures of a report for the documentation.

    gmvaluator demo --out demo-run && python benchmarks/report_screenshots.py demo-run/index.html

Writes report.png (the gallery), report-dark.png (values and their spread, dark) and
report-phone.png (360 px wide) to docs/images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from browser import READY, new_page, running_browser

PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "report": ("#generated", {"viewport": {"width": 1120, "height": 900}}),
    "report-dark": (
        "#spread",
        {"viewport": {"width": 1120, "height": 900}, "color_scheme": "dark"},
    ),
    "report-phone": (
        "#generated",
        {"viewport": {"width": 360, "height": 760}, "device_scale_factor": 2, "is_mobile": True},
    ),
}


def main() -> None:
    """Parse, open, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    with running_browser() as browser:
        for name, (section, options) in PICTURES.items():
            page, complaints = new_page(browser, reduced_motion="reduce", **options)
            page.goto(args.report.absolute().as_uri())
            page.locator(READY).wait_for()
            page.locator(section).evaluate("section => section.scrollIntoView()")
            page.screenshot(path=args.out / f"{name}.png")
            print(name, "\n".join(complaints) or "no complaints")


if __name__ == "__main__":
    main()
