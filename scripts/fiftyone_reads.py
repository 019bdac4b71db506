"""Does FiftyOne read what `gmvaluator curate` exported? Runs where FiftyOne is installed.

    python scripts/fiftyone_reads.py docs/curation.md look-again/

Opens the folder by the page's own lines and compares every image and typed column with labels.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the page's block beside the folder, compare, say what was read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    page = options.page.read_text(encoding="utf-8")
    (block,) = re.findall(r"(?ms)^```\S*\n(import fiftyone .*?)^```", page)
    with (options.folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["filepath"]: row for row in csv.DictReader(stream)}
    os.chdir(options.folder.parent)
    names: dict[str, Any] = {}
    exec(compile(block, str(options.page), "exec"), names)
    dataset = names["dataset"]
    dataset.compute_metadata()
    read = {Path(sample.filepath).name: sample for sample in dataset}
    if not rows or read.keys() != rows.keys():
        raise SystemExit(f"{len(rows)} images were exported and {len(read)} read")
    typed = names["fields"]
    for name, row in rows.items():
        if read[name].metadata.width is None:
            raise SystemExit(f"{name} is no image to FiftyOne")
        for column, kind in typed.items():
            wanted = kind(row[column]) if row[column] else None
            sample = read[name]
            found = sample.get_field(column) if sample.has_field(column) else None
            if found != wanted:
                raise SystemExit(f"{name}: {column} is read as {found!r}, not {wanted!r}")
    print(f"FiftyOne read {len(read)} images and {len(typed)} columns: {', '.join(typed)}")


if __name__ == "__main__":
    main()
