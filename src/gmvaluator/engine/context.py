"""What computing a valuation needs beside the images: settings, networks, memory, progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gmvaluator.encoders.base import Encoder
from gmvaluator.errors import InputError
from gmvaluator.files.store import Store
from gmvaluator.memory import Budget
from gmvaluator.progress import Progress
from gmvaluator.scoring.quality import Quality
from gmvaluator.scoring.weightings import Weighting, weighting_named
from gmvaluator.settings import Settings
from gmvaluator.weights import Weights


@dataclass(frozen=True, eq=False)
class Context:
    """What the stages of a valuation share; it holds no image.

    Attributes:
        settings: of the valuation.
        encoders: of the recall spaces, one or two.
        rerankers: encoders of the re-rank distances, in the order of `settings.rerank`.
        quality: measures q_j.
        domain: encoder of the small pictures that `null_measure` or quality `domain` looks at;
            else None.
        weights: where network weights come from.
        device: of torch, `cpu` or `cuda`.
        store: where embeddings and indexes are kept; None: nowhere.
        budget: of memory.
        progress: counts what the stages do.
    """

    settings: Settings
    encoders: tuple[Encoder, ...]
    rerankers: tuple[Encoder, ...]
    quality: Quality
    weights: Weights
    device: str
    store: Store | None
    budget: Budget
    progress: Progress
    domain: Encoder | None = None

    @property
    def weighting(self) -> Weighting:
        """The weighting of the settings."""
        return weighting_named(self.settings.weighting)

    @property
    def rerank_weights(self) -> tuple[float, ...]:
        """Weight of each re-rank distance in the weighted mean."""
        return tuple(weight for _, weight in self.settings.rerank)

    def all_encoders(self) -> dict[str, Encoder]:
        """Every encoder by name, those of the recall first."""
        return {encoder.name: encoder for encoder in (*self.encoders, *self.rerankers)}


def check_names(encoders: Iterable[Encoder]) -> None:
    """Raise InputError where two different encoders share a name: settings know them by name."""
    fingerprints: dict[str, str] = {}
    for encoder in encoders:
        if fingerprints.setdefault(encoder.name, encoder.fingerprint) != encoder.fingerprint:
            raise InputError(
                f"two encoders are called {encoder.name}; give one another name (wrap(…, name=…))"
            )
