"""`repr` of results: one short line, whatever a result holds."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gmvaluator
from gmvaluator import GMValuator
from gmvaluator.audit import audit_run
from gmvaluator.audit.near_copies import CopySettings
from gmvaluator.certainty import stability_run, uncertainty_run
from gmvaluator.certainty.stability import k_variant
from gmvaluator.curation import curate_run
from gmvaluator.payout import payout_run
from gmvaluator.runs.folder import open_run
from gmvaluator.runs.verify import verify_run
from gmvaluator.shown import short_repr
from image_makers import image_folder

N_TRAIN, MOST = 90, 700
"""Images, more than a line could list, and letters of the longest line."""


@short_repr
@dataclass(frozen=True, eq=False)
class Sample:
    """A dataclass with a field of each kind."""

    array: NDArray[np.float32]
    number: float
    name: str
    few: tuple[str, ...]
    many: tuple[str, ...]
    table: dict[str, int]
    inner: Any = None


def test_sizes_stand_for_arrays_and_long_collections() -> None:
    inner = Sample(np.zeros(3, np.float32), 1.0, "", (), (), {})
    sample = Sample(
        np.zeros((2, 5), np.float32), 0.5, "x" * 99, ("a", "b"), tuple("abcdef"), {"k": 1}, inner
    )
    assert repr(sample) == (
        f"Sample(array=<2×5 float32>, number=0.5, name='{'x' * 40}'…, few=('a', 'b'), "
        "many=<6 entries>, table=<1 entry>, inner=<Sample>)"
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of each public result, of real images."""
    home = tmp_path_factory.mktemp("results")
    image_folder(home / "train", N_TRAIN)
    image_folder(home / "gen", 12, seed=1)
    valuator = GMValuator(encoder="pixels@8", rerank="none", quality="none", k=9, cache=False)
    valuation = valuator.fit(home / "train").value(home / "gen")
    valuation.save(home / "run")
    run = open_run(home / "run")
    payout = payout_run(run, by="label", budget="100", resamples=0)
    verification = verify_run(home / "run")
    return {
        "fitted": valuator.fitted_,
        "placed": valuator.fitted_.placed if valuator.fitted_ else None,
        "valuation": valuation,
        "contributors": valuation.contributors(0),
        "contributions": valuation.contributions,
        "record": valuation.record,
        "run": run,
        "side": run.train,
        "clusters": valuation.clusters,
        "uncertainty": uncertainty_run(run.folder),
        "stability": stability_run(run.folder, [k_variant(4)]),
        "audit": audit_run(run.folder, settings=CopySettings(encoder="pixels@8"), cache=False),
        "curation": curate_run(run.folder, off_manifold="0", cache=False),
        "payout": payout,
        "settlement": payout.settlement,
        "ownership": payout.ownership,
        "verification": verification,
        "inputs": verification.train,
    }


def test_every_public_result_is_one_short_line(results: dict[str, Any]) -> None:
    for name, result in results.items():
        text = repr(result)
        assert len(text) <= MOST, (name, len(text), text)
        assert "\n" not in text, name
        assert type(result).__name__ in text, name


ROOMS = ("runs", "matching", "scoring", "engine", "certainty", "audit", "payout", "curation")


def dataclasses_of_rooms() -> Iterator[type[Any]]:
    for module in pkgutil.walk_packages(gmvaluator.__path__, "gmvaluator."):
        if module.name.split(".")[1] not in ROOMS:
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.name:
                yield cls


def test_every_dataclass_with_arrays_shows_their_sizes() -> None:
    with_arrays = [
        cls
        for cls in dataclasses_of_rooms()
        if not cls.__name__.startswith("_")
        and any("NDArray" in str(kind) for kind in cls.__annotations__.values())
    ]
    assert len(with_arrays) > 20
    usual = [cls.__name__ for cls in with_arrays if cls.__repr__.__module__ == cls.__module__]
    # a dataclass's own `repr` prints arrays
    assert set(usual) <= {"Valuation"}
