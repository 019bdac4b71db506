"""GMValuator: settings in, a valuation out; a facade over `gmvaluator.engine`."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from gmvaluator.encoders import as_encoder
from gmvaluator.encoders.backends import Backend, Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.engine.context import Context, check_names
from gmvaluator.engine.index_folder import (
    check_encoders,
    load_trained,
    save_trained,
)
from gmvaluator.engine.kept_results import hold_all
from gmvaluator.engine.reload import check_fitting, named_settings, recorded_holdout, reopened
from gmvaluator.engine.train import fit_images
from gmvaluator.engine.trained import Trained
from gmvaluator.engine.value import value_images
from gmvaluator.errors import InputError, RunError, SettingError, either
from gmvaluator.files.store import Store, as_store
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.matching.rerank import Mixing
from gmvaluator.memory import Budget, parse_memory
from gmvaluator.places import INDEX_FOLDER
from gmvaluator.progress import Progress, as_progress
from gmvaluator.runs.images import open_recorded, pass_images
from gmvaluator.runs.record import check_by_gmvaluator, read_marker, read_record
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.conformal import DEFAULT_LEVEL
from gmvaluator.scoring.quality import QualitySource, as_quality
from gmvaluator.scoring.weightings import weighting_named
from gmvaluator.scoring.weightings.softmax import AnyTemperature
from gmvaluator.settings import (
    DEFAULT_ENCODER,
    DEFAULT_WEIGHTING,
    DOMAIN_ENCODER,
    NullChoice,
    NullMeasure,
    Rerank,
    Settings,
    check_settings,
    default_parts,
    name_of,
    preset_settings,
    rerank_terms,
)
from gmvaluator.weights import Weights

if TYPE_CHECKING:
    import torch


class GMValuator:
    """Values training images by what a generative model produced (Yang et al., ICLR 2025).

    Fit once on the training images, then value any number of generated sets:

        valuator = GMValuator().fit("train/")
        valuation = valuator.value("generated/")

    Args:
        encoder: name, encoder or `torch.nn.Module` of the space that candidates are recalled in.
        second_encoder: encoder of a second recall space, which then gives half of the candidates;
            None: one space. `auto`: pixels@14 where there is a re-rank and another encoder.
        index: `auto`, `exact`, `pq`, `ivfpq` or a faiss factory string.
        rerank: one or several distances (names, encoders, or {name: weight}), or `none`. `auto`:
            efficientnet-lite0 (1) and pixels@14 (2), or none where the weighting ranks none.
        quality: `domain`, `realism`, `maniqa`, `none`, an array of m numbers, or a function of the
            generated `ImageSet` that returns one.
        k: contributors per generated image (default 50, or all of a smaller set).
        candidates: training images recalled before the re-rank (default 200, or all of a smaller
            set).
        dedup: copies within the training set that count once, as one image whose score they share:
            `exact` (equal pixels), `near` (a small re-rank distance as well), or `none`.
        weighting: `expected-rank` (by how many training images one expects to be nearer, and by
            how much an image adds to the others), `softmax` (Eq. 6), `shapley` (of
            nearest-neighbour coverage), `ridge` (kernel ridge in the recall space, within the
            candidates) or `global-ridge` (among all).
        temperature: how evenly contributors share. With `expected-rank` a number (default 0.7), for
            any data; with `softmax` τ of Eq. 6 in the unit of the distances (default 1.0), or
            `spacing/N`, an N-th of the median distance from a training image to the next one, of
            which `spacing` is `spacing/20`. `auto`: one τ per generated image, by its perplexity.
        mirror: compare each generated image and its mirror image; the nearer counts. `auto`: where
            the weighting can.
        mixing: how several re-rank distances become one: `decisive`, where a distance counts more
            for a generated image that it matches decisively and closely
            (`gmvaluator.matching.rerank.decisive_mean`), or `fixed`, their weighted mean.
        null: what the test for images without a contributor does (`gmvaluator.scoring.conformal`):
            `report` these images, `withhold` their quality from all contributors, or `off`.
        null_level: share of images that the test wrongly finds to have no contributor, at most.
        null_measure: what the test calls strange: an image far from its `neighbours`
            (`gmvaluator.engine.strangeness`), or beyond the `domain` of the training images
            (`gmvaluator.engine.domain`), which blur does not leave.
        seed: of the index training.
        device: `auto`, `cpu` or `cuda`.
        backend: `auto`, `torch` or `openvino`.
        weights: where network weights come from; a mapping names files, {"maniqa": "m.pt"}. These
            settings must use all of them.
        cache: keep embeddings and indexes, and reuse those that are kept: in the user's cache
            folder (True), in a folder of yours, or not at all (False).
        memory: bytes that the long arrays take together, such as "4GB" (default 4 GiB).
        progress: True for bars on standard error, or an object with `stage`.

    Attributes:
        settings: the `Settings`. They stay: to assign one is an error. `Valuation.reweigh` changes
            those that need no fitting.
        fitted_: learned state, after `fit`.

    Raises:
        InputError: a setting that cannot work.
    """

    settings: Settings

    def __init__(
        self,
        *,
        encoder: str | Encoder | torch.nn.Module = DEFAULT_ENCODER,
        second_encoder: str | Encoder | torch.nn.Module | None = "auto",
        index: str = "auto",
        rerank: Rerank = "auto",
        quality: QualitySource = "domain",
        k: int | None = None,
        candidates: int | None = None,
        weighting: str = DEFAULT_WEIGHTING,
        temperature: AnyTemperature | None = None,
        mirror: bool | Literal["auto"] = "auto",
        dedup: str = "exact",
        null: NullChoice = "report",
        null_level: float = DEFAULT_LEVEL,
        mixing: Mixing = "decisive",
        null_measure: NullMeasure = "domain",
        seed: int = 0,
        device: str = "auto",
        backend: Backend = "auto",
        weights: Weights | Mapping[str, str | Path] | None = None,
        cache: bool | str | Path | Store = True,
        memory: int | str | None = None,
        progress: bool | Progress = False,
    ) -> None:
        self._store = as_store(cache)
        # others may share a `Weights`, and need files that these settings do not
        self._own_weights = not isinstance(weights, Weights)
        self._weights = _as_weights(weights, self._store)
        self._budget = Budget(parse_memory(memory))
        self._runtime = Runtime(device, backend)
        self._runtime.resolved()
        self._progress = as_progress(progress)
        self._quality = as_quality(quality)
        self._encoders: dict[str, Encoder] = {}
        named_weighting = weighting_named(weighting)
        first = encoder.name if isinstance(encoder, Encoder) else encoder
        parts = default_parts(first if isinstance(first, str) else "", rerank, named_weighting)
        second_encoder = parts[0] if second_encoder == "auto" else second_encoder
        mirror = parts[2] if mirror == "auto" else mirror
        self._rerank = rerank_terms(parts[1])
        # names are loaded last: a mistake in a cheaper setting is reported at once
        recall = [encoder] if second_encoder in (None, "none") else [encoder, second_encoder]
        named = [part if isinstance(part, str) else self._load(part) for part in recall]
        names = [name_of(part) for part in named]
        settings = Settings(
            encoder=names[0],
            second_encoder=names[1] if len(names) > 1 else None,
            index=index,
            rerank=tuple((name_of(part), weight) for part, weight in self._rerank),
            quality=self._quality.name,
            k=k,
            candidates=candidates,
            weighting=weighting,
            temperature=(
                named_weighting.default_temperature if temperature is None else temperature
            ),
            mirror=mirror,
            dedup=dedup,
            null=null,
            null_level=null_level,
            mixing=mixing,
            null_measure=null_measure,
            seed=seed,
        )
        # as it is: `__setattr__` refuses every later change
        object.__setattr__(self, "settings", check_settings(settings))
        self._recall = tuple(self._load(part) for part in named)
        if len({part.fingerprint for part in self._recall}) < len(self._recall):
            raise InputError(
                f"{either('second_encoder', '--second-encoder')} is the encoder, "
                f"{self._recall[0].name}; pass another one, or "
                "leave it out"
            )
        check_names(
            [*self._recall, *(part for part, _ in self._rerank if not isinstance(part, str))]
        )
        self._holdout: ImageSet | None = None
        self.fitted_: Trained | None = None

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse settings, and names that no valuator has: to set them would change no value.

        Raises:
            SettingError: what to do instead.
        """
        known = name == "fitted_" or name.startswith("_") or hasattr(type(self), name)
        if name != "settings" and name not in _ARGUMENTS and known:
            super().__setattr__(name, value)
            return
        if name not in ("settings", *_ARGUMENTS):
            raise SettingError(
                f"a valuator has no setting {name!r}; pass settings to GMValuator(…), one of "
                f"{', '.join(_ARGUMENTS)}"
            )
        again = ""
        if name in (*_WEIGHED, "settings"):
            changed = "…" if name == "settings" else f"{name}=…"
            again = f", or weigh a valuation again: valuation.reweigh({changed})"
        raise SettingError(
            f"{name} of a valuator cannot be changed; make another valuator: "
            f"GMValuator({'' if name == 'settings' else f'{name}='}…){again}"
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """A valuator by the name of its settings (`gmvaluator.settings.PRESETS`).

        `offline`: the default, which names the source of a picture: recall by features and by small
        pixels, mirror images, shares by expected rank. `offline-1`: the default before that.
        `paper`: CLIP, PQ, DreamSim, MANIQA, as published. `robust` finds copies that were
        compressed, cropped or mirrored too, with shares by distance.
        `counterfactual` predicts best what retraining without an image shows: kernel ridge on
        pixels among all training images (docs/truth.md).

        Args:
            changes: settings to replace or add.

        Raises:
            InputError: unknown preset.
        """
        return cls(**(preset_settings(name) | changes))

    def fit(self, train: ImageSource, *, strict: bool = False) -> Self:
        """Embed the training images and learn everything that a valuation needs.

        Args:
            train: any source of `ImageSet`.
            strict: fail on the first image that cannot be read instead of skipping it.

        Raises:
            InputError: no readable image, fewer different images than k or candidates, or a bad
                source.
            MissingPackageError, MissingWeightsError: what the settings need is not at hand.
        """
        images = ImageSet.open(train)
        self.fitted_ = fit_images(self._context(), images, strict=strict)
        return self

    def value(
        self, generated: ImageSource, *, holdout: ImageSource | None = None, strict: bool = False
    ) -> Valuation:
        """Value the fitted training images by a set of generated images.

        Args:
            generated: any source of `ImageSet`.
            holdout: images of the same kind that the model was not trained on, from any source.
                The test for images without a contributor then compares with these images. Default:
                the holdout of the run, after `refit`; else the test compares with training images,
                each left out in turn.
            strict: fail on the first image that cannot be read instead of skipping it.

        Raises:
            InputError: not fitted, no readable image, a bad source, or, with null `withhold`, too
                few images to tell which have no contributor.
            RunError: a training image changed since the index was made.
        """
        trained = self._require_fitted()
        images = ImageSet.open(generated)
        others = self._holdout if holdout is None else ImageSet.open(holdout)
        return value_images(self._context(), trained, images, others, strict=strict)

    def require(self) -> None:
        """Load everything that the settings need, before any long work.

        Raises:
            MissingPackageError, MissingWeightsError: what is not at hand.
        """
        self._context()

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the fitted state to an index folder; `load` brings it back without embedding.

        Raises:
            InputError: not fitted.
            RunError: the folder holds another index (unless `overwrite`), or cannot be written.
        """
        trained, settings = self._require_fitted(), self.settings.as_json()
        save_trained(trained, settings, Path(path), self._context(), overwrite=overwrite)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        train: ImageSource | None = None,
        reopen: bool = True,
        **changes: Any,
    ) -> Self:
        """A fitted valuator from an index folder.

        Args:
            path: folder that `save` or `gmvaluator embed` wrote.
            train: the training images, where they are no longer where the index was made from.
            reopen: open the training images, and fail where some are gone. False: not where the
                index holds all that matching a picture reads, which is sooner.
            changes: settings to change; settings that fitting reads must stay
                (`gmvaluator.settings.Settings.fitting`).

        Raises:
            RunError: no index there, or one that other settings, weights or images made.
        """
        folder = Path(path)
        marker = read_marker(folder, INDEX_FOLDER)
        valuator = cls(**named_settings(marker.get("settings", {}), changes, f"index {folder}"))
        check_fitting(marker, valuator.settings, folder)
        context = valuator._context()
        check_encoders(folder, marker, context)
        trained = load_trained(folder, marker, context)
        location = trained.train.location if train is None else train
        wanted = reopen or train is not None or not hold_all(context, trained)
        if location is not None and wanted:
            trained = reopened(location, trained, folder)
        valuator.fitted_ = trained
        return valuator

    @classmethod
    def refit(
        cls,
        run: str | Path,
        *,
        train: ImageSource | None = None,
        holdout: ImageSource | None = None,
        strict: bool = False,
        **changes: Any,
    ) -> Self:
        """A valuator fitted as the one that made a saved run.

        Args:
            run: run folder that `Valuation.save` or `gmvaluator value` wrote.
            train: the training images, where they are no longer where the run had them.
            holdout: the default holdout of `value`. Default: the holdout of the run, if any.
            strict: as for `fit`.
            changes: settings to change.

        Raises:
            InputError: GMValuator did not make the run, or the training images or the holdout were
                in memory, or cannot be opened.
            RunError: no run there, or its training images have changed.
        """
        record = read_record(Path(run))
        check_by_gmvaluator(record, run)
        recorded = record.inputs.train
        if train is not None:
            images = ImageSet.open(train)
        elif recorded.source is not None:
            images = open_recorded(recorded.source, "train", f"run {run}")
        else:
            raise InputError(
                f"the training images of run {run} were in memory or a selection of a set; pass "
                f"them ({either('train=…', '--train-images')})"
            )
        valuator = cls(**named_settings(record.settings, changes, f"run {run}"))
        if holdout is not None or valuator.settings.null != "off":
            valuator._holdout = recorded_holdout(record, holdout, f"run {run}")
        valuation = Valuation.load(run, check=False)
        images = valuation.as_valued("train", images, f"run {run}")
        changed = RunError(
            f"the training images of run {run} have changed since; {pass_images('train')}, or "
            "make the run again"
        )
        if not set(valuation.train_ids) <= set(images.ids):
            raise changed
        trained = valuator.fit(images, strict=strict)._require_fitted()
        if trained.train.fingerprint != recorded.fingerprint:
            raise changed
        return valuator

    def _require_fitted(self) -> Trained:
        if self.fitted_ is None:
            raise InputError("the valuator is not fitted; call fit(train) or load an index first")
        return self.fitted_

    def _context(self) -> Context:
        """What computing needs, once everything that the settings name is loaded."""
        self._quality.require(self._weights)
        rerankers = tuple(self._load(encoder) for encoder, _ in self._rerank)
        if self._own_weights:
            self._weights.refuse_unused()
        by_domain = self.settings.null != "off" and self.settings.null_measure == "domain"
        return Context(
            settings=self.settings,
            domain=self._load(DOMAIN_ENCODER) if by_domain or self._quality.by_domain else None,
            encoders=self._recall,
            rerankers=rerankers,
            quality=self._quality,
            weights=self._weights,
            device=self._runtime.resolved()[0],
            store=self._store,
            budget=self._budget,
            progress=self._progress,
        )

    def _load(self, encoder: str | Encoder | torch.nn.Module) -> Encoder:
        """An encoder, built once by its name."""
        if isinstance(encoder, str) and encoder in self._encoders:
            return self._encoders[encoder]
        loaded = as_encoder(encoder, self._weights, self._runtime, self._store)
        self._encoders[encoder if isinstance(encoder, str) else loaded.name] = loaded
        return loaded


def _as_weights(weights: Weights | Mapping[str, str | Path] | None, store: Store | None) -> Weights:
    """Where weights come from: files by name, and the folder of the cache."""
    if isinstance(weights, Weights):
        return weights
    if not isinstance(weights, Mapping | None):
        raise InputError(f"weights={weights!r}; pass files by name, such as {{'maniqa': 'm.pt'}}")
    paths = {name: Path(path) for name, path in (weights or {}).items()}
    return Weights(paths, store.folder / "weights" if store else None)


_ARGUMENTS = tuple(name for name in signature(GMValuator.__init__).parameters if name != "self")
_WEIGHED = ("weighting", "temperature", "k")
