"""Kept indexes: trained once, found again by everything that decides them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmvaluator.encoders import as_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.custom import wrap
from gmvaluator.errors import CacheWarning
from gmvaluator.files.store import Store
from gmvaluator.geometry import Space
from gmvaluator.images import Preprocessing
from gmvaluator.matching.placed import RecallSpace
from gmvaluator.matching.search import kept
from gmvaluator.matching.search.build import open_index
from gmvaluator.matching.search.kept import open_kept_index
from gmvaluator.weights import Weights

VECTORS = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
ORDER = np.arange(400)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def space(store: Store) -> RecallSpace:
    encoder = as_encoder("efficientnet-lite0@32", Weights(), Runtime("cpu"), store)
    return RecallSpace(encoder, Space("euclidean"), VECTORS)


def opened(space: RecallSpace, store: Store | None, **changes: Any) -> Any:
    settings: dict[str, Any] = {"train": "a" * 64, "order": ORDER, "seed": 0, **changes}
    name = settings.pop("name", "pq")
    return open_kept_index(name, space, store, **settings)


def n_kept(store: Store) -> int:
    return len(list((store.folder / "indexes").glob("*.json")))


def test_an_index_that_is_pruned_meanwhile_is_built_again(
    space: RecallSpace, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(space, store).search(VECTORS[:5], 10)

    def pruned(path: Path, vectors: Any) -> Any:
        path.unlink()
        return open_index(path, vectors)

    monkeypatch.setattr(kept, "open_index", pruned)
    with pytest.warns(CacheWarning, match=r"cannot read the cache .* cannot be opened"):
        again = opened(space, store).search(VECTORS[:5], 10)
    for now, before in zip(again, first, strict=True):
        np.testing.assert_array_equal(now, before)


def test_an_index_is_trained_once(
    space: RecallSpace, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(space, store).search(VECTORS[:5], 10)
    assert n_kept(store) == 1

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the index was built again")

    monkeypatch.setattr(kept, "build_index", never)
    for now, before in zip(opened(space, store).search(VECTORS[:5], 10), first, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("change", [{"train": "b" * 64}, {"seed": 1}, {"name": "ivfpq"}], ids=str)
def test_whatever_decides_an_index_keeps_it_apart(
    space: RecallSpace, store: Store, change: dict[str, Any]
) -> None:
    opened(space, store)
    opened(space, store, **change)
    assert n_kept(store) == 2


def test_vectors_of_another_arithmetic_have_an_index_of_their_own(
    space: RecallSpace, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(space, store)
    monkeypatch.setattr(kept, "arithmetic_of", lambda _: "torch-cuda-float16")
    opened(space, store)
    assert n_kept(store) == 2


def test_a_users_own_encoder_and_exact_search_keep_nothing(
    space: RecallSpace, store: Store
) -> None:
    own = wrap(
        lambda pixels: pixels.reshape(len(pixels), -1).astype(np.float32),
        name="own",
        metric="euclidean",
        preprocessing=Preprocessing(4),
    )
    opened(replace(space, encoder=own), store)
    opened(space, store, name="exact")
    opened(space, None)
    assert n_kept(store) == 0
