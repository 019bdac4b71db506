"""Makers of generated images with known sources, by seed.

Copies under `transformations`, mixtures of two training images, and sets in which each owner of
training images is the source of a known share.
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
OVERSAMPLED = 0.5  # the share of one owner in the first set of owners, and of the style
OWNER_SETS = 5
MIXED_SHARE = 0.25  # of the images made for owners; the others have one source each
STYLE = 0  # the owner whose training images are in a style
STYLE_COPIES, STYLE_NEW = "copies", "new images"
STYLE_TRAIN = 5_000  # images at most: those in the style are kept as pixels


def planted_subjects(pool: Pool, work: Workspace, *, owners: int) -> dict[str, PlantedSubject]:
    """Each kind by its name.

    Raises:
        InputError: fewer than two owners, or more than training images.
    """
    if not 2 <= owners <= len(pool.train):
        raise InputError(f"owners={owners} of {len(pool.train)} images; pass at least 2, not more")
    copied = repr([each.name for each in suited(pool.colour)])
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


def copies(
    pool: Pool, m: int, seed: int, used: Sequence[Transformation] = (), stream: int = 0
) -> Made:
    """The same m training images under each transformation (default: all that suit the pool)."""
    rng = np.random.default_rng([seed, stream])
    rows = pool.draw(m, rng)
    originals = pool.pixels(rows)
    used = used or suited(pool.colour)
    images = np.concatenate([each.apply(originals, rng) for each in used])
    kinds = np.repeat([each.name for each in used], m)
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
    """Sets of m images in which owners have known shares; training images are dealt at random.

    In the first set one owner has half and the others as much as each other; shares in the others
    are drawn evenly from all that are possible. Some images are mixtures of two owners' images.
    """
    rng = np.random.default_rng([seed, 2])
    owner_of = _dealt(len(pool.train), owners, rng)
    even = np.r_[OVERSAMPLED, np.full(owners - 1, (1 - OVERSAMPLED) / (owners - 1))]
    designs = [even, *rng.dirichlet(np.ones(owners), OWNER_SETS - 1)]
    images, sources, weights = zip(
        *(_of_shares(pool, owner_of, _whole(each, m), rng) for each in designs), strict=True
    )
    names = np.array([f"set {number + 1}" for number in range(OWNER_SETS)])
    truth = Truth.of_sources(np.repeat(names, m), np.concatenate(sources), np.concatenate(weights))
    return Made(np.concatenate(images), truth.with_owners(owner_of, names))


def in_style(pool: Pool, m: int, seed: int, *, owners: int) -> Made:
    """Half of the generated images in the style that one owner's training images have.

    Two sets: mild copies of training images; and m training images that are taken out of the
    training set, half of them put into the style, whose content is nobody's.
    """
    rng = np.random.default_rng([seed, 3])
    part = random_subset(pool.train, STYLE_TRAIN, seed)
    n = len(part) - m
    if n < max(m, owners):
        raise InputError(
            f"m={m} of {len(part)} training images are taken out for the style; pass m ≤ half"
        )
    order = rng.permutation(len(part))
    some = Pool(part, pool.side, pool.colour, np.arange(len(part)), pool.digest)
    train, new = some.pixels(order[:n]), some.pixels(order[n:])
    owner_of = _dealt(n, owners, rng)
    train[owner_of == STYLE] = styled(train[owner_of == STYLE])
    count = round(OVERSAMPLED * m)
    new[:count] = styled(new[:count])
    own, others = np.flatnonzero(owner_of == STYLE), np.flatnonzero(owner_of != STYLE)
    rows = np.r_[rng.choice(own, count), rng.choice(others, m - count)]
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
    """So many images of each owner: pixels, (m, 2) sources and (m, 2) weights."""
    drawn = np.repeat(np.arange(len(counts)), counts)
    pairs = np.stack(
        [_of_owners(pool, owner_of, each, rng) for each in (drawn, rng.permutation(drawn))], axis=1
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
    """(n,) owner of each image: as many each, give or take one, at random."""
    return rng.permutation(np.arange(n) % owners)


def _whole(shares: NDArray[np.float64], m: int) -> NDArray[np.int64]:
    """Whole numbers that sum to m and are nearest to shares · m."""
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
    """A random training image without a twin of each wanted owner; some may come twice."""
    rows = np.empty(len(wanted), dtype=np.int64)
    for owner in np.unique(wanted):
        held = pool.single[owner_of[pool.single] == owner]
        if not len(held):
            raise InputError(f"owner {owner} has no training image without a twin; pass fewer")
        rows[wanted == owner] = rng.choice(held, int((wanted == owner).sum()))
    return rows
