"""Training images among the first contributors of very many generated images are named."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator
from gmvaluator.runs.hubs import FIRST, Hubs
from gmvaluator.scoring.scores import Contributions

NAMES = tuple(f"{row}.png" for row in range(200))


def contributions(hubs: dict[int, int], m: int = 30, n: int = 200) -> Contributions:
    """Image 7 twelve times of 30, say, and others that are there once."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(np.arange(50, n))[:20] for _ in range(m)])
    for hub, count in hubs.items():
        rows[:count, hub % FIRST] = hub
    return Contributions(rows, np.ones(rows.shape, np.float32), np.full(rows.shape, 0.05), n)


def test_frequent_images_are_named_with_their_counts() -> None:
    found = Hubs.of(contributions({7: 12, 3: 20}))
    assert found.rows.tolist() == [3, 7]
    assert found.counts.tolist() == [20, 12]
    assert found.text(NAMES) == (
        "2 training images are among the first 10 contributors of more than a third of the "
        "generated images, 3.png of 20 of 30: look whether they belong there"
    )
    one = Hubs.of(contributions({3: 20})).text(NAMES)
    assert one.startswith("1 training image, 3.png, is among the first 10 contributors of 20 of 30")


@pytest.mark.parametrize(
    "few", [contributions({3: 10}), contributions({3: 19}, m=19), contributions({3: 30}, n=99)]
)
def test_a_third_and_small_sets_are_no_hubs(few: Contributions) -> None:
    assert Hubs.of(few).text(NAMES) == ""


def test_images_without_a_score_do_not_count() -> None:
    made = contributions({3: 20})
    silent = made.without(np.arange(30) < 15)
    assert Hubs.of(silent).text(NAMES) == ""


def test_a_notebook_names_them(digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> None:
    """One blank picture that is nearest to everything."""
    train = digits[0][:120].copy()
    train[5] = train.mean(axis=0)
    rng = np.random.default_rng(0)
    drawn = np.clip(train.mean(axis=0) + rng.normal(0, 4, (25, 28, 28)), 0, 255).astype(np.uint8)
    valuator = GMValuator(encoder="pixels@8", rerank="none", quality="none", null="off")
    valuation = valuator.fit(train).value(drawn)
    assert "among the first 10 contributors" in valuation._repr_html_()
