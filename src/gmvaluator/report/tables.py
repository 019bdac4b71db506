"""The tables of a whole run as the report's script opens them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.report.null import gave_nothing, match_level
from gmvaluator.report.packing import codes_of, pack_array, pack_rows, pack_strings
from gmvaluator.report.pictures import (
    CONTRIBUTORS_SHOWN,
    GALLERY_PAGE,
    STATES,
    VALUES_PAGE,
    Orders,
    Pictures,
)
from gmvaluator.runs.distribution import n_below
from gmvaluator.runs.valuation import Valuation

# pairs of a generated and a training image; 12 bytes each, before compression
MOST_PAIRS = 600_000
PICTURES_A_PART = 500
# images with no longer side are enlarged with hard pixels: smoothing would blur 28 pixels away
TINY = 64
Table = dict[str, str]


@dataclass(frozen=True, eq=False)
class Kept:
    """The part of the contributions that the file holds: generated rows, contributors of each."""

    rows: NDArray[np.int64]
    k: int


def kept(valuation: Valuation, orders: Orders) -> Kept:
    """All of a usual run; of larger ones fewer contributors, then fewer generated images."""
    m, k = valuation.contributions.rows.shape
    stored = min(k, max(CONTRIBUTORS_SHOWN, MOST_PAIRS // max(1, m)))
    return Kept(np.sort(orders.spread[: MOST_PAIRS // max(1, stored)]), stored)


def facts(valuation: Valuation, orders: Orders) -> dict[str, Any]:
    """What the script must know before it opens a table."""
    part = kept(valuation, orders)
    return {
        "n": len(valuation.train_ids),
        "m": len(valuation.generated_ids),
        "k": valuation.contributions.rows.shape[1],
        "storedK": part.k,
        "storedM": len(part.rows),
        "shown": CONTRIBUTORS_SHOWN,
        "galleryPage": GALLERY_PAGE,
        "valuesPage": VALUES_PAGE,
        "tiny": TINY,
        "part": PICTURES_A_PART,
        "states": STATES,
        "level": match_level(valuation),
        # 0: values have no shares
        "total": 0.0 if n_below(valuation.values) else float(valuation.values.sum()),
        "top": float(valuation.values.max(initial=0.0)),
    }


def tables(valuation: Valuation, orders: Orders, pictures: Pictures) -> dict[str, Table]:
    """Columns by the name that the script asks for."""
    found, part = valuation.contributions, kept(valuation, orders)
    return {
        "train-ids": pack_strings(valuation.train_ids),
        "generated-ids": pack_strings(valuation.generated_ids),
        "values": pack_array(valuation.values),
        "by-rank": pack_rows(np.argsort(valuation.ranks)),
        "supported": pack_rows(valuation.n_supported),
        # of each training image, the one that stands for it and its copies
        "leaders": pack_rows(
            np.arange(len(valuation.train_ids))
            if valuation.clusters is None
            else valuation.clusters.representatives
        ),
        "quality": pack_array(valuation.quality),
        "match": pack_array(np.zeros(0) if valuation.match_p is None else valuation.match_p),
        "nothing": pack_array(gave_nothing(valuation).astype(np.uint8)),
        "spread": pack_rows(orders.spread),
        "nearest": pack_array(found.distances[:, 0].astype(np.float32)),
        "stored": pack_rows(part.rows),
        "rows": pack_rows(found.rows[part.rows, : part.k]),
        "distances": pack_array(found.distances[part.rows, : part.k].astype(np.float32)),
        "scores": pack_array(found.scores[part.rows, : part.k].astype(np.float32)),
        "train-states": pack_array(pictures.states("train", len(valuation.train_ids))),
        "generated-states": pack_array(pictures.states("generated", len(valuation.generated_ids))),
        **_labels("train", valuation.train_labels),
        **_labels("generated", valuation.generated_labels),
        **_pictures(pictures),
    }


def parts(pictures: Pictures) -> Iterator[str]:
    """The pictures one after the other, as base64, so many a part."""
    everything = list(pictures.found.values())
    for start in range(0, len(everything), PICTURES_A_PART):
        joined = b"".join(everything[start : start + PICTURES_A_PART])
        yield base64.b64encode(joined).decode("ascii")


def _labels(side: str, labels: Sequence[str | None] | None) -> dict[str, Table]:
    """Names, and a code an image: 0 without a label, else one more than the place of its name."""
    names, codes = codes_of((None, *(labels or ())))
    return {
        f"{side}-labels": pack_strings([name or "" for name in names[1:]]),
        f"{side}-codes": pack_rows(codes[1:]),
    }


def _pictures(pictures: Pictures) -> dict[str, Table]:
    """Which image each picture is of, and its bytes, in the order of `parts`."""
    keys, found = list(pictures.found), pictures.found.values()
    return {
        "picture-of-train": pack_array(np.array([side == "train" for side, _ in keys], np.uint8)),
        "picture-rows": pack_rows(np.array([row for _, row in keys], dtype=np.int64)),
        "picture-sizes": pack_rows(np.array([len(picture) for picture in found], dtype=np.int64)),
    }
