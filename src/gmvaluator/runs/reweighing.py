"""A run weighed again: another weighting, temperature or k, from what the run recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmvaluator import versions
from gmvaluator.arguments import whole_number
from gmvaluator.errors import InputError, either
from gmvaluator.files.atomic import check_output
from gmvaluator.matching.rerank import Contributors
from gmvaluator.runs.record import MARKER, RecordedSettings, read_record
from gmvaluator.scoring.scores import Contributions, check_weighting, contribute, reshared
from gmvaluator.scoring.weightings import (
    WEIGHTINGS,
    Temperature,
    Weighting,
    recorded_weighting,
    weighting_named,
)
from gmvaluator.scoring.weightings.softmax import AnyTemperature, check_temperature, spacing_share

if TYPE_CHECKING:
    from gmvaluator.runs.valuation import Valuation

BY_DISTANCE = " or ".join(name for name, weighting in WEIGHTINGS.items() if weighting.by_distance)
TAKES_NEAREST = ", ".join(name for name, weighting in WEIGHTINGS.items() if weighting.takes_nearest)
_OPTIONS = "--weighting, --temperature or --k"


def reweigh(
    valuation: Valuation,
    *,
    weighting: str | None = None,
    temperature: AnyTemperature | None = None,
    k: int | None = None,
    seal: str | None = None,
) -> Valuation:
    """`Valuation.reweigh`.

    Args:
        valuation: of GMValuator.
        weighting, temperature, k: see there.
        seal: of the run that the valuation was read from, for the record.
    """
    record, contributions = valuation.record, valuation.contributions
    before, width = record.settings, contributions.rows.shape[1]
    now = _changed(before, width, weighting, temperature, k)
    if recorded_weighting(now["weighting"]).by_distance:
        contributors = _nearest_first(contributions).nearest(now["k"])
        scores = contribute(
            contributors, valuation.quality, now["weighting"], now["temperature_used"]
        )
    else:
        scores = reshared(
            contributions,
            valuation.quality,
            now["weighting"],
            before.temperature_used or 1.0,
            now["temperature_used"],
        )
    entry: dict[str, Any] = {
        "settings": {name: before.get(name) for name in now if before.get(name) != now[name]},
        "versions": versions.installed(),
    }
    if seal is not None:
        entry["seal"] = seal
    return replace(
        valuation,
        contributions=scores.without(valuation.withheld),
        record=replace(
            record,
            settings=_settings({**before, **now}),
            reweighed=(*(record.reweighed or ()), entry),
            # seals of runs with other scores
            earlier_seals=None,
        ),
    )


def _settings(entries: dict[str, Any]) -> RecordedSettings:
    """Settings without a dimension that their weighting does not read."""
    if not recorded_weighting(entries["weighting"]).by_dimension:
        entries.pop("dimension_used", None)
    return RecordedSettings(entries)


def _nearest_first(contributions: Contributions) -> Contributors:
    """The recorded contributors in the order of their distances."""
    order = np.argsort(contributions.distances, axis=1, kind="stable")
    return Contributors(
        np.take_along_axis(contributions.rows, order, axis=1),
        np.take_along_axis(contributions.distances, order, axis=1),
        contributions.n_train,
    )


def reweigh_run(
    run: str | Path,
    out: str | Path,
    *,
    weighting: str | None = None,
    temperature: AnyTemperature | None = None,
    k: int | None = None,
    overwrite: bool = False,
) -> Valuation:
    """Weigh a saved run again, and save the result. No image is read and nothing is fitted.

    Args:
        run: folder of the run.
        out: folder to save to.
        weighting, temperature, k: as for `Valuation.reweigh`.
        overwrite: replace the run in `out`.

    Raises:
        InputError: the run cannot be weighed so; the message says what can be changed.
        RunError: no run is there, or `out` holds another run (unless `overwrite`).
    """
    from gmvaluator.runs.valuation import Valuation

    folder = Path(run)
    record = read_record(folder)
    check_output(Path(out), MARKER, overwrite=overwrite)
    weighed = reweigh(
        Valuation.load(folder), weighting=weighting, temperature=temperature, k=k, seal=record.seal
    )
    weighed.save(out, overwrite=overwrite)
    return weighed


def _changed(
    before: RecordedSettings,
    width: int,
    weighting: str | None,
    temperature: AnyTemperature | None,
    k: int | None,
) -> dict[str, Any]:
    """The settings of the new run: `weighting`, `temperature`, `temperature_used` and `k`.

    Args:
        before: settings of the run.
        width: number of contributors that the run recorded of each generated image.
        weighting, temperature, k: as for `Valuation.reweigh`.

    Raises:
        InputError: as for `Valuation.reweigh`.
    """
    if weighting is None and temperature is None and k is None:
        raise InputError(
            f"nothing to change; pass {either('weighting=…, temperature=… or k=…', _OPTIONS)}"
        )
    named = before.weighting or "softmax"
    _check_takes_nearest(before, named, weighting or "softmax")
    k = width if k is None else whole_number("k", k, 1)
    if k > width:
        raise InputError(
            f"k={k} exceeds the {width} contributors that the run recorded; pass k ≤ {width}, or "
            f"{_fit_again('k', k)}"
        )
    weighting = named if weighting is None else weighting
    if temperature is None:
        temperature = (
            (before.temperature or 1.0)
            if weighting == named
            else weighting_named(weighting).default_temperature
        )
    temperature = check_temperature(temperature)
    chosen = check_weighting(weighting, temperature)
    if not chosen.by_distance and weighting != named:
        raise InputError(
            f"weighting {weighting} reads vectors, and a run records distances alone; pass "
            f"weighting {BY_DISTANCE}, or {_fit_again('weighting', weighting)}"
        )
    if not chosen.by_distance and k < width:
        raise InputError(
            f"weighting {weighting} measures what each contributor adds to the {width - 1} others, "
            f"and fewer were not measured; leave k out, or {_fit_again('k', k)}"
        )
    if chosen.reads_beyond and k == width != before.candidates:
        fewer = f"pass k ≤ {width - 1}, or " if width > 1 else ""
        raise InputError(
            f"weighting {weighting} reads the distance of the nearest candidate that is no "
            f"contributor, and the run recorded the {width} contributors alone; {fewer}"
            f"{_fit_again('weighting', weighting)}"
        )
    return {
        "weighting": weighting,
        "temperature": temperature,
        "temperature_used": _temperature_used(before, temperature, chosen),
        "k": k,
    }


def _check_takes_nearest(settings: RecordedSettings, named: str, wanted: str) -> None:
    """Raise InputError unless the contributors of the run are the nearest candidates.

    Args:
        settings: of the run.
        named: weighting of the run.
        wanted: weighting of the new run, for the message.
    """
    if not settings.by_gmvaluator:
        raise InputError(
            f"the scores are by {settings['valuer']!r}, which has no weighting; pass a run of "
            "gmvaluator value, or score the images where these scores were made"
        )
    if not recorded_weighting(named).takes_nearest:
        raise InputError(
            f"weighting {named} chose the contributors of the run by vectors, which the run does "
            f"not record. Runs of weighting {TAKES_NEAREST} can be weighed again; "
            + _fit_again("weighting", wanted)
        )


def _fit_again(name: str, value: object) -> str:
    """What to write in order to value the images anew with another setting."""
    return "fit again: " + either(
        f"GMValuator.refit(run, {name}={value!r}).value(generated)",
        f"gmvaluator value RUN GENERATED --{name} {value} --out OTHER",
    )


def _temperature_used(
    before: RecordedSettings, temperature: AnyTemperature, weighting: Weighting
) -> Temperature:
    """τ as a number, or `auto`; by the spacing or dimension that the run measured.

    Raises:
        InputError: `spacing/N`, and the run did not measure the training images.
    """
    share = spacing_share(temperature)
    if share is None:
        if isinstance(temperature, str):
            return "auto"
        dimension = (before.dimension_used or 1.0) if weighting.by_dimension else 1.0
        return temperature / dimension
    measured = spacing_share(before.get("temperature", 1.0))
    if measured is None:
        raise InputError(
            "temperature spacing is measured on the training images, and the run did not; pass a "
            f"number or auto, or {_fit_again('temperature', temperature)}"
        )
    used: float = before["temperature_used"]
    return used if share == measured else used * (share / measured)
