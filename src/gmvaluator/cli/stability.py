"""`gmvaluator stability`: how much a run's ranking depends on its settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmvaluator.cli.claims import claim
from gmvaluator.cli.help import verb
from gmvaluator.cli.options import (
    BY,
    CACHE,
    GENERATED_IMAGES,
    HOLDOUT,
    PIXEL_LIMIT,
    PRINTING,
    RUN,
    TRAIN_IMAGES,
    distance_terms,
    option,
    options,
)

if TYPE_CHECKING:
    from gmvaluator.certainty.stability import Variant


@verb("stability run/ --vary k --encoder pixels")
@options(
    RUN,
    option(
        "--vary",
        "Setting to change, to each of its usual other values. Default: all four, or none where "
        "one of the four options below is given.",
        multiple=True,
        type=click.Choice(["encoder", "k", "distance", "temperature"]),
    ),
    option(
        "--encoder NAME",
        "Another encoder to compare with. Default: those of --vary.",
        to="encoders",
        multiple=True,
    ),
    option(
        "--k",
        "Another number of contributors to compare with. Default: those of --vary.",
        to="ks",
        type=int,
        multiple=True,
    ),
    option(
        "--distance NAME[=WEIGHT][+NAME…]",
        "Another re-rank distance to compare with, or none. Default: those of --vary.",
        to="distances",
        multiple=True,
    ),
    option(
        "--temperature FLOAT|auto|spacing/N",
        "Another temperature to compare with. Default: those of --vary.",
        to="temperatures",
        multiple=True,
    ),
    BY,
    TRAIN_IMAGES,
    GENERATED_IMAGES,
    HOLDOUT,
    PIXEL_LIMIT,
    CACHE,
    *PRINTING,
)
def stability(
    run: Path,
    vary: tuple[str, ...],
    by: str | None,
    train_images: str | None,
    generated_images: str | None,
    holdout: str | None,
    cache: Path | None,
    as_json: bool,
    **named_by_option: tuple[Any, ...],
) -> None:
    """Measure how much the ranking depends on the settings.

    Changes one setting of RUN at a time and compares the rankings. Writes stability.json,
    stability.md and a plot into RUN. The same command, given again, resumes an interrupted
    comparison.
    """
    from gmvaluator.certainty import stability_run
    from gmvaluator.certainty.stability import SETTINGS, default_variants
    from gmvaluator.cli.printing import chosen_progress, print_result
    from gmvaluator.runs.folder import open_run

    opened = open_run(run, train=train_images)
    claim(run / "stability.json")
    named = _named_variants(**named_by_option)
    wanted = vary or (() if named else SETTINGS)
    analysis = stability_run(
        opened.folder,  # the name that `open_run` has for it: a warning of both is shown once
        [*default_variants(opened.valuation.record.settings, wanted), *named],
        train=train_images,
        generated=generated_images,
        holdout=holdout,
        groups=None if by is None else opened.train.whole_column(by),
        progress=chosen_progress(),
        **({} if cache is None else {"cache": cache}),
    )
    result = analysis.result()
    files = result.save(run)
    written = f"written: {', '.join(file.name for file in files)} in {run}"
    print_result(result.as_json(), f"{result.as_text()}\n\n{written}", as_json=as_json)


def _named_variants(
    encoders: tuple[str, ...],
    ks: tuple[int, ...],
    distances: tuple[str, ...],
    temperatures: tuple[str, ...],
) -> list[Variant]:
    """The variants that the options name."""
    from gmvaluator.certainty import stability as library
    from gmvaluator.settings import read_temperature

    wanted = "--distance NAME, NAME=WEIGHT or A=1+B=0.5"
    terms = [distance_terms(text.split("+"), wanted) for text in distances]
    numbers = [read_temperature(text) for text in temperatures]
    return [
        *(library.encoder_variant(name, requested=True) for name in encoders),
        *(library.k_variant(k, requested=True) for k in ks),
        *(library.distance_variant(rerank, requested=True) for rerank in terms),
        *(library.temperature_variant(number, requested=True) for number in numbers),
    ]
