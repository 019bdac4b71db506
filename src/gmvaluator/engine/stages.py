"""The stages of a valuation against one fitted training set, in the order that `valuator` has.

What they learn of the training set the first time is kept for the next generated set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Embeddings
from gmvaluator.engine.null_sample import Measure, held_out, leave_one_out
from gmvaluator.engine.recalling import Recaller
from gmvaluator.engine.train import learn_spacing
from gmvaluator.engine.trained import Fitted
from gmvaluator.engine.weighing import RidgeWeigher
from gmvaluator.errors import InputError
from gmvaluator.files.store import Store
from gmvaluator.geometry import Vectors
from gmvaluator.images import ImageSet
from gmvaluator.matching.recall import Candidates
from gmvaluator.matching.rerank import Contributors, Side, Term, rerank
from gmvaluator.progress import Progress
from gmvaluator.scoring.conformal import Null
from gmvaluator.scoring.scores import RIDGES, SPACING_SHARE, Temperature
from gmvaluator.settings import Settings


class Stages:
    """The stages between the embeddings of a generated set and its contributors.

    Args:
        fitted: the training set.
        train: its images; None where they are not at hand.
        settings: of the valuation.
        encoders: of the recall spaces.
        rerankers: one for each distance of the re-rank, as the settings list them.
        store: where trained indexes are kept; None keeps them in memory only.
        memory: bytes that may be used.
        progress: hears how far it is.
    """

    def __init__(
        self,
        fitted: Fitted,
        train: ImageSet | None,
        settings: Settings,
        *,
        encoders: Sequence[Encoder],
        rerankers: Sequence[Encoder],
        store: Store | None,
        memory: int,
        progress: Progress,
    ) -> None:
        self.fitted = fitted
        self.train = train
        self.settings = settings
        self.encoders = encoders
        self.rerankers = rerankers
        self.store = store
        self.memory = memory
        self.progress = progress
        self._spacing: float | None = None
        self._left_out: Null | None = None

    @cached_property
    def recaller(self) -> Recaller:
        """Finds candidates; keeps its indexes."""
        return Recaller(
            self.fitted, self.encoders, self.settings, self.store, self.memory, self.progress
        )

    @cached_property
    def weigher(self) -> RidgeWeigher:
        """Weights of the ridge regressions; keeps what it solved."""
        return RidgeWeigher(self.fitted, self.settings.seed, self.memory)

    @cached_property
    def terms(self) -> list[Term]:
        """The distances of the re-rank, with their weights and scales."""
        weights = [weight for _, weight in self.settings.rerank]
        return [
            Term(encoder, learned.space, weight, learned.scale)
            for encoder, weight, learned in zip(
                self.rerankers, weights, self.fitted.terms, strict=True
            )
        ]

    def recall(
        self, generated: Sequence[Vectors], n_candidates: int
    ) -> tuple[tuple[str, ...], Candidates | None]:
        """The indexes that were taken and what they found; nothing where all images take part."""
        m = len(generated[0])
        if self.settings.weighting == "global-ridge" and self.weigher.exact(m):
            return ("none",), None
        return self.recaller.find(generated, n_candidates)

    def temperature(self, train: Side) -> Temperature:
        """What the settings ask for, as numbers where the training images decide."""
        if self.settings.temperature != "spacing":
            return self.settings.temperature
        if self._spacing is None:
            fitted = self.fitted
            self._spacing = learn_spacing(
                self.terms, train, fitted.space, fitted.vectors, fitted.order
            )
        return SPACING_SHARE * self._spacing

    def measure(self, train: Side, n_candidates: int) -> Measure:
        """What tells how badly an image matches the training set."""
        return Measure(
            self.fitted,
            self.recaller,
            self.terms,
            train,
            candidates=n_candidates,
            mirror=self.settings.mirror,
            memory=self.memory,
            progress=self.progress,
        )

    def null(self, measure: Measure, holdout: ImageSet | None, *, strict: bool) -> Null | None:
        """The null sample; None where no test is asked for.

        Raises:
            InputError: a holdout without a test, or, with null='withhold', too few images to tell.
        """
        level = self.settings.null_level
        if self.settings.null == "off":
            if holdout is not None:
                raise InputError(
                    "null='off' leaves out the test that a holdout is for; pass null='report' or "
                    "'withhold', or leave the holdout out"
                )
            return None
        if holdout is not None:
            null = held_out(measure, holdout, self.encoders, level, strict=strict)
        else:
            if self._left_out is None:
                self._left_out = leave_one_out(measure, self.train, level)
            null = self._left_out
        if self.settings.null == "withhold" and (reason := null.needs(level)):
            raise InputError(
                f"null='withhold' needs to tell which images have no contributor, but {reason}"
            )
        return null

    def rank(
        self, candidates: Candidates | None, train: Side, generated: Side
    ) -> Contributors | None:
        """All candidates, nearest first; nothing where ridge weights among all are to choose."""
        if candidates is None or self.settings.weighting == "global-ridge":
            return None
        return rerank(
            candidates,
            train,
            generated,
            self.terms,
            candidates.rows.shape[1],
            ties=self.fitted.ties,
            memory=self.memory,
            progress=self.progress,
        )

    def weigh(
        self,
        candidates: Candidates | None,
        ranked: Contributors | None,
        generated: Vectors,
        k: int,
    ) -> Contributors:
        """The contributors, with ridge weights where these were asked for."""
        if ranked is not None and self.settings.weighting not in RIDGES:
            return ranked.nearest(k)
        with self.progress.stage("weights (ridge)", len(generated)) as advance:
            if ranked is None:
                weighed = self.weigher.globally(generated, candidates, k)
            else:
                # without a re-rank the weights choose among all candidates
                among = ranked.nearest(k) if self.terms else ranked
                weighed = self.weigher.within(among, generated, k)
            advance(len(generated))
        return weighed

    def sides(
        self,
        images: ImageSet,
        embeddings: Embeddings,
        generated: Sequence[Vectors],
    ) -> tuple[Side, Side]:
        """What the re-rank compares: (training images, generated images).

        Raises:
            InputError: the re-rank needs the training images, and they are not at hand.
        """
        own = [encoder.fingerprint for encoder in self.encoders]
        if self.train is None and any(each.fingerprint not in own for each in self.rerankers):
            raise InputError(
                "re-ranking reads the training images, and this index was made from images in "
                "memory; pass them: GMValuator.load(path, train=images)"
            )
        return (
            Side(
                self.train if self.train is not None else images,
                self.fitted.distinct.rows,
                {name: each.vectors for name, each in zip(own, self.fitted.spaces, strict=True)},
                self.fitted.distinct.keys,
                self.fitted.tally.copy(),
            ),
            Side(
                images,
                embeddings.rows,
                dict(zip(own, generated, strict=True)),
                tally=embeddings.tally,
                mirrored=self.settings.mirror,
            ),
        )
