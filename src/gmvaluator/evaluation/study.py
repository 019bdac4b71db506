"""The context of every study, and the grid of valuations that most studies walk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from operator import getitem
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError
from gmvaluator.evaluation.metrics import Interval, mean_interval, shares_of_total
from gmvaluator.evaluation.named import NamedValuer, Valuer
from gmvaluator.evaluation.subjects.subject import Sample, Subject
from gmvaluator.files.pieces import Workspace
from gmvaluator.images import ImageSet
from gmvaluator.images.pixels import known_labels
from gmvaluator.memory import once
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions, sum_values
from gmvaluator.scoring.weightings import Temperature, Weighting, recorded_weighting
from gmvaluator.settings import DEFAULT_WEIGHTING


@dataclass(frozen=True)
class Context:
    """The inputs of a study.

    Attributes:
        train: the training images.
        subjects: the sources of generated images. Each subject is drawn anew for each seed.
        valuers: the valuers to evaluate.
        seeds: number of repetitions. The seeds are 0, 1, … .
        m: number of generated images per repetition.
        work: working folder that stores every finished piece.
        train_name: name of the training set in keys and tables.
        progress: receives the progress.
    """

    train: ImageSet
    subjects: Sequence[Subject]
    valuers: Sequence[NamedValuer]
    seeds: int
    m: int
    work: Workspace
    train_name: str
    progress: Progress = field(default_factory=Silent)

    @property
    @once
    def train_labels(self) -> NDArray[np.object_]:
        """(n,) labels of the training images."""
        return known_labels(self.train, "training images")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names of every (subject, valuer)."""
        return [(subject.name, valuer.name) for subject in self.subjects for valuer in self.valuers]

    def key(self, valuer: NamedValuer) -> dict[str, Any]:
        """Key of every piece of a valuer: the valuer's settings and the training set."""
        return {
            "valuer": dict(valuer.settings),
            "train": self.train_name,
            "n_train": len(self.train),
        }

    def reading_notes(self) -> tuple[str, ...]:
        """How well classes of drawn images are named, for results that rest on them."""
        accuracies = {subject.accuracy for subject in self.subjects if subject.accuracy is not None}
        return tuple(
            f"The classifier that reads drawn images names {100 * share:.2f} % of held-out ones "
            "rightly."
            for share in sorted(accuracies)
        )

    def parameters(self) -> dict[str, Any]:
        """The parameters to repeat the study with."""
        return {
            "train": self.train_name,
            "n_train": len(self.train),
            "m": self.m,
            "seeds": list(range(self.seeds)),
            "subjects": [subject.name for subject in self.subjects],
            "valuers": {valuer.name: dict(valuer.settings) for valuer in self.valuers},
        }


@dataclass(frozen=True)
class Piece:
    """One measured combination."""

    valuer: str
    subject: str
    seed: int
    result: dict[str, Any]


class Pieces(list[Piece]):
    """Everything that a study measured."""

    def results(self, valuer: str, subject: str) -> list[dict[str, Any]]:
        """Results of one valuer on one subject, by seed. Empty if the valuer does not suit it."""
        return [p.result for p in self if (p.valuer, p.subject) == (valuer, subject)]

    def mean(self, valuer: str, subject: str, *path: str) -> Interval:
        """Mean and interval over the seeds of the number at `path` in a result.

        NaN where the valuer does not suit the subject.
        """
        results: list[Any] = self.results(valuer, subject)
        numbers = [reduce(getitem, path, result) for result in results]
        samples = [math.nan if number is None else float(number) for number in numbers]
        return mean_interval(samples) if samples else Interval(math.nan, math.nan, math.nan, 0)

    def details(self) -> dict[str, Any]:
        """The pieces as JSON."""
        return {"pieces": [vars(piece) for piece in self]}


class FittedValuer:
    """A valuer that is fitted before its first valuation. A baseline is fitted for each one."""

    def __init__(self, valuer: NamedValuer, train: ImageSet, k: int) -> None:
        self._named = valuer
        self._train = train
        self._k = k
        self._fitted: Valuer | None = None

    def value(self, generated: ImageSet, seed: int = 0) -> Valuation:
        """The valuation of these images. Only a baseline uses the seed."""
        if self._named.baseline:
            anew = self._named.make(self._k, seed)
            anew.fit(self._train)
            return anew.value(generated)
        if self._fitted is None:
            self._fitted = self._named.make(self._k, 0)
            self._fitted.fit(self._train)
        return self._fitted.value(generated)


def walk(
    context: Context,
    kind: str,
    key: Mapping[str, Any],
    prepare: Callable[[NamedValuer], Callable[[Subject, int], Mapping[str, Any]]],
) -> Pieces:
    """Measure every valuer on every subject for every seed, and store each result.

    Args:
        context: context of the study.
        kind: kind of the stored pieces.
        key: every setting of the results but valuer, training set, subject, m and seed.
        prepare: valuer → (subject, seed) → JSON. Called once per valuer. Called once per subject
            for a valuer that reads generators; subjects that do not suit it are left out.

    Raises:
        InputError: a valuer that reads generators suits none of the subjects.
    """
    total = len(context.valuers) * len(context.subjects) * context.seeds
    pieces = Pieces()
    with context.progress.stage(f"evaluate {kind}", total) as advance:
        for valuer in context.valuers:
            shared = None if valuer.bind else prepare(valuer)
            suited = {
                subject.name: valuer.suited(subject.generator) for subject in context.subjects
            }
            if not any(suited.values()):
                valuer.make(1, 0)  # raises an error that names the right generators
            for subject in context.subjects:
                bound = suited[subject.name]
                if bound is None:
                    advance(context.seeds)
                    continue
                compute = shared or prepare(bound)
                for seed in range(context.seeds):
                    whole = {
                        **context.key(valuer),
                        "subject": subject.fingerprint,
                        "m": context.m,
                        "seed": seed,
                        **key,
                    }
                    result = context.work.piece(kind, whole, partial(compute, subject, seed))
                    pieces.append(Piece(valuer.name, subject.name, seed, result))
                    advance(1)
    return pieces


def measure(
    context: Context,
    kind: str,
    k: int,
    measured: Callable[[Valuation, Sample], Mapping[str, Any]],
    *,
    extra: Mapping[str, Any] | None = None,
) -> Pieces:
    """Value every subject by every valuer for every seed, and store a measurement of each.

    Args:
        context: context of the study.
        kind: kind of the stored pieces.
        k: number of contributors per generated image.
        measured: (valuation, sample) → JSON.
        extra: settings of `measured`, part of the pieces' keys.
    """

    def prepare(valuer: NamedValuer) -> Callable[[Subject, int], Mapping[str, Any]]:
        fitted = FittedValuer(valuer, context.train, k)

        def compute(subject: Subject, seed: int) -> Mapping[str, Any]:
            sample = subject.sample(context.m, seed)
            valuation = fitted.value(sample.images, seed)
            return {
                **measured(valuation, sample),
                "legibility": sample.legibility,
                "seconds": dict(valuation.record.seconds),
            }

        return compute

    return walk(context, kind, {"k": k, **(extra or {})}, prepare)


def shares_of(valuation: Valuation, temperature: Temperature | None = None) -> NDArray[np.float64]:
    """(m, k) shares w_ij of a valuation's contributors, whatever the quality of the image.

    Args:
        temperature: another one: a number, as `GMValuator` takes it, or `auto`. Default: that of
            the valuation.

    Raises:
        InputError: the valuation's weighting has no temperature.
    """
    settings, recorded = valuation.record.settings, valuation.contributions
    weighting = recorded_weighting(settings.weighting or "softmax")
    if not weighting.has_temperature:
        raise InputError(
            f"weighting {weighting.name} has no temperature; pass variants with one that has"
        )
    before = settings.temperature_used or 1.0
    after = before if temperature is None else temperature
    if temperature is not None and not isinstance(temperature, str):
        after = temperature / (settings.dimension_used or 1.0)
    return weighting.reshared(recorded.distances, recorded.scores, before, after)


def scores_of(valuation: Valuation, k: int) -> NDArray[np.float64]:
    """(m, k) scores of a valuation's first k contributors, as if it had k contributors.

    Weights of GMValuator and shares of a baseline are normalised again over the first k. Influences
    of a baseline stay as they are. A baseline of the whole generated set keeps all scores.
    """
    settings = valuation.record.settings
    if settings.whole_set:
        return valuation.contributions.scores
    if settings.signed:
        return valuation.contributions.scores[:, :k]
    return shares_of_total(valuation.contributions.scores[:, :k]) * valuation.quality[:, None]


class Inputs(Protocol):
    """What a `Context` and a `Setup` both have, for checks."""

    @property
    def train(self) -> ImageSet: ...

    @property
    def valuers(self) -> Sequence[NamedValuer]: ...

    @property
    def seeds(self) -> int: ...


def check_seeds(inputs: Inputs, least: int, why: str) -> None:
    """Raises `InputError` if there are fewer repetitions than the study compares."""
    if inputs.seeds < least:
        raise InputError(f"seeds={inputs.seeds}; pass at least {least} (--seeds): {why}")


def check_variants(inputs: Inputs, has_no: str) -> None:
    """Raises `InputError` if a valuer is no variant of GMValuator."""
    if fixed := [valuer.name for valuer in inputs.valuers if valuer.baseline]:
        raise InputError(f"valuer {fixed[0]} has no {has_no}; pass variants of GMValuator")


def check_temperature(inputs: Inputs) -> None:
    """Raises `InputError` if a valuer's weighting has no temperature."""
    for valuer, weighting in _weightings(inputs):
        if not weighting.has_temperature:
            raise InputError(
                f"valuer {valuer} has the weighting {weighting.name}, which has no temperature; "
                "pass variants with one that has"
            )


def _weightings(inputs: Inputs) -> Iterator[tuple[str, Weighting]]:
    """The weighting of each valuer, with the valuer's name."""
    for valuer in inputs.valuers:
        # equal shares of a baseline are those of equal distances
        named = valuer.settings.get(
            "weighting", "softmax" if valuer.baseline else DEFAULT_WEIGHTING
        )
        yield valuer.name, recorded_weighting(named)


def check_ks(ks: Sequence[int]) -> None:
    """Raises `InputError` unless there are numbers of contributors, all of them ≥ 1."""
    if not ks or min(ks) < 1:
        raise InputError(f"k={list(ks)}; pass numbers of contributors ≥ 1")


def check_weighted(inputs: Inputs, has_no: str) -> None:
    """Raises `InputError` if a valuer's scores are not weights times quality."""
    if fixed := [valuer.name for valuer in inputs.valuers if not valuer.weighted]:
        raise InputError(f"valuer {fixed[0]} has no {has_no}; pass variants of GMValuator")


def values_of(valuation: Valuation, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) values from other scores (m', k') of the first m' images' first k' contributors."""
    images, contributors = scores.shape
    rows = valuation.contributions.rows[:images, :contributors]
    values = sum_values(
        Contributions(
            rows=rows,
            distances=valuation.contributions.distances[:images, :contributors],
            scores=scores,
            n_train=valuation.contributions.n_train,
        )
    )
    return values if valuation.clusters is None else valuation.clusters.shared(values)
