"""The encoder of mirror images: the vectors of another encoder of images flipped left to right."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Encoder, arithmetic_of
from gmvaluator.files.store import Table
from gmvaluator.geometry import Metric
from gmvaluator.images import Preprocessing
from gmvaluator.weights import WeightFile

FORM = "mirrored"


def mirrored_of(encoder: Encoder) -> Mirrored:
    """The `Mirrored` of an encoder, made once: its table lists the shards on disk once."""
    mirrored: Mirrored | None = getattr(encoder, "_mirrored", None)
    if mirrored is None:
        mirrored = Mirrored(encoder)
        # an object that takes no attributes gets a new one at each call
        with suppress(AttributeError):
            encoder._mirrored = mirrored  # type: ignore[attr-defined]
    return mirrored


class Mirrored:
    """An `Encoder` of the images flipped left to right; it shares the network of `encoder`.

    The store keeps its vectors in a table beside that of `encoder`.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        table: Table | None = getattr(encoder, "table", None)
        self.table = None if table is None else table.beside(FORM)

    @property
    def name(self) -> str:
        return f"{self._encoder.name} {FORM}"

    @property
    def metric(self) -> Metric:
        return self._encoder.metric

    @property
    def preprocessing(self) -> Preprocessing:
        return self._encoder.preprocessing

    @property
    def fingerprint(self) -> str:
        return f"{self._encoder.fingerprint}|{FORM}"

    @property
    def arithmetic(self) -> str | None:
        return arithmetic_of(self._encoder)

    @property
    def weights(self) -> tuple[WeightFile, ...]:
        return self._encoder.weights

    def prepare(self) -> None:
        """Compile the network that both share."""
        self._encoder.prepare()

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, H, W) uint8 RGB → (B, dim) float32, of the images flipped left to right."""
        # a copy: `ascontiguousarray` leaves images of one column with a negative stride
        return self._encoder.encode(pixels[..., ::-1].copy())
