"""GMValuator: the settings of a valuation and the order of its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.encoders import as_encoder
from gmvaluator.encoders.backends import Backend, Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import Embeddings, embed
from gmvaluator.engine.reload import check_index, named_settings, read_run, reopen
from gmvaluator.engine.stages import Stages
from gmvaluator.engine.train import fit_images
from gmvaluator.engine.trained import INDEX_MARKER, Fitted, load_fitted, save_fitted
from gmvaluator.errors import InputError, RunError
from gmvaluator.files.store import Store, as_store
from gmvaluator.geometry import Vectors
from gmvaluator.images import ImageSet, set_fingerprint
from gmvaluator.memory import parse_memory
from gmvaluator.progress import Progress, as_progress
from gmvaluator.runs.tables import FORMAT, read_marker
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.conformal import DEFAULT_LEVEL, Verdict
from gmvaluator.scoring.quality import (
    QUALITY_NAMES,
    given_quality,
    maniqa,
    quality_weights,
    realism,
    require_quality,
)
from gmvaluator.scoring.scores import (
    AnyTemperature,
    contribute,
)
from gmvaluator.settings import (
    NullChoice,
    Rerank,
    RerankTerm,
    Settings,
    check_settings,
    preset_settings,
    rerank_terms,
    resolve_counts,
)
from gmvaluator.weights import Weights

if TYPE_CHECKING:
    import torch

# weights chosen by benchmarks/class_ratio.py: pixels tell digits apart, features tell photos apart
DEFAULT_RERANK: Mapping[str, float] = MappingProxyType({"efficientnet-lite0": 1.0, "l2": 0.5})


class GMValuator:
    """Values training images by what a generative model produced (Yang et al., ICLR 2025).

    Fit once on the training images, then value any number of generated sets:

        valuator = GMValuator().fit("train/")
        valuation = valuator.value("generated/")

    Args:
        encoder: name, encoder or `torch.nn.Module` whose space candidates are recalled in.
        second_encoder: another one; half of the candidates are then recalled in its space.
        index: `auto`, `exact`, `pq`, `ivfpq` or a faiss factory string.
        rerank: one or several distances (names, encoders, or {name: weight}), or `none`.
        quality: `realism`, `maniqa`, `none`, an array of m numbers, or a function of the
            generated `ImageSet` that returns one.
        k: contributors a generated image (default 50, or all of a smaller set).
        candidates: training images recalled before the re-rank (default 200, likewise).
        dedup: copies within the training set that count once, as one image whose score they share:
            `exact` (equal pixels), `near` (by the re-rank distance as well), or `none`.
        weighting: `softmax` (Eq. 6), `shapley` (of nearest-neighbour coverage), `ridge` (kernel
            ridge in the recall space, within the candidates) or `global-ridge` (among all).
        temperature: τ of Eq. 6; `auto`: each generated image's own, by its perplexity; or
            `spacing`: a twentieth of the median distance from a training image to the next one.
        mirror: compare each generated image and its mirror image; the nearer counts.
        null: what happens to generated images that match the training set no better than images
            outside it do (`gmvaluator.scoring.conformal`): `report` counts them and leaves their
            scores, `withhold` gives their scores to no training image, `off` does not test.
        null_level: share of images that are wrongly found to have no contributor, at most.
        seed: of the index training.
        device: `auto`, `cpu` or `cuda`.
        backend: `auto`, `torch` or `openvino`.
        weights: where network weights come from; a mapping names files, {"maniqa": "m.pt"}.
        cache: keep embeddings and indexes, and take what was kept: in the user's cache folder
            (True), in a folder of yours, or not at all (False).
        memory: what the long arrays may take together, such as "4GB" (default 4 GiB).
        progress: True for bars on standard error, or an object with `stage`.

    Attributes:
        fitted_: learned state, after `fit`.

    Raises:
        InputError: a setting that cannot work.
    """

    def __init__(
        self,
        *,
        encoder: str | Encoder | torch.nn.Module = "efficientnet-lite0",
        second_encoder: str | Encoder | torch.nn.Module | None = None,
        index: str = "auto",
        rerank: Rerank = DEFAULT_RERANK,
        quality: object = "realism",
        k: int | None = None,
        candidates: int | None = None,
        weighting: str = "softmax",
        temperature: AnyTemperature = 1.0,
        mirror: bool = False,
        dedup: str = "exact",
        null: NullChoice = "report",
        null_level: float = DEFAULT_LEVEL,
        seed: int = 0,
        device: str = "auto",
        backend: Backend = "auto",
        weights: Weights | Mapping[str, str | Path] | None = None,
        cache: bool | str | Path | Store = True,
        memory: int | str | None = None,
        progress: bool | Progress = False,
    ) -> None:
        self._store = as_store(cache)
        self._weights = weights if isinstance(weights, Weights) else self._named_weights(weights)
        self._memory = parse_memory(memory)
        self._runtime = Runtime(device, backend)
        self._runtime.resolved()
        self._progress = as_progress(progress)
        self._terms = rerank_terms(rerank)
        second_encoder = None if second_encoder == "none" else second_encoder
        own, second = (
            None if each is None or isinstance(each, str) else self._as_encoder(each)
            for each in (encoder, second_encoder)
        )
        if isinstance(quality, str) and quality not in QUALITY_NAMES:
            raise InputError(
                f"unknown quality {quality!r}; choose one of {', '.join(QUALITY_NAMES)}, "
                "or pass an array or a function"
            )
        self._quality = quality
        self.settings = Settings(
            encoder=encoder if isinstance(encoder, str) else own.name if own else "",
            second_encoder=second.name if second else cast("str | None", second_encoder),
            index=index,
            rerank=tuple((term.name, term.weight) for term in self._terms),
            quality=quality if isinstance(quality, str) else "given",
            k=k,
            candidates=candidates,
            weighting=weighting,
            temperature=temperature,
            mirror=mirror,
            dedup=dedup,
            null=null,
            null_level=null_level,
            seed=seed,
        )
        check_settings(self.settings)
        # a named encoder is loaded last: mistakes in cheaper settings are told at once
        self._encoder = own or self._as_encoder(encoder)
        self._encoders = [self._encoder]
        if second_encoder is not None:
            self._encoders.append(second or self._as_encoder(second_encoder))
            if self._encoders[1].fingerprint == self._encoder.fingerprint:
                raise InputError(
                    f"second_encoder is the encoder, {self._encoder.name}; pass another one, or "
                    "leave it out"
                )
        given = [term.encoder for term in self._terms if not isinstance(term.encoder, str)]
        _check_names([*self._encoders, *given])
        self.fitted_: Fitted | None = None
        self._train: ImageSet | None = None
        names = (self.settings.encoder, self.settings.second_encoder or "")
        self._rerankers: dict[str, Encoder] = dict(zip(names, self._encoders, strict=False))
        self._kept_stages: Stages | None = None

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """A valuator by the name of its settings (`gmvaluator.settings.PRESETS`).

        `offline`: the default. `paper`: CLIP, PQ, DreamSim, MANIQA, as published. `robust` finds
        copies that were compressed, cropped or mirrored, and tells owners' shares: recall by
        features and by small pixels, mirror images, a temperature of the data's scale.
        `counterfactual` says best what retraining without an image shows: kernel ridge on pixels
        among all training images (docs/truth.md).

        Args:
            changes: settings to replace or add.

        Raises:
            InputError: unknown preset.
        """
        return cls(**(preset_settings(name) | changes))

    def fit(self, train: object, *, strict: bool = False) -> Self:
        """Embed the training images and learn everything a valuation needs of them.

        Args:
            train: any source of `ImageSet`.
            strict: fail on the first image that cannot be read instead of skipping it.

        Raises:
            InputError: no readable image, fewer than k or candidates once copies count once, or
                a bad source.
            MissingPackageError, MissingWeightsError: what the settings need is not at hand.
        """
        images = ImageSet.open(train)
        resolve_counts(self.settings, len(images))
        rerankers = self.require()
        self.fitted_ = fit_images(
            images,
            self._encoders,
            rerankers,
            self.settings,
            strict=strict,
            memory=self._memory,
            progress=self._progress,
        )
        self._train = images
        self._kept_stages = None
        return self

    def value(
        self, generated: object, *, holdout: object = None, strict: bool = False
    ) -> Valuation:
        """Value the fitted training images by a set of generated ones.

        Args:
            generated: any source of `ImageSet`.
            holdout: images of the same kind that the model was not trained on, from any source;
                what has no contributor is then found by them, not by leaving training images out.
            strict: fail on the first image that cannot be read instead of skipping it.

        Raises:
            InputError: not fitted, no readable image, a bad source, or, with null='withhold',
                too few images to tell what has no contributor.
            RunError: a training image changed since the index was made.
        """
        fitted = self._require_fitted()
        stages = self._stages(fitted)
        images = ImageSet.open(generated)
        others = None if holdout is None else ImageSet.open(holdout)
        seconds = dict(fitted.seconds)
        with _timed(seconds, "embed generated"):
            embeddings = embed(
                images,
                self._encoder,
                strict=strict,
                memory=self._memory,
                progress=self._progress,
                stage="embed generated",
            )
            placed = stages.recaller.place(images, embeddings)
            # the images as they are: mirror images, if any, come after them
            vectors = placed[0][: len(embeddings.rows)]
        distinct = fitted.distinct
        k, n_candidates = resolve_counts(
            self.settings, len(distinct.ids), copies=len(fitted.train.ids) - len(distinct.ids)
        )
        with _timed(seconds, "recall"):
            index_names, candidates = stages.recall(placed, n_candidates)
        train_side, generated_side = stages.sides(images, embeddings, placed)
        with _timed(seconds, "null"):
            measure = stages.measure(train_side, n_candidates)
            null = stages.null(measure, others, strict=strict)
        with _timed(seconds, "rerank"):
            ranked = stages.rank(candidates, train_side, generated_side)
        with _timed(seconds, "weights"):
            contributors = stages.weigh(candidates, ranked, vectors, k)
        with _timed(seconds, "quality"):
            quality = self._measure_quality(fitted, images, embeddings, vectors)
        with _timed(seconds, "values"):
            temperature = stages.temperature(train_side)
            contributions = contribute(
                contributors,
                quality,
                weighting=self.settings.weighting,
                temperature=temperature,
            )
            verdict = None
            if null is not None:
                both = None if candidates is None or ranked is None else (candidates, ranked)
                strangeness = measure.of_generated(generated_side, placed, both)
                verdict = Verdict.of(null, strangeness, self.settings.null_level)
            if verdict is not None and self.settings.null == "withhold":
                contributions = contributions.without(verdict.without)
        labels = images.labels
        resolved = replace(self.settings, k=k, candidates=n_candidates)
        ids = tuple(images.ids[row] for row in embeddings.rows)
        return Valuation(
            train_ids=fitted.train.ids,
            train_labels=fitted.train.labels,
            generated_ids=ids,
            generated_labels=None if labels is None else tuple(labels[r] for r in embeddings.rows),
            quality=quality,
            contributions=replace(
                contributions,
                rows=fitted.in_whole(contributions.rows),
                n_train=len(fitted.train.ids),
            ),
            skipped=(
                *(("train", skip) for skip in fitted.train.skipped),
                *(("generated", skip) for skip in embeddings.skipped),
                *(("holdout", skip) for skip in (null.skipped if null else ())),
            ),
            info={
                "format": FORMAT,
                "settings": resolved.as_json()
                | {"index_used": ", ".join(index_names), "temperature_used": temperature},
                "n_train": len(fitted.train.ids),
                "n_generated": len(ids),
                "versions": versions.installed(),
                "weights": fitted.weights | quality_weights(self.settings.quality, self._weights),
                "encoders": fitted.encoders,
                "seed": self.settings.seed,
                "device": self._runtime.resolved()[0],
                "images": {
                    "train": train_side.tally.as_json(),
                    "generated": generated_side.tally.as_json(),
                },
                "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
                "inputs": {
                    "train": _input(fitted.train.location, fitted.train.fingerprint),
                    "generated": _input(images.location, set_fingerprint(ids, embeddings.keys)),
                }
                | (
                    {"holdout": _input(null.source, null.fingerprint)}
                    if null is not None and null.fingerprint is not None
                    else {}
                ),
            }
            | (
                {"unattributed": verdict.as_json(quality, applied=self.settings.null == "withhold")}
                if verdict is not None
                else {}
            ),
            train_keys=fitted.train.keys,
            generated_keys=embeddings.keys,
            clusters=fitted.clusters,
            match_p=None if verdict is None else verdict.p,
        )

    def require(self) -> list[Encoder]:
        """Load everything the settings need, before any long work; returns the re-rank encoders.

        Raises:
            MissingPackageError, MissingWeightsError: what is not at hand.
        """
        require_quality(self.settings.quality, self._weights)
        return [self._load(term) for term in self._terms]

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the fitted state to an index folder; `load` brings it back without embedding.

        Raises:
            InputError: not fitted.
            RunError: the folder holds another index (unless `overwrite`), or cannot be written.
        """
        save_fitted(
            self._require_fitted(), self.settings.as_json(), Path(path), overwrite=overwrite
        )

    @classmethod
    def load(cls, path: str | Path, *, train: object = None, **changes: Any) -> Self:
        """A fitted valuator from an index folder.

        Args:
            path: folder that `save` or `gmvaluator embed` wrote.
            train: the training images, where they are no longer where the index was made from.
            changes: settings to change; those that fitting depends on must stay.

        Raises:
            RunError: no index there, or one that other settings, weights or images made.
        """
        folder = Path(path)
        marker = read_marker(folder, INDEX_MARKER, "index")
        fitted = load_fitted(folder, marker)
        valuator = cls(**named_settings(marker["settings"], changes, f"index {folder}"))
        check_index(fitted, valuator.settings, valuator._encoders, valuator.require(), folder)
        location = fitted.train.location if train is None else train
        if location is not None:
            valuator._train = reopen(location, fitted.train, folder)
        valuator.fitted_ = fitted
        return valuator

    @classmethod
    def refit(
        cls, run: str | Path, *, train: object = None, strict: bool = False, **changes: Any
    ) -> Self:
        """A valuator fitted as the one that made a saved run.

        The holdout of the run, if it had one, is to be passed to `value` again; the command
        `gmvaluator value RUN …` does so by itself.

        Args:
            run: run folder that `Valuation.save` or `gmvaluator value` wrote.
            train: the training images, where they are no longer where the run had them.
            strict: as for `fit`.
            changes: settings to change.

        Raises:
            RunError: no run there, or its training images are others now.
        """
        saved = read_run(Path(run))
        source = saved.source if train is None else train
        if source is None:
            raise InputError(
                f"run {run} was made from images in memory; pass the training images "
                "(train=…, --train-images)"
            )
        valuator = cls(**named_settings(saved.settings, changes, f"run {run}"))
        fitted = valuator.fit(source, strict=strict)._require_fitted()
        if fitted.train.fingerprint != saved.fingerprint:
            raise RunError(
                f"the training images of run {run} have changed since; make the run again"
            )
        return valuator

    def _require_fitted(self) -> Fitted:
        if self.fitted_ is None:
            raise InputError("the valuator is not fitted; call fit(train) or load an index first")
        return self.fitted_

    def _stages(self, fitted: Fitted) -> Stages:
        if self._kept_stages is None:
            self._kept_stages = Stages(
                fitted,
                self._train,
                self.settings,
                encoders=self._encoders,
                rerankers=[self._load(term) for term in self._terms],
                store=self._store,
                memory=self._memory,
                progress=self._progress,
            )
        return self._kept_stages

    def _load(self, term: RerankTerm) -> Encoder:
        """The encoder of a re-rank term, built once."""
        if term.name not in self._rerankers:
            self._rerankers[term.name] = self._as_encoder(term.encoder)
        return self._rerankers[term.name]

    def _as_encoder(self, encoder: str | Encoder | torch.nn.Module) -> Encoder:
        return as_encoder(encoder, self._weights, self._runtime, self._store)

    def _named_weights(self, paths: Mapping[str, str | Path] | None) -> Weights:
        named = {name: Path(path) for name, path in (paths or {}).items()}
        return Weights(named, self._store.folder / "weights" if self._store else None)

    def _measure_quality(
        self, fitted: Fitted, images: ImageSet, embeddings: Embeddings, vectors: Vectors
    ) -> NDArray[np.float64]:
        if not isinstance(self._quality, str):
            return given_quality(self._quality, images, embeddings.rows)
        if self._quality == "none":
            return np.ones(len(vectors), dtype=np.float64)
        if self._quality == "maniqa":
            device = self._runtime.resolved()[0]
            return maniqa(
                images, embeddings.rows, self._weights, device=device, progress=self._progress
            )
        if fitted.realism is None:
            raise RunError("the index holds no realism reference; fit again")
        return realism(vectors, fitted.vectors, fitted.realism)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def _input(location: str | None, fingerprint: str) -> dict[str, str | None]:
    return {"source": location, "fingerprint": fingerprint}


def _check_names(encoders: Sequence[Encoder]) -> None:
    """Refuse encoders that differ and share a name: settings and indexes know them by it."""
    known: dict[str, str] = {}
    for each in encoders:
        if known.setdefault(each.name, each.fingerprint) != each.fingerprint:
            raise InputError(
                f"two encoders are called {each.name}; give one another name (wrap(…, name=…))"
            )
