"""Makers of generated images with known sources: (pool, m, seed) → images and their truth.

`copies` applies `transformations` to training images, `mixtures` mixes two training images, and
`owned` and `in_style` make sets in which each owner of training images has a known share.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.planted.known_sources import Made, Make, PlantedSubject, Pool, Truth
from gmvaluator.evaluation.planted.transformations import (
    MILD,
    Images,
    Transformation,
    mildly,
    mixed,
    spliced,
    styled,
    suited,
)
from gmvaluator.files.pieces import Workspace
from gmvaluator.images.pixels import random_subset

MIXTURES = {"mixture 0.5": 0.5, "mixture 0.7": 0.7, "mixture 0.9": 0.9}
SPLICE = "splice"
OVERSAMPLED = 0.5  # share of one owner in the first set of owners, and of the styled images
OWNER_SETS = 5
MIXED_SHARE = 0.25  # share of owners' images that have two sources; the others have one
STYLE = 0  # number of the owner whose training images are in a style
STYLE_COPIES, STYLE_NEW = "copies", "new images"
STYLE_TRAIN = 5_000  # most training images of `in_style`, which keeps their pixels in memory


def planted_subjects(pool: Pool, work: Workspace, *, owners: int) -> dict[str, PlantedSubject]:
    """One subject per kind, by the name of the kind.

    Raises:
        InputError: fewer than two owners, or more owners than training images.
    """
    check_owners(len(pool.train), owners)
    copied = repr([transformation.name for transformation in suited(pool.colour)])
    shared = repr((owners, MILD, OVERSAMPLED, OWNER_SETS, MIXED_SHARE, STYLE_TRAIN))
    recipes: dict[str, tuple[str, Make]] = {
        "copies": (copied, copies),
        "mixtures": (repr((MIXTURES, SPLICE)), mixtures),
        "owners": (shared, partial(owned, owners=owners)),
        "style": (shared, partial(in_style, owners=owners)),
    }
    return {
        name: PlantedSubject(name, recipe, make, pool, work)
        for name, (recipe, make) in recipes.items()
    }


def check_owners(n: int, owners: int) -> None:
    """Raises `InputError` for fewer than two owners, or more owners than the n training images."""
    if not 2 <= owners <= n:
        raise InputError(f"owners={owners} of {n} images; pass at least 2, not more")


def n_in_style(n: int, m: int, owners: int) -> int:
    """Training images of `in_style` that are left, where n are there and m are taken out.

    Raises:
        InputError: too few are left.
    """
    part = min(n, STYLE_TRAIN)
    if part - m < max(m, owners):
        raise InputError(
            f"m={m} of {part} training images are taken out for the style; pass m ≤ half"
        )
    return part - m


def copies(
    pool: Pool, m: int, seed: int, used: Sequence[Transformation] = (), stream: int = 0
) -> Made:
    """The same m training images under each transformation. Default: `suited(pool.colour)`."""
    rng = np.random.default_rng([seed, stream])
    rows = pool.draw(m, rng)
    originals = pool.pixels(rows)
    used = used or suited(pool.colour)
    images = np.concatenate([transformation.apply(originals, rng) for transformation in used])
    kinds = np.repeat([transformation.name for transformation in used], m)
    sources = np.tile(rows, len(used))[:, None]
    return Made(images, Truth.of_sources(kinds, sources, np.ones(sources.shape)))


def mixtures(pool: Pool, m: int, seed: int) -> Made:
    """The same m pairs of training images mixed in each way."""
    rng = np.random.default_rng([seed, 1])
    pairs = pool.draw(2 * m, rng).reshape(m, 2)
    first, second = pool.pixels(pairs[:, 0]), pool.pixels(pairs[:, 1])
    parts = [mixed(first, second, share) for share in MIXTURES.values()]
    images = np.concatenate([*parts, spliced(first, second)])
    shares = np.repeat([*MIXTURES.values(), 0.5], m)
    kinds = np.repeat([*MIXTURES, SPLICE], m)
    weights = np.stack([shares, 1 - shares], axis=1)
    return Made(images, Truth.of_sources(kinds, np.tile(pairs, (len(parts) + 1, 1)), weights))


def owned(pool: Pool, m: int, seed: int, *, owners: int) -> Made:
    """Sets of m images in which owners have known shares. Training images are dealt at random.

    In the first set one owner has half, and the others share the rest equally. The shares of the
    other sets are drawn uniformly from all possible shares. A quarter of the images are mixtures of
    two owners' images.
    """
    rng = np.random.default_rng([seed, 2])
    owner_of = _dealt(len(pool.train), owners, rng)
    even = np.r_[OVERSAMPLED, np.full(owners - 1, (1 - OVERSAMPLED) / (owners - 1))]
    designs = [even, *rng.dirichlet(np.ones(owners), OWNER_SETS - 1)]
    images, sources, weights = zip(
        *(_of_shares(pool, owner_of, _whole(shares, m), rng) for shares in designs), strict=True
    )
    names = np.array([f"set {number + 1}" for number in range(OWNER_SETS)])
    truth = Truth.of_sources(np.repeat(names, m), np.concatenate(sources), np.concatenate(weights))
    return Made(np.concatenate(images), truth.with_owners(owner_of, names))


def in_style(pool: Pool, m: int, seed: int, *, owners: int) -> Made:
    """Two sets of m images. Half of each set has the style of one owner's training images.

    The first set holds mild copies of training images. The second set holds images that are taken
    out of the training set, so that their content belongs to no owner.
    """
    rng = np.random.default_rng([seed, 3])
    part = random_subset(pool.train, STYLE_TRAIN, seed)
    n = n_in_style(len(pool.train), m, owners)
    order = rng.permutation(len(part))
    subset = Pool(part, pool.side, pool.colour, np.arange(len(part)), pool.digest)
    train, new = subset.pixels(order[:n]), subset.pixels(order[n:])
    owner_of = _dealt(n, owners, rng)
    train[owner_of == STYLE] = styled(train[owner_of == STYLE])
    count = round(OVERSAMPLED * m)
    new[:count] = styled(new[:count])
    styled_rows, other_rows = np.flatnonzero(owner_of == STYLE), np.flatnonzero(owner_of != STYLE)
    rows = np.r_[rng.choice(styled_rows, count), rng.choice(other_rows, m - count)]
    sources = np.r_[rows, np.full(m, -1)][:, None]
    names = np.array([STYLE_COPIES, STYLE_NEW])
    truth = Truth.of_sources(np.repeat(names, m), sources, np.ones(sources.shape))
    truth = truth.with_owners(owner_of, names)
    truth.known[1] = np.nan
    truth.known[1, STYLE] = count / m
    return Made(np.concatenate([mildly(train[rows], rng), new]), truth, train)


def _of_shares(
    pool: Pool, owner_of: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Images, NDArray[np.int64], NDArray[np.float64]]:
    """`counts[o]` images of each owner o: pixels, (m, 2) sources and (m, 2) weights."""
    drawn = np.repeat(np.arange(len(counts)), counts)
    pairs = np.stack(
        [_of_owners(pool, owner_of, owners, rng) for owners in (drawn, rng.permutation(drawn))],
        axis=1,
    )
    blended = (rng.random(len(drawn)) < MIXED_SHARE) & (pairs[:, 0] != pairs[:, 1])
    pairs[~blended, 1] = -1
    first = np.where(blended, rng.uniform(0.5, 0.9, len(drawn)), 1.0)
    pixels = pool.pixels(pairs[:, 0])
    if blended.any():
        partners = pool.pixels(pairs[blended, 1])
        shares = first[blended].reshape(-1, *[1] * (pixels.ndim - 1))
        pixels[blended] = mixed(pixels[blended], partners, shares)
    return mildly(pixels, rng), pairs, np.stack([first, 1 - first], axis=1)


def _dealt(n: int, owners: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n,) owner of each image, at random. Numbers of images per owner differ by at most one."""
    return rng.permutation(np.arange(n) % owners)


def _whole(shares: NDArray[np.float64], m: int) -> NDArray[np.int64]:
    """The whole numbers nearest to shares · m that sum to m."""
    counts = np.floor(shares * m).astype(np.int64)
    missing = m - int(counts.sum())
    counts[np.argsort(counts - shares * m, kind="stable")[:missing]] += 1
    return counts


def _of_owners(
    pool: Pool,
    owner_of: NDArray[np.int64],
    wanted: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """For each wanted owner, the row of a random image without a twin. Rows may repeat."""
    rows = np.empty(len(wanted), dtype=np.int64)
    for owner in np.unique(wanted):
        held = pool.single[owner_of[pool.single] == owner]
        if not len(held):
            raise InputError(f"owner {owner} has no training image without a twin; pass fewer")
        rows[wanted == owner] = rng.choice(held, int((wanted == owner).sum()))
    return rows
