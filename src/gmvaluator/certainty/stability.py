"""How much a run's ranking changes with another encoder, k, distance or temperature.

One setting changes at a time, and the images of the run are valued again: the setting alone makes
the difference. `gmvaluator.certainty.uncertainty` says what other generated images would change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.arguments import whole_number
from gmvaluator.certainty.agreement import common_top, contributor_overlap, rank_correlation
from gmvaluator.certainty.tables import Cell, StudyResult, Table, grid
from gmvaluator.errors import (
    InputError,
    MissingPackageError,
    MissingWeightsError,
    MovedError,
    RunError,
    either,
)
from gmvaluator.files.pieces import Workspace
from gmvaluator.files.seals import RUN_SEAL
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.images import open_recorded, pass_images
from gmvaluator.runs.record import read_record
from gmvaluator.runs.reweighing import reweigh
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.weightings import recorded_weighting
from gmvaluator.scoring.weightings.softmax import AnyTemperature, check_temperature, spacing_share
from gmvaluator.settings import canonical, name_of, rerank_terms
from gmvaluator.shown import short_repr
from gmvaluator.valuator import GMValuator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS = ("encoder", "k", "distance", "temperature")
ENCODERS = ("efficientnet-lite0", "pixels@28", "random-conv")
"""Recall spaces to try: a learned one, pixels, random filters. None needs a download."""
DISTANCES: tuple[Mapping[str, float] | str, ...] = (
    {"efficientnet-lite0": 1.0},
    {"l2": 1.0},
    "none",
)
TOP_OF_VARIANTS = 100
"""Number of most valuable training images that a variant and the run are compared by."""
PIECE_FORMAT = 2


@dataclass(frozen=True)
class Variant:
    """A run with one of its settings changed.

    Attributes:
        setting: `encoder`, `k`, `distance` or `temperature`.
        name: name of the new setting.
        changes: arguments of `GMValuator`.
        requested: whether the user named the variant. Any other variant is left out if it cannot
            work.
    """

    setting: str
    name: str
    changes: Mapping[str, Any]
    requested: bool = False


@short_repr
@dataclass(frozen=True)
class Comparison:
    """A variant's values beside the run's.

    Attributes:
        variant: what was changed.
        ranks: Spearman's correlation of all n values; None if one side is constant.
        top_percent, top_hundred: share of the most valuable 1 % and of the most valuable 100 that
            both have in common.
        contributors: share of a generated image's contributors that both have in common, mean.
        moved: share of the value that moves between groups: half the sum of all changes of the
            groups' shares. None without groups.
        largest: the group whose share changes most, its share in the run and in the variant.
        shares: share of each group in the variant.
    """

    variant: Variant
    ranks: float | None
    top_percent: float
    top_hundred: float
    contributors: float
    moved: float | None = None
    largest: tuple[str, float, float] | None = None
    shares: dict[str, float] = field(default_factory=dict)


@short_repr
@dataclass(frozen=True)
class Stability:
    """The comparisons of a run.

    Attributes:
        comparisons: one for each variant that could be valued.
        notes: which variants were left out, and why.
        n_train, m: number of training and of generated images.
        settings: the run's encoder, k, re-rank distance and temperature.
        run_seal: seal of the run; None of an older run without.
    """

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    n_train: int
    m: int
    settings: dict[str, Any]
    run_seal: str | None = None

    def result(self) -> StudyResult:
        """Table and plot, as `StudyResult.save` writes them."""
        rows: list[list[Cell]] = []
        for comparison in self.comparisons:
            largest = ""
            if comparison.largest is not None:
                name, before, after = comparison.largest
                largest = f"{name} {100 * before:.1f} % → {100 * after:.1f} %"
            rows.append(
                [comparison.variant.setting, comparison.variant.name, comparison.ranks,
                 comparison.top_percent, comparison.top_hundred, comparison.contributors,
                 comparison.moved, largest]
            )  # fmt: skip
        columns = ("setting", "changed to", "agreement of ranks", "common top 1 %",
                   f"common top {TOP_OF_VARIANTS}", "common contributors", "share moved",
                   "largest change")  # fmt: skip
        table = Table(
            "The run's values against those with one setting changed", columns, grid(rows)
        )
        return StudyResult(
            name="stability",
            title="How much the ranking depends on the settings",
            tables=(table,),
            parameters={"settings": self.settings, "n_train": self.n_train, "m": self.m},
            notes=(
                "Agreement of ranks: Spearman correlation of all values with the run's. Share "
                "moved: part of the total value that goes to another label or group.",
                *self.notes,
            ),
            details={"comparisons": [_as_json(comparison) for comparison in self.comparisons]},
            plots={"agreement": partial(_draw, comparisons=self.comparisons)} if rows else {},
            marks={} if self.run_seal is None else {RUN_SEAL: self.run_seal},
        )


def default_variants(settings: Mapping[str, Any], vary: Iterable[str] = SETTINGS) -> list[Variant]:
    """One change at a time of a run's settings. No change needs a download.

    Args:
        settings: of the run, as in `run.json`.
        vary: the settings to change, of `SETTINGS`.

    Raises:
        InputError: an unknown setting, or settings of another valuer.
    """
    _check_varied(settings)
    varied = list(vary)
    if unknown := [name for name in varied if name not in SETTINGS]:
        raise InputError(f"no setting {unknown[0]!r} to vary; choose from {', '.join(SETTINGS)}")
    # distances of two recall spaces do not compare
    comparable = [
        each for each in DISTANCES if each != "none" or not settings.get("second_encoder")
    ]
    variants: dict[str, list[Variant]] = {
        "encoder": [encoder_variant(name) for name in ENCODERS],
        "k": [k_variant(k) for k in (settings["k"] // 2, 2 * settings["k"]) if k],
        "distance": [
            distance_variant(distance)
            for distance in comparable
            if distance == "none" or not _is_of_encoder(distance_variant(distance), settings)
        ],
        "temperature": [],
    }
    weighting = recorded_weighting(settings.get("weighting", "softmax"))
    temperature = settings["temperature"]
    if not weighting.by_dimension:
        temperature = settings.get("temperature_used", temperature)
    if weighting.has_temperature:
        default = weighting.default_temperature
        numbers = [temperature / 2, 2 * temperature] if temperature != "auto" else [default]
        spacing = () if weighting.by_dimension else ("spacing",)
        temperatures: tuple[AnyTemperature, ...] = (*numbers, "auto", *spacing)
        variants["temperature"] = [temperature_variant(number) for number in temperatures]
    return [
        variant
        for setting in SETTINGS
        if setting in varied
        for variant in variants[setting]
        if any(settings.get(name) != changed for name, changed in variant.changes.items())
    ]


def _is_of_encoder(variant: Variant, settings: Mapping[str, Any]) -> bool:
    """Whether a distance is that of the run's encoder, which `none` stands for as well."""
    names = [canonical(name) for name in variant.changes["rerank"]]
    return not settings.get("second_encoder") and names in ([], [canonical(settings["encoder"])])


def _check_varied(settings: Mapping[str, Any]) -> None:
    """Raise InputError unless the settings are those of GMValuator."""
    if missing := {"encoder", "k", "rerank", "temperature"} - set(settings):
        raise InputError(
            "the run was not made by GMValuator, whose settings could be varied (it records no "
            f"{', '.join(sorted(missing))}); pass a run of gmvaluator value"
        )


def encoder_variant(name: str, *, requested: bool = False) -> Variant:
    """Another encoder for recall, and for quality `realism`."""
    return Variant("encoder", name, {"encoder": name}, requested)


def k_variant(k: int, *, requested: bool = False) -> Variant:
    """Another number of contributors; InputError if it is none."""
    k = whole_number("k", k, 1)
    return Variant("k", str(k), {"k": k}, requested)


def distance_variant(rerank: Mapping[str, float] | str, *, requested: bool = False) -> Variant:
    """Another re-rank distance: names with weights, or `none`."""
    terms = rerank_terms(rerank)
    if not terms:
        return Variant("distance", "none", {"rerank": {}}, requested)
    weights = {name_of(encoder): weight for encoder, weight in terms}
    name = " + ".join(n if weight == 1 else f"{weight:g} {n}" for n, weight in weights.items())
    return Variant("distance", name, {"rerank": weights}, requested)


def temperature_variant(temperature: AnyTemperature, *, requested: bool = False) -> Variant:
    """Another temperature; InputError if it is none."""
    temperature = check_temperature(temperature)
    name = temperature if isinstance(temperature, str) else f"{temperature:.4g}"
    return Variant("temperature", name, {"temperature": temperature}, requested)


def stability_run(
    run: str | Path,
    variants: Sequence[Variant] | None = None,
    *,
    train: ImageSource | None = None,
    generated: ImageSource | None = None,
    holdout: ImageSource | None = None,
    groups: Sequence[str | None] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Stability:
    """Value a run's images again with each variant, and compare.

    Each finished variant is kept in `stability/` of the run folder, and the next call reads it
    from there. The run suffices for a number or `auto` as temperature, and for a smaller k where
    its weighting shares by distances alone. Other variants use `GMValuator.refit`, which reads
    embeddings from the cache.

    Args:
        run: run folder.
        variants: default: `default_variants`.
        train, generated: the images, if they are no longer where the run had them.
        holdout: the images of the run's null sample, if the run withheld by one and they
            are no longer where the run had them.
        groups: (n,) group of each training image. Default: its label.
        progress: receives how many variants are done.
        options: more arguments of `GMValuator` that decide no value, such as `cache`.

    Raises:
        InputError: a requested variant cannot work, or groups of another length.
        RunError: no run there, or its images have changed since.
    """
    folder = Path(run)
    seal = read_record(folder).seal
    valuation = Valuation.load(folder)
    recorded = valuation.record.settings
    _check_varied(recorded)
    variants = default_variants(recorded) if variants is None else list(variants)
    group_of = _groups(valuation, groups)
    work = Workspace(folder / "stability")
    sources = {"train": train, "generated": generated, "holdout": holdout}
    compute = partial(_compare, folder, valuation, group_of, sources, options)
    comparisons, notes = [], []
    with (progress or Silent()).stage("variants", len(variants)) as advance:
        for variant in variants:
            key = _key(valuation, seal, variant, group_of)
            try:
                piece = work.piece("variant", key, partial(compute, variant))
                comparisons.append(_comparison(variant, piece))
            except MovedError:
                raise  # not the variant's fault
            except (MissingPackageError, MissingWeightsError, InputError) as error:
                if variant.requested:
                    raise
                notes.append(f"{variant.setting} {variant.name} is left out: {error}")
            advance(1)
    notes += [
        f"Distance {variant.name} is the distance of the encoder, {recorded['encoder']}."
        for variant in variants
        if variant.setting == "distance" and _is_of_encoder(variant, recorded)
    ]
    settings = {name: valuation.record.settings[name] for name in ("encoder", "k", "rerank")}
    temperature = valuation.record.settings.get("temperature_used")
    return Stability(
        comparisons=tuple(comparisons),
        notes=tuple(notes),
        n_train=len(valuation.train_ids),
        m=len(valuation.generated_ids),
        settings=settings | {"temperature": temperature},
        run_seal=seal,
    )


def _compare(
    folder: Path,
    valuation: Valuation,
    groups: NDArray[np.object_] | None,
    sources: Mapping[str, ImageSource | None],
    options: Mapping[str, Any],
    variant: Variant,
) -> dict[str, Any]:
    """One variant compared with the run, as the run folder keeps it."""
    varied = _from_run(valuation, variant)
    if varied is None:
        varied = _anew(folder, valuation, variant, sources, options)
    mine, theirs = valuation.values, varied.values
    rows, varied_rows = valuation.contributions.rows, varied.contributions.rows
    ranks = rank_correlation(mine, theirs)
    k = min(rows.shape[1], varied_rows.shape[1])
    common = contributor_overlap(rows[:, :k], varied_rows[:, :k])
    shares = [_group_shares(values, groups) for values in (mine, theirs)]
    return {
        "ranks": None if math.isnan(ranks) else ranks,
        "top_percent": common_top(mine, theirs, max(1, math.ceil(len(mine) / 100))),
        "top_hundred": common_top(mine, theirs, TOP_OF_VARIANTS),
        "contributors": float(common.mean()),
        "shares": shares,
    }


def _from_run(valuation: Valuation, variant: Variant) -> Valuation | None:
    """The variant's valuation, where the distances that the run holds suffice; None elsewhere."""
    settings, held = valuation.record.settings, valuation.contributions
    weighting = recorded_weighting(settings.weighting or "softmax")
    if not weighting.has_temperature or not set(variant.changes) <= {"k", "temperature"}:
        return None
    k, temperature = variant.changes.get("k"), variant.changes.get("temperature")
    wide = k is not None and not 1 <= k <= held.rows.shape[1]
    if wide or (k is not None and not weighting.by_distance) or spacing_share(temperature or 1.0):
        return None
    if isinstance(temperature, int | float) and not 0 < temperature < math.inf:
        return None
    # distances decide which images have no contributor, whatever k and temperature are
    return reweigh(valuation, temperature=temperature, k=k)


def _anew(
    folder: Path,
    valuation: Valuation,
    variant: Variant,
    sources: Mapping[str, ImageSource | None],
    options: Mapping[str, Any],
) -> Valuation:
    recorded = valuation.record.inputs.generated
    if sources["generated"] is not None:
        images = ImageSet.open(sources["generated"])
    elif recorded.source is not None:
        images = open_recorded(recorded.source, "generated", f"run {folder}")
    else:
        raise InputError(
            f"run {folder} was made from generated images in memory; pass them "
            f"({either('generated=…', '--generated-images')})"
        )
    changes = {**_room(valuation, variant), **variant.changes, **options}
    test = valuation.record.unattributed
    withheld = test is not None and test.applied
    if not withheld:
        # a test that is only reported decides no value
        changes["null"] = "off"
    holdout = sources["holdout"] if withheld else None
    valuator = GMValuator.refit(folder, train=sources["train"], holdout=holdout, **changes)
    revalued = valuator.value(valuation.as_valued("generated", images, f"run {folder}"))
    # an extended run of an older one has no fingerprint
    same = recorded.fingerprint in (None, revalued.record.inputs.generated.fingerprint)
    if not same or revalued.generated_ids != valuation.generated_ids:
        raise RunError(
            f"the generated images of run {folder} have changed since; "
            f"{pass_images('generated')}, or make the run again"
        )
    if revalued.train_ids != valuation.train_ids:
        raise RunError(
            f"the training images of run {folder} have changed since; {pass_images('train')}, or "
            "make the run again"
        )
    if withheld and _null_fingerprint(revalued) != _null_fingerprint(valuation):
        raise RunError(
            f"the holdout of run {folder} has changed since; pass the images it had "
            f"({either('holdout=…', '--holdout')}), or make the run again"
        )
    return revalued


def _null_fingerprint(valuation: Valuation) -> str | None:
    """Of the held-out images that the test for images without a contributor compared with."""
    holdout = valuation.record.inputs.holdout
    return None if holdout is None else holdout.fingerprint


def _room(valuation: Valuation, variant: Variant) -> dict[str, Any]:
    """More candidates, where the variant's k needs them."""
    candidates = valuation.record.settings.candidates
    k = variant.changes.get("k", 0)
    return {"candidates": k} if candidates is not None and k > candidates else {}


def _groups(
    valuation: Valuation, groups: Sequence[str | None] | None
) -> NDArray[np.object_] | None:
    names = valuation.train_labels if groups is None else groups
    if names is None:
        return None
    if len(names) != len(valuation.train_ids):
        raise InputError(
            f"{len(names)} groups for {len(valuation.train_ids)} training images; pass one each"
        )
    return np.asarray(["(none)" if name is None else str(name) for name in names], dtype=object)


def _group_shares(
    values: NDArray[np.float64], groups: NDArray[np.object_] | None
) -> dict[str, float]:
    total = values.sum()
    if groups is None or total == 0:
        return {}
    names, number = np.unique(groups.astype(str), return_inverse=True)
    shares = np.bincount(number, weights=values, minlength=len(names)) / total
    return {str(name): float(share) for name, share in zip(names, shares, strict=True)}


def _key(
    valuation: Valuation, seal: str | None, variant: Variant, groups: NDArray[np.object_] | None
) -> dict[str, Any]:
    """What decides a comparison: the run, by its seal if it has one, the groups, the changes."""
    import hashlib

    names = "\0".join(groups) if groups is not None else ""
    contributions = valuation.contributions
    tables = (
        valuation.quality, contributions.rows, contributions.distances, contributions.scores
    )  # fmt: skip
    digest = hashlib.blake2b(digest_size=16)
    for table in tables if seal is None else ():
        digest.update(np.ascontiguousarray(table).tobytes())
    return {
        "format": PIECE_FORMAT,
        "run": seal or digest.hexdigest(),
        "settings": dict(valuation.record.settings),
        "inputs": asdict(valuation.record.inputs),
        "groups": hashlib.blake2b(names.encode(), digest_size=16).hexdigest(),
        "changes": dict(variant.changes),
    }


def _comparison(variant: Variant, piece: Mapping[str, Any]) -> Comparison:
    before, after = piece["shares"]
    if not before or not after:
        moved, largest = None, None
    else:
        changes = {name: after[name] - before[name] for name in before}
        most = max(changes, key=lambda name: (abs(changes[name]), name))
        moved = sum(abs(change) for change in changes.values()) / 2
        largest = (most, before[most], after[most])
    return Comparison(
        variant=variant,
        ranks=piece["ranks"],
        top_percent=piece["top_percent"],
        top_hundred=piece["top_hundred"],
        contributors=piece["contributors"],
        moved=moved,
        largest=largest,
        shares=after,
    )


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "setting": comparison.variant.setting,
        "changed_to": comparison.variant.name,
        "changes": dict(comparison.variant.changes),
        "ranks": comparison.ranks,
        "top_percent": comparison.top_percent,
        "top_hundred": comparison.top_hundred,
        "contributors": comparison.contributors,
        "moved": comparison.moved,
        "shares": comparison.shares,
    }


def _draw(figure: Figure, comparisons: Sequence[Comparison]) -> None:
    panel = figure.subplots()
    variants = [comparison.variant for comparison in comparisons]
    names = [f"{variant.setting} {variant.name}" for variant in variants]
    places = np.arange(len(names))[::-1]
    columns = {
        "agreement of ranks": [comparison.ranks or 0.0 for comparison in comparisons],
        f"common top {TOP_OF_VARIANTS}": [comparison.top_hundred for comparison in comparisons],
    }
    for number, (label, lengths) in enumerate(columns.items()):
        panel.barh(places + 0.2 - 0.4 * number, lengths, height=0.4, label=label)
    panel.set_yticks(places, names, fontsize="small")
    panel.set_xlim(min(0.0, *panel.get_xlim()), 1)
    panel.set_xlabel("agreement with the run")
    panel.grid(alpha=0.3, axis="x")
    panel.legend(fontsize="small", loc="lower left")
