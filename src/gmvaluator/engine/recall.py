"""Recall against one training set: its spaces, its indexes, its ties."""

from __future__ import annotations

from gmvaluator.engine.context import Context
from gmvaluator.engine.trained import Trained
from gmvaluator.matching.placed import PlacedSet, RecallSpace
from gmvaluator.matching.recall import Candidates, recall
from gmvaluator.matching.search.indexes import Index
from gmvaluator.matching.search.kept import open_kept_index


def find_candidates(context: Context, trained: Trained, batch: PlacedSet, n: int) -> Candidates:
    """The n candidates of each image; see `gmvaluator.matching.recall.recall`."""

    def open_index(recall_space: RecallSpace, name: str) -> Index:
        return trained.memo.get(
            ("index", recall_space.encoder.fingerprint, name),
            lambda: open_kept_index(
                name,
                recall_space,
                context.store,
                train=trained.distinct.fingerprint,
                order=trained.order,
                seed=context.settings.seed,
            ),
        )

    return recall(
        trained.spaces,
        batch,
        n,
        index=context.settings.index,
        open_index=open_index,
        ties=trained.ties,
        budget=context.budget,
        progress=context.progress,
    )
