"""Whether a run's ranking would be another with another encoder, k, distance or temperature.

One setting is changed at a time and the run's own images are valued again. What differs is then
due to the choice alone; what other generated images would change says
`gmvaluator.certainty.uncertainty`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.certainty.agreement import common_top, contributor_overlap, rank_correlation
from gmvaluator.certainty.tables import Cell, StudyResult, Table, grid, plots_at_hand
from gmvaluator.engine.reload import recorded_holdout
from gmvaluator.errors import InputError, MissingPackageError, MissingWeightsError, RunError
from gmvaluator.files.pieces import Workspace
from gmvaluator.files.seals import RUN_SEAL, SEAL
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.tables import MARKER, read_marker
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Temperature, softmax_weights
from gmvaluator.settings import rerank_terms
from gmvaluator.valuator import GMValuator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "stability"
SETTINGS = ("encoder", "k", "distance", "temperature")
ENCODERS = ("efficientnet-lite0", "pixels@28", "random-conv")
"""Recall spaces to try: learned, the image itself, random filters. All come with packages."""
DISTANCES: tuple[Mapping[str, float] | str, ...] = (
    {"efficientnet-lite0": 1.0},
    {"l2": 1.0},
    "none",
)
TOP = 100
FORMAT = 2


@dataclass(frozen=True)
class Variant:
    """A run with one of its settings changed.

    Attributes:
        setting: `encoder`, `k`, `distance` or `temperature`.
        name: of what it is changed to.
        changes: arguments of `GMValuator`.
        asked: by the user; what is tried unasked is left out where it cannot work.
    """

    setting: str
    name: str
    changes: Mapping[str, Any]
    asked: bool = False


@dataclass(frozen=True)
class Comparison:
    """A variant's values beside the run's.

    Attributes:
        variant: what was changed.
        ranks: Spearman's correlation of all n values; None where one side is constant.
        top_percent, top_hundred: share of the most valuable 1 % and 100 that both have.
        contributors: share of each generated image's contributors that both have, mean.
        moved: half the sum of the changes of the groups' shares of the value: what went from some
            to others; None without groups.
        largest: the group whose share changed most, its share in the run and in the variant.
        shares: share of every group in the variant.
    """

    variant: Variant
    ranks: float | None
    top_percent: float
    top_hundred: float
    contributors: float
    moved: float | None = None
    largest: tuple[str, float, float] | None = None
    shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stability:
    """The comparisons of a run, and what was left out and why.

    `run_seal` is the run's; None: an older run without.
    """

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    n_train: int
    m: int
    settings: dict[str, Any]
    run_seal: str | None = None

    def result(self) -> StudyResult:
        """Table and plot, as studies have them."""
        rows: list[list[Cell]] = []
        for each in self.comparisons:
            name, before, after = each.largest or ("", None, None)
            moved = f"{name} {_percent(before)} → {_percent(after)}" if name else ""
            rows.append(
                [each.variant.setting, each.variant.name, each.ranks, each.top_percent,
                 each.top_hundred, each.contributors, each.moved, moved]
            )  # fmt: skip
        columns = ("setting", "changed to", "agreement of ranks", "common top 1 %",
                   f"common top {TOP}", "common contributors", "share moved",
                   "largest change")  # fmt: skip
        table = Table(
            "The run's values against those with one setting changed", columns, grid(rows)
        )
        drawn = bool(self.comparisons) and plots_at_hand()
        return StudyResult(
            name=NAME,
            title="How much the ranking depends on the settings",
            tables=(table,),
            parameters={"settings": self.settings, "n_train": self.n_train, "m": self.m},
            notes=(
                "Agreement of ranks: Spearman correlation of all values with the run's. Share "
                "moved: part of the total value that goes to another label or group.",
                *self.notes,
            ),
            details={"comparisons": [_as_json(each) for each in self.comparisons]},
            plots={"agreement": partial(_draw, found=self)} if drawn else {},
            marks={} if self.run_seal is None else {RUN_SEAL: self.run_seal},
        )


def default_variants(settings: Mapping[str, Any], vary: Iterable[str] = SETTINGS) -> list[Variant]:
    """One change at a time of a run's settings, by what needs no download.

    Args:
        settings: of the run, as in `run.json`.
        vary: which of `SETTINGS`.

    Raises:
        InputError: an unknown setting.
    """
    wanted = list(vary)
    if unknown := [name for name in wanted if name not in SETTINGS]:
        raise InputError(f"no setting {unknown[0]!r} to vary; choose from {', '.join(SETTINGS)}")
    tried: dict[str, list[Variant]] = {
        "encoder": [encoder_variant(name) for name in ENCODERS],
        "k": [k_variant(k) for k in (settings["k"] // 2, 2 * settings["k"]) if k],
        "distance": [distance_variant(each) for each in DISTANCES],
        "temperature": [],
    }
    temperature = settings.get("temperature_used", settings["temperature"])
    if settings.get("weighting", "softmax") == "softmax":
        numbers = [temperature / 2, 2 * temperature] if temperature != "auto" else [1.0]
        tried["temperature"] = [temperature_variant(each) for each in (*numbers, "auto", "spacing")]
    return [
        each
        for setting in SETTINGS
        if setting in wanted
        for each in tried[setting]
        if any(settings.get(name) != changed for name, changed in each.changes.items())
    ]


def encoder_variant(name: str, *, asked: bool = False) -> Variant:
    """Candidates recalled (and realism measured) in another space."""
    return Variant("encoder", name, {"encoder": name}, asked)


def k_variant(k: int, *, asked: bool = False) -> Variant:
    """Another number of contributors."""
    return Variant("k", str(k), {"k": k}, asked)


def distance_variant(rerank: Mapping[str, float] | str, *, asked: bool = False) -> Variant:
    """Another re-rank distance: names with weights, or `none`."""
    terms = rerank_terms(rerank)
    if not terms:
        return Variant("distance", "none", {"rerank": {}}, asked)
    name = " + ".join(t.name if t.weight == 1 else f"{t.weight:g} {t.name}" for t in terms)
    return Variant("distance", name, {"rerank": {t.name: t.weight for t in terms}}, asked)


def temperature_variant(temperature: float | str, *, asked: bool = False) -> Variant:
    """Another temperature of the softmax."""
    name = temperature if isinstance(temperature, str) else f"{temperature:.4g}"
    return Variant("temperature", name, {"temperature": temperature}, asked)


def stability(
    run: str | Path,
    variants: Sequence[Variant] | None = None,
    *,
    train: object = None,
    generated: object = None,
    holdout: object = None,
    groups: Sequence[str | None] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Stability:
    """Value a run's images again with each variant, and compare.

    Each finished variant is kept in `stability/` of the run folder and taken from there the next
    time. A smaller k and a number or `auto` as temperature are had from the run's own distances;
    the others pass through `GMValuator.refit`, whose cache holds what was embedded.

    Args:
        run: run folder.
        variants: default: `default_variants`.
        train, generated: the images, where they are no longer where the run had them.
        holdout: likewise those of its null sample, where the run applied one (null=True).
        groups: (n,) whose each training image is (default: its label).
        progress: hears how far it is.
        options: more arguments of `GMValuator` that decide no value, such as `cache`.

    Raises:
        InputError: a variant that was asked for cannot work, or groups of another length.
        RunError: no run there, or its images are others now.
    """
    folder = Path(run)
    seal = read_marker(folder, MARKER, "run").get(SEAL)
    valuation = Valuation.load(folder)
    if missing := {"encoder", "k", "rerank", "temperature"} - set(valuation.info["settings"]):
        raise InputError(
            f"run {folder} records no {', '.join(sorted(missing))}, so it was not made by "
            "GMValuator, whose settings could be varied"
        )
    chosen = default_variants(valuation.info["settings"]) if variants is None else list(variants)
    named = _groups(valuation, groups)
    work = Workspace(folder / NAME)
    sources = {"train": train, "generated": generated, "holdout": holdout}
    compute = partial(_compare, folder, valuation, named, sources, options)
    comparisons, notes = [], []
    with (progress or Silent()).stage("variants", len(chosen)) as advance:
        for variant in chosen:
            key = _key(valuation, seal, variant, named)
            try:
                piece = work.piece("variant", key, partial(compute, variant))
                comparisons.append(_comparison(variant, piece))
            except (MissingPackageError, MissingWeightsError, InputError) as error:
                if variant.asked:
                    raise
                notes.append(f"{variant.setting} {variant.name} is left out: {error}")
            advance(1)
    settings = {name: valuation.info["settings"][name] for name in ("encoder", "k", "rerank")}
    temperature = valuation.info["settings"].get("temperature_used")
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
    sources: Mapping[str, object],
    options: Mapping[str, Any],
    variant: Variant,
) -> dict[str, Any]:
    """What is kept of one variant."""
    found = _from_run(valuation, variant)
    if found is None:
        found = _anew(folder, valuation, variant, sources, options)
    mine, theirs = valuation.values, found.values
    rows = [each.contributions.rows for each in (valuation, found)]
    ranks = rank_correlation(mine, theirs)
    kept = min(each.shape[1] for each in rows)
    common = contributor_overlap(rows[0][:, :kept], rows[1][:, :kept])
    shares = [_group_shares(values, groups) for values in (mine, theirs)]
    return {
        "ranks": None if math.isnan(ranks) else ranks,
        "top_percent": common_top(mine, theirs, max(1, math.ceil(len(mine) / 100))),
        "top_hundred": common_top(mine, theirs, TOP),
        "contributors": float(common.mean()),
        "shares": shares,
    }


def _from_run(valuation: Valuation, variant: Variant) -> Valuation | None:
    """The variant's valuation, where the distances that the run holds suffice; None elsewhere."""
    settings, held = valuation.info["settings"], valuation.contributions
    k = variant.changes.get("k", held.rows.shape[1])
    temperature: Temperature | str = variant.changes.get(
        "temperature", settings.get("temperature_used", settings["temperature"])
    )
    plain = settings.get("weighting", "softmax") == "softmax" and set(variant.changes) <= {
        "k",
        "temperature",
    }
    if not plain or not 1 <= k <= held.rows.shape[1] or temperature == "spacing":
        return None
    if temperature != "auto" and not 0 < float(temperature) < math.inf:
        return None
    given: Temperature = "auto" if temperature == "auto" else float(temperature)
    distances = held.distances[:, :k]
    handed_out = valuation.quality - valuation.unattributed
    contributions = replace(
        held,
        rows=held.rows[:, :k],
        distances=distances,
        # an image without a contributor has none with any k or temperature: distances decide that
        scores=softmax_weights(distances, given) * handed_out[:, None],
    )
    return replace(valuation, contributions=contributions)


def _anew(
    folder: Path,
    valuation: Valuation,
    variant: Variant,
    sources: Mapping[str, object],
    options: Mapping[str, Any],
) -> Valuation:
    info = valuation.info
    inputs = info["inputs"]["generated"]
    source = inputs["source"] if sources["generated"] is None else sources["generated"]
    if source is None:
        raise InputError(
            f"run {folder} was made from generated images in memory; pass them "
            "(generated=…, --generated-images)"
        )
    changes = {**_room(valuation, variant), **variant.changes, **options}
    others = None
    if info["settings"].get("null"):
        others = recorded_holdout(info, sources["holdout"], f"run {folder}")
    else:
        # a test that is only reported decides no value
        changes["null"] = None
    valuator = GMValuator.refit(folder, train=sources["train"], **changes)
    found = valuator.value(source, holdout=others)
    # an extended run of an older one has no fingerprint
    recorded = inputs["fingerprint"]
    same = recorded is None or found.info["inputs"]["generated"]["fingerprint"] == recorded
    if not same or found.generated_ids != valuation.generated_ids:
        raise RunError(
            f"the generated images of run {folder} have changed since; make the run again"
        )
    if found.train_ids != valuation.train_ids:
        raise RunError(
            f"the training images of run {folder} have changed since; make the run again"
        )
    if others is not None and _null_fingerprint(found) != _null_fingerprint(valuation):
        raise RunError(
            f"the holdout of run {folder} has changed since; pass the images it had "
            "(holdout=…, --holdout), or make the run again"
        )
    return found


def _null_fingerprint(valuation: Valuation) -> str | None:
    """Of the held-out images that the test for images without a contributor compared with."""
    found: str | None = valuation.info["inputs"].get("holdout", {}).get("fingerprint")
    return found


def _room(valuation: Valuation, variant: Variant) -> dict[str, Any]:
    """More candidates, where the variant's k needs them."""
    candidates = valuation.info["settings"].get("candidates")
    k = variant.changes.get("k", 0)
    return {"candidates": k} if candidates is not None and k > candidates else {}


def _groups(
    valuation: Valuation, groups: Sequence[str | None] | None
) -> NDArray[np.object_] | None:
    chosen = valuation.train_labels if groups is None else groups
    if chosen is None:
        return None
    if len(chosen) != len(valuation.train_ids):
        raise InputError(
            f"{len(chosen)} groups for {len(valuation.train_ids)} training images; pass one each"
        )
    named = ["(none)" if each is None else str(each) for each in chosen]
    return np.asarray(named, dtype=object)


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
    """Everything that decides a comparison: the whole run, by its seal where it has one."""
    import hashlib

    whose = "\0".join(groups) if groups is not None else ""
    held = valuation.contributions
    tables = (valuation.quality, held.rows, held.distances, held.scores)
    digest = hashlib.blake2b(digest_size=16)
    for table in tables if seal is None else ():
        digest.update(np.ascontiguousarray(table).tobytes())
    return {
        "format": FORMAT,
        "run": seal or digest.hexdigest(),
        "settings": valuation.info["settings"],
        "inputs": valuation.info["inputs"],
        "groups": hashlib.blake2b(whose.encode(), digest_size=16).hexdigest(),
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


def _as_json(each: Comparison) -> dict[str, Any]:
    return {
        "setting": each.variant.setting,
        "changed_to": each.variant.name,
        "changes": dict(each.variant.changes),
        "ranks": each.ranks,
        "top_percent": each.top_percent,
        "top_hundred": each.top_hundred,
        "contributors": each.contributors,
        "moved": each.moved,
        "shares": each.shares,
    }


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _draw(figure: Figure, found: Stability) -> None:
    panel = figure.subplots()
    names = [f"{each.variant.setting} {each.variant.name}" for each in found.comparisons]
    places = np.arange(len(names))[::-1]
    columns: tuple[tuple[str, Callable[[Comparison], float | None]], ...] = (
        ("agreement of ranks", lambda each: each.ranks),
        (f"common top {TOP}", lambda each: each.top_hundred),
    )
    for number, (label, read) in enumerate(columns):
        lengths = [read(each) or 0.0 for each in found.comparisons]
        panel.barh(places + 0.2 - 0.4 * number, lengths, height=0.4, label=label)
    panel.set_yticks(places, names, fontsize="small")
    panel.set_xlim(min(0.0, *panel.get_xlim()), 1)
    panel.set_xlabel("agreement with the run")
    panel.grid(alpha=0.3, axis="x")
    panel.legend(fontsize="small", loc="lower left")
