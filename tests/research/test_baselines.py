"""The trivial baselines: chance and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import ImageSet, Valuation
from gmvaluator.baselines import RandomValuer, SameClassValuer
from gmvaluator.errors import InputError

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture
def sets(tmp_path: Path, digits: Digits) -> tuple[ImageSet, ImageSet]:
    """(300 training digits, 40 others), with labels."""
    images, labels = digits
    for name, rows in (("train", slice(0, 300)), ("drawn", slice(300, 340))):
        np.savez(tmp_path / f"{name}.npz", images=images[rows], labels=labels[rows])
    return ImageSet.open(tmp_path / "train.npz"), ImageSet.open(tmp_path / "drawn.npz")


def test_random_contributors_are_distinct_equal_and_seeded(
    sets: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    train, drawn = sets
    valuation = RandomValuer(k=7, seed=3).fit(train).value(drawn)
    rows = valuation.contributions.rows
    assert rows.shape == (40, 7)
    assert all(len(set(row)) == 7 for row in rows.tolist())
    np.testing.assert_allclose(valuation.contributions.scores, 1 / 7)
    assert valuation.values.sum() == pytest.approx(40)
    again = RandomValuer(k=7, seed=3).fit(train).value(drawn)
    np.testing.assert_array_equal(again.contributions.rows, rows)
    other = RandomValuer(k=7, seed=4).fit(train).value(drawn)
    assert (other.contributions.rows != rows).any()
    valuation.save(tmp_path / "run")
    loaded = Valuation.load(tmp_path / "run")
    np.testing.assert_allclose(loaded.values, valuation.values)


def test_same_class_contributors_have_the_class(sets: tuple[ImageSet, ImageSet]) -> None:
    train, drawn = sets
    valuation = SameClassValuer(k=5).fit(train).value(drawn)
    of_train = np.asarray(train.labels, dtype=object)
    wanted = np.asarray(drawn.labels, dtype=object)
    assert (of_train[valuation.contributions.rows] == wanted[:, None]).all()


def test_baselines_refuse_what_cannot_work(sets: tuple[ImageSet, ImageSet], digits: Digits) -> None:
    train, drawn = sets
    with pytest.raises(InputError, match="not fitted"):
        RandomValuer().value(drawn)
    with pytest.raises(InputError, match="k=0 was given; pass a whole number k ≥ 1"):
        SameClassValuer(k=0)
    with pytest.raises(InputError, match="k=301 exceeds the 300 training images"):
        RandomValuer(k=301).fit(train).value(drawn)
    with pytest.raises(InputError, match=r"k=100 exceeds the \d+ training images of class"):
        SameClassValuer(k=100).fit(train).value(drawn)
    with pytest.raises(InputError, match="300 of the 300 training images have no label"):
        SameClassValuer().fit(digits[0][:300])
