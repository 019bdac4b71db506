"""Run and index folders that the frozen tests of files write and look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frozen.frozen_shapes import shape_of_folder
from frozen.frozen_values import BEFORE, Arrays
from gmvaluator import GMValuator, Valuation

FOLDERS: Mapping[str, Mapping[str, Any]] = {
    # the settings that were the default, at a size that takes no time
    "default": {
        "encoder": "efficientnet-lite0@64",
        "rerank": {"efficientnet-lite0@64": 1.0, "l2": 0.5},
    },
    "unattributed": {"encoder": "pixels@14", "rerank": "l2", "null": "withhold"},
    "robust": {"preset": "robust", "encoder": "pixels@8", "rerank": "pixels@14"},
    "untested": {"encoder": "pixels@14", "rerank": "l2", "null": "off", "dedup": "none"},
}
"""Settings of runs and indexes by name; `unattributed` has a holdout."""


def written(name: str, folder: Path, digits: Arrays) -> dict[str, Any]:
    """The shape of a run folder and an index folder, with their formats and settings.

    Args:
        name: of the settings.
        folder: to write them to, with the images as .npz files beside them.
        digits: recorded.
    """
    folder.mkdir(parents=True)
    sets = {}
    for side, n in (("train", 80), ("generated", 12), ("holdout", 60)):
        sets[side] = folder / f"{side}.npz"
        np.savez(sets[side], images=digits[side][:n], labels=np.arange(n) % 10)
    settings = dict(FOLDERS[name])
    preset = settings.pop("preset", BEFORE)
    valuator = GMValuator.preset(preset, cache=False, **settings).fit(sets["train"])
    holdout = sets["holdout"] if name == "unattributed" else None
    valuator.value(sets["generated"], holdout=holdout).save(folder / "run")
    valuator.save(folder / "index")
    markers = {"run": "run.json", "index": "index.json"}
    records = {
        kind: json.loads((folder / kind / marker).read_text(encoding="utf-8"))
        for kind, marker in markers.items()
    }
    return {
        kind: {
            "files": shape_of_folder(folder / kind),
            "format": records[kind]["format"],
            "settings": records[kind]["settings"],
        }
        for kind in markers
    }


def opened(run: Path) -> dict[str, Any]:
    """What a run folder holds once it is opened, as JSON gives it back."""
    valuation = Valuation.load(run)
    best = [valuation.contributors(name) for name in valuation.generated_ids]
    held = {
        "train_ids": valuation.train_ids,
        "train_labels": valuation.train_labels,
        "generated_ids": valuation.generated_ids,
        "generated_labels": valuation.generated_labels,
        "train_keys": valuation.train_keys,
        "generated_keys": valuation.generated_keys,
        "values": valuation.values.tolist(),
        "ranks": valuation.ranks.tolist(),
        "n_supported": valuation.n_supported.tolist(),
        "quality": valuation.quality.tolist(),
        "unattributed": valuation.unattributed.tolist(),
        "match_p": None if valuation.match_p is None else valuation.match_p.tolist(),
        "contributors": [each.ids for each in best],
        "distances": [each.distances.tolist() for each in best],
        "scores": [each.scores.tolist() for each in best],
        "information": sorted(valuation.info),
    }
    read: dict[str, Any] = json.loads(json.dumps(held))
    return read
