"""Scripts of the repository, run in this process with small sizes of their own."""

from __future__ import annotations

import contextlib
import importlib
import io
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import pytest

from doc_blocks import ROOT
from gmvaluator.baselines.gan_steps import GANRecipe

# Words put after those of a page; of an option that is given twice the last counts.
WORDS: Mapping[str, str] = {
    "class_ratio": "--draws 3 --encoders efficientnet-lite0@32",
    "embedding_speed": "--rounds 1",
    "growth": "--sizes 2000 3000",
    "if4gan": "--seeds 1 --epochs 2",
    # hnswlib and usearch, its peers, are no packages of this project's
    "index_choice": "--indexes exact pq Flat",
    "kill_resume": "--kills 1 --n 200",
    "memory_budget": "--train 60",
    "precision": "--rounds 1",
    "vae_tracin": "--share 8",
}
# Constants of a script's module.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "class_ratio": {"TOP": 5, "CANDIDATES": 30, "DRAW": 10},
    "embedding_speed": {
        "BATCH": 4, "SINGLE": 2, "FED": dict.fromkeys((32, 64, 96, 160, 224), ("mnist", 8)),
    },
    "growth": {"TOP": 10, "CANDIDATES": 30, "DIM": 64},
    "if4gan": {
        "N": 60, "NOISED": 6, "HELD_OUT": 40, "CHECKED": 3, "POINTS": 200, "HELD_OUT_POINTS": 50,
        "CHECKED_POINTS": 5, "GANRecipe": partial(GANRecipe, batch_size=20),
    },
    "index_choice": {"QUERIES": 20, "BATCH": 10, "TOP": 10, "CANDIDATES": 30},
    "limits": {
        "IMAGES": 8, "BATCH": 4, "SIDE": 64, "COPIED": 1 << 12, "POINTS": 300, "QUERIES": 4,
        "HELD": 20, "ROUNDS": 1,
    },
    "memory_budget": {"GENERATED": 20, "HELD_OUT": 30, "BASE": 40},
    "paper_scale": {
        "N": 120, "M": 6, "SIZES": (2, 6), "CANDIDATES": 20, "PQ_SAMPLE": 60, "TIMED_IMAGES": 4,
        "OBVIOUS_INDEX": "PCAR8,PQ2x4",
        "TIMED_PAIRS": 2, "TIMED_VITS": 2, "TRUNKS": ("vit_tiny_patch16_224",),
    },
    "precision": {"N": 8, "BATCH": 8},
    "report_size": {"MILLION": 300},
    "rerank_growth": {"M": 4, "SIZES": (40, 80), "CANDIDATES": 20, "RECALLED": (5, 10)},
    "vae_tracin": {
        "POOL": 12, "ASKED": 4, "DIGITS": 60, "MEASURED": 20, "KS": (30, 50), "MANY_DRAWS": 8,
        "N_DRAWN": 20, "M_DRAWN": 4, "TOP": 5, "M": 10,
    },
    "value_cold": {"GENERATED": 5},
}  # fmt: skip


def run_script(words: Sequence[str]) -> None:
    """Run a script, with what it starts of itself, in this process."""
    name = (ROOT / words[0]).stem
    with small_script(name) as script, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*words, *WORDS.get(name, "").split()])
        script.main()


@contextmanager
def small_script(name: str) -> Iterator[ModuleType]:
    """The module of a script, imported anew so that it finds what is patched elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, name, raising=False)
        script = importlib.import_module(name)
        for constant, size in SIZES.get(name, MappingProxyType({})).items():
            patch.setattr(script, constant, size)
        if hasattr(script, "subprocess"):
            patch.setattr(script, "subprocess", SimpleNamespace(**vars(subprocess)))
            patch.setattr(script.subprocess, "run", _in_this_process(script))
        yield script


def _in_this_process(script: ModuleType) -> Any:
    """`subprocess.run` that runs a script's own children in this process, small as it is itself."""

    def run(command: Sequence[str], **options: Any) -> Any:
        if list(command[:2]) != [sys.executable, script.__file__]:
            return subprocess.run(command, **options)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", list(command[1:]))
                script.main()
        return subprocess.CompletedProcess(command, 0, printed.getvalue())

    return run
