"""`gmvaluator stability`: how much a run's ranking depends on its settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmvaluator.cli.options import (
    CACHE,
    GENERATED_IMAGES,
    HOLDOUT_IMAGES,
    PRINTING,
    RUN,
    TRAIN_IMAGES,
    options,
)
from gmvaluator.errors import InputError

if TYPE_CHECKING:
    from gmvaluator.certainty.stability import Variant


@click.command()
@options(RUN)
@click.option(
    "--vary",
    multiple=True,
    type=click.Choice(["encoder", "k", "distance", "temperature"]),
    help="What to vary by default values (all four). Repeatable.",
)
@click.option("--encoder", "encoders", multiple=True, help="One more encoder to try. Repeatable.")
@click.option("--k", "ks", type=int, multiple=True, help="One more k to try. Repeatable.")
@click.option(
    "--distance",
    "distances",
    multiple=True,
    metavar="NAME[=WEIGHT][+NAME…]",
    help="One more re-rank distance to try, or none. Repeatable.",
)
@click.option(
    "--temperature",
    "temperatures",
    multiple=True,
    metavar="FLOAT|auto|spacing",
    help="One more temperature to try. Repeatable.",
)
@click.option("--by", metavar="COLUMN", help="Metadata column whose shares to compare (label).")
@options(TRAIN_IMAGES, GENERATED_IMAGES, HOLDOUT_IMAGES, CACHE, *PRINTING)
def stability(
    run: Path,
    vary: tuple[str, ...],
    by: str | None,
    train_images: str | None,
    generated_images: str | None,
    holdout: str | None,
    cache: Path | None,
    as_json: bool,
    quiet: bool,
    **more: tuple[Any, ...],
) -> None:
    """Change one setting of RUN at a time and say how much the ranking changes.

    Without options every setting is varied; with --encoder, --k, --distance or --temperature
    alone, only what these name. Writes stability.json, stability.md and a plot into the run. What
    is finished is kept there: interrupted, the same command goes on.
    """
    from gmvaluator.certainty import stability_run
    from gmvaluator.certainty.stability import SETTINGS, default_variants
    from gmvaluator.cli.printing import print_result
    from gmvaluator.progress import as_progress
    from gmvaluator.runs.folder import open_run

    opened = open_run(run, train=train_images)
    given = _given(**more)
    wanted = vary or (() if given else SETTINGS)
    found = stability_run(
        run,
        [*default_variants(opened.valuation.info["settings"], wanted), *given],
        train=train_images,
        generated=generated_images,
        holdout=holdout,
        groups=None if by is None else opened.train.whole_column(by),
        progress=as_progress(not quiet and not as_json),
        **({} if cache is None else {"cache": cache}),
    )
    result = found.result()
    files = result.save(run)
    written = f"written: {', '.join(file.name for file in files)} in {run}"
    print_result(result.as_json(), f"{result.as_text()}\n\n{written}", as_json=as_json)


def _given(
    encoders: tuple[str, ...],
    ks: tuple[int, ...],
    distances: tuple[str, ...],
    temperatures: tuple[str, ...],
) -> list[Variant]:
    """Variants that were asked for by name."""
    from gmvaluator.certainty import stability as library
    from gmvaluator.settings import read_temperature

    return [
        *(library.encoder_variant(name, asked=True) for name in encoders),
        *(library.k_variant(k, asked=True) for k in ks),
        *(library.distance_variant(_distance(text), asked=True) for text in distances),
        *(library.temperature_variant(read_temperature(text), asked=True) for text in temperatures),
    ]


def _distance(text: str) -> dict[str, float] | str:
    if text == "none":
        return "none"
    terms: dict[str, float] = {}
    for part in text.split("+"):
        name, _, weight = part.partition("=")
        if name in terms:
            raise InputError(f"--distance {text!r} names {name!r} twice; give it a weight")
        try:
            terms[name] = float(weight) if weight else 1.0
        except ValueError:
            raise InputError(
                f"--distance {text!r} cannot be read; write NAME, NAME=WEIGHT or A=1+B=0.5"
            ) from None
    return terms
