"""The command line: parse, call the library, print; three lines of Python can do the same."""

from __future__ import annotations

import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from gmvaluator.cli.audit import audit
from gmvaluator.cli.claims import claim, claim_folder
from gmvaluator.cli.curate import curate
from gmvaluator.cli.diff import diff
from gmvaluator.cli.evaluate import evaluate
from gmvaluator.cli.generate import sample, train_generator
from gmvaluator.cli.help import Purposes, example
from gmvaluator.cli.options import (
    CACHE,
    COMPUTING,
    FIT,
    JSON,
    NO_REPORT,
    NULL,
    OVERWRITE,
    PIXEL_LIMIT,
    PRINTING,
    TRAIN_IMAGES,
    WEIGHING,
    distance_terms,
    flag,
    option,
    options,
    out,
    pair,
)
from gmvaluator.cli.payout import extend, ledger, payout
from gmvaluator.cli.printing import (
    chosen_progress,
    copies_text,
    drop_unwritten,
    log_to_stderr,
    print_cache,
    print_note,
    print_result,
    print_valuation,
    raised_by_printing,
    skipped_text,
    warn_plainly,
)
from gmvaluator.cli.report import report
from gmvaluator.cli.reweigh import reweigh
from gmvaluator.cli.serve import serve
from gmvaluator.cli.sources import open_images
from gmvaluator.cli.stability import stability
from gmvaluator.cli.uncertainty import uncertainty
from gmvaluator.cli.verify import verify
from gmvaluator.errors import (
    GMValuatorError,
    InputError,
    MissingPackageError,
    RunError,
    for_the_command_line,
)
from gmvaluator.versions import TORCH, needs_torch

if TYPE_CHECKING:
    from gmvaluator.engine.trained import Trained
    from gmvaluator.images import ImageSet
    from gmvaluator.valuator import GMValuator


PURPOSES = {
    "Value training images": ("value", "extend", "reweigh", "embed", "match"),
    "Look at a run": ("report", "curate", "serve"),
    "Check a run": ("uncertainty", "stability", "audit", "verify", "diff"),
    "Pay owners": ("payout", "ledger"),
    "Generate images": ("sample", "train-generator"),
    "This program": ("demo", "doctor", "cache"),
    "Research": ("evaluate",),
}
"""Verbs by purpose, in the order of `--help`."""


@click.group(
    cls=Purposes,
    purposes=PURPOSES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example("value train/ generated/ --out run/"),
)
@click.version_option(package_name="gmvaluator")
@options(
    option(
        "--log-level",
        "Least level of the log messages on standard error. Also $GMVALUATOR_LOG. Default: "
        "warning.",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="warning",
        envvar="GMVALUATOR_LOG",
    )
)
def cli(log_level: str) -> None:
    """How much did each training image contribute to what a generative model produced?

    TRAIN, GENERATED and SOURCE are sets of images: a folder (sub-folders are labels), a Parquet
    file in the Hugging Face layout, .npz or .npy arrays, a CSV or Parquet table with a column
    `path`, or WebDataset .tar shards. A path may end with what of it is meant, such as
    data/#split=train or table.parquet#image=target. INDEX and RUN are folders that embed and value
    wrote. `gmvaluator VERB --help` explains a verb.
    """
    context = click.get_current_context()
    context.with_resource(for_the_command_line())
    context.with_resource(log_to_stderr(log_level))


@cli.command(epilog=example("value train/ generated/ --out run/"))
@click.argument("train")
@click.argument("generated")
@options(out("Folder to write the run to.", required=True), OVERWRITE)
@options(NO_REPORT)
@options(*FIT, *WEIGHING, *NULL, TRAIN_IMAGES, PIXEL_LIMIT, *COMPUTING, *PRINTING)
def value(
    train: str,
    generated: str,
    out: Path,
    overwrite: bool,
    train_images: str | None,
    no_report: bool,
    holdout: str | None,
    strict: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Value every image of TRAIN by the images of GENERATED.

    TRAIN is a set of images, an index folder (see embed), or a run folder. An index or run brings
    its settings; options given here replace them. Writes a run folder: tables of values and
    contributions, run.json and report.html.
    """
    from gmvaluator.report import report_run
    from gmvaluator.runs.folder import open_run
    from gmvaluator.runs.record import MARKER

    claim_folder(out, MARKER, overwrite=overwrite)
    # opened before the long work: a mistyped path is found in seconds, not in minutes
    images = open_images(generated)
    held_out = None if holdout is None else open_images(holdout)
    valuator = _fitted(train, options, train_images, held_out, strict=strict)
    valuation = valuator.value(images, holdout=held_out, strict=strict)
    valuation.save(out, overwrite=overwrite)
    page = None
    if not no_report:
        run = open_run(out, train=train_images, generated=images)
        page = report_run(run, progress=chosen_progress())
    print_valuation(valuation, out, as_json=as_json, report=page)


@cli.command(epilog=example("embed train/ --out train.index"))
@click.argument("train")
@options(out("Folder to write the index to.", required=True), OVERWRITE)
@options(*FIT, PIXEL_LIMIT, *COMPUTING, *PRINTING)
def embed(
    train: str, out: Path, overwrite: bool, strict: bool, as_json: bool, **options: Any
) -> None:
    """Embed the images of TRAIN once and save them as an index.

    The commands value and match then take the index folder in place of TRAIN.
    """
    from gmvaluator.engine.index_folder import INDEX_MARKER

    claim_folder(out, INDEX_MARKER, overwrite=overwrite)
    valuator = _valuator(options).fit(open_images(train), strict=strict)
    valuator.save(out, overwrite=overwrite)
    fitted = cast("Trained", valuator.fitted_)
    summary = {
        "out": str(out),
        "n_train": len(fitted.train.ids),
        "dim": fitted.vectors.shape[1],
        "skipped": len(fitted.train.skipped),
        "copies": fitted.clusters.copies if fitted.clusters else None,
    }
    text = f"{summary['n_train']} images of {summary['dim']} numbers each in {out}"
    text += copies_text(fitted.clusters) + skipped_text(summary["skipped"])
    print_result(summary, text, as_json=as_json)


@cli.command(epilog=example("match train.index picture.png --top 5"))
@click.argument("fitted", metavar="INDEX")
@click.argument("images", nargs=-1, required=True)
@options(option("--top", "Number of contributors to print.", default=10))
@options(*FIT, *WEIGHING, *NULL, TRAIN_IMAGES, PIXEL_LIMIT, *COMPUTING, *PRINTING)
def match(
    fitted: str,
    images: tuple[str, ...],
    top: int,
    train_images: str | None,
    holdout: str | None,
    strict: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Print the contributors of each image of IMAGES.

    INDEX is an index folder (see embed), a run folder or a set of training images. IMAGES are
    files or folders. Also prints the quality of each image, the p-value of its match (a small one:
    the image has no source in the training set) and training images that it is a copy of. An index
    answers soonest: it holds what a picture is compared with. Nothing is written.
    """
    from gmvaluator.cli.match import match_text
    from gmvaluator.runs.matches import matches_of

    # opened before the long work: a mistyped path is found in seconds, not in minutes
    sets = {image: open_images(image) for image in images}
    held_out = None if holdout is None else open_images(holdout)
    # a run that withholds scores would print contributors without any
    options["null"] = options["null"] or "report"
    valuator = _fitted(fitted, options, train_images, held_out, strict=strict, reopen=False)
    matches = [
        match
        for image, images_of in sets.items()
        for match in matches_of(
            valuator.value(images_of, holdout=held_out, strict=strict), image, top
        )
    ]
    texts = "\n\n".join(match_text(match) for match in matches)
    print_result([match.as_json() for match in matches], texts, as_json=as_json)


@cli.command(epilog=example("demo --out demo-run/"))
@options(out("Folder to write the run to.", default=Path("demo-run")), OVERWRITE, *PRINTING)
def demo(out: Path, overwrite: bool, as_json: bool) -> None:
    """Value 5,000 real digits by 200 generated ones.

    A small β-VAE of this package draws the digits; no data and no network are needed. Writes a run
    folder with a page to look at.
    """
    from gmvaluator.cli.demo import PAGE, run_demo

    claim(out)
    result = run_demo(out, overwrite=overwrite, progress=chosen_progress())
    print_valuation(
        result.valuation, out, as_json=as_json, report=out / PAGE, class_agreement=result.agreement
    )


@cli.command(epilog=example("cache --prune --older-than 30"))
@options(
    CACHE,
    flag("--prune", "Delete damaged and left-over files, and merge small files."),
    option(
        "--older-than DAYS",
        "With --prune: also delete files that no command used for so many days; 0 deletes "
        "everything except weights. Default: delete no file for its age.",
        type=float,
    ),
    *PRINTING,
)
def cache(cache: Path | None, prune: bool, older_than: float | None, as_json: bool) -> None:
    """Show what the cache folder holds, or make it smaller."""
    from gmvaluator.files.prune import prune as prune_cache
    from gmvaluator.files.prune import survey
    from gmvaluator.files.store import Store

    if older_than is not None and not prune:
        raise InputError("--older-than goes with --prune; add --prune, or leave --older-than out")
    store = Store(cache)
    if not prune:
        print_cache(store.folder, survey(store), as_json=as_json)
        return
    progress = chosen_progress()
    done = prune_cache(store, older_than=older_than, progress=progress)
    text = (
        f"{done.vectors} embeddings, {done.indexes} indexes and {done.calibrations} calibrations "
        f"of audits dropped, {done.merged} small files "
        f"merged; {done.freed / 1e6:.1f} MB freed in {store.folder}"
    )
    print_result(done.as_json(), text, as_json=as_json)


@cli.command(epilog=example("doctor"))
@options(CACHE, JSON)
def doctor(cache: Path | None, as_json: bool) -> None:
    """Show installed packages, weights and usable presets."""
    from gmvaluator.cli.doctor import diagnose

    diagnosis = diagnose(cache)
    print_result(diagnosis.as_json(), diagnosis.as_text(), as_json=as_json)


for _command in (
    *(extend, reweigh, report, curate, serve, uncertainty, stability, audit, verify, diff),
    *(payout, ledger, sample, train_generator, evaluate),
):
    cli.add_command(_command)


def _valuator(options: dict[str, Any], **fixed: Any) -> GMValuator:
    from gmvaluator.valuator import GMValuator

    preset = options.pop("preset")
    return GMValuator.preset(preset, **_arguments(options), **fixed)


def _fitted(
    train: str,
    options: dict[str, Any],
    train_images: str | None,
    holdout: ImageSet | None = None,
    *,
    strict: bool,
    reopen: bool = True,
    **fixed: Any,
) -> GMValuator:
    """A fitted valuator from images, from an index folder or from a run.

    Args:
        holdout: in place of the holdout of a run.
        reopen: as for `GMValuator.load`.
        fixed: arguments of `GMValuator` that are no options of the command.
    """
    from gmvaluator.engine.index_folder import INDEX_MARKER
    from gmvaluator.runs.record import MARKER
    from gmvaluator.valuator import GMValuator

    folder = Path(train)
    preset = click.get_current_context().get_parameter_source("preset")
    saved = (folder / INDEX_MARKER).is_file() or (folder / MARKER).is_file()
    if saved and preset is click.core.ParameterSource.COMMANDLINE:
        raise InputError(f"{train} has its own settings; leave --preset out")
    if not saved:
        if train_images is not None:
            raise InputError(f"--train-images goes with an index or run, and {train} is neither")
        return _valuator(options, **fixed).fit(open_images(train), strict=strict)
    options.pop("preset")
    changes = _arguments(options) | fixed
    if (folder / INDEX_MARKER).is_file():
        return GMValuator.load(folder, train=train_images, reopen=reopen, **changes)
    return GMValuator.refit(folder, train=train_images, holdout=holdout, strict=strict, **changes)


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Options as arguments of `GMValuator`; what was not given is left to its defaults."""
    from gmvaluator.settings import read_temperature

    arguments = {name: value for name, value in options.items() if value not in (None, ())}
    paths = dict(pair(text, "--weights NAME=PATH", Path) for text in arguments.pop("weights", ()))
    arguments["weights"] = paths
    if arguments.pop("no_cache"):
        arguments["cache"] = False
    if "rerank" in arguments:
        wanted = "--rerank NAME or NAME=WEIGHT"
        arguments["rerank"] = distance_terms(arguments["rerank"], wanted)
    if "temperature" in arguments:
        arguments["temperature"] = read_temperature(arguments["temperature"])
    if str(arguments.get("quality", "")).endswith(".npy"):
        arguments["quality"] = _load_quality(Path(arguments["quality"]))
    return arguments | {"progress": chosen_progress()}


def _load_quality(file: Path) -> Any:
    import numpy as np

    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--quality {file} cannot be read ({error}); pass an .npy file of one number an image"
        ) from None


def main() -> None:
    """Entry point: every expected failure is one line on standard error and an exit code."""
    warn_plainly()
    # a pipe on Windows knows few letters; one that it lacks must not end a command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    output = sys.stdout
    try:
        status = cli.main(prog_name="gmvaluator", standalone_mode=False)
    except GMValuatorError as error:
        message = " ".join(str(error).split())
        print_note(f"Error: {message}")
        status = error.exit_code
    except ModuleNotFoundError as error:
        if error.name not in TORCH:
            raise
        print_note(f"Error: {needs_torch('this command, with these options,')}")
        status = MissingPackageError.exit_code
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt) as interrupt:
        # click turns the one into the other
        message = str(interrupt.__cause__ or interrupt)
        usual = "Interrupted; no result was written. The cache keeps the embeddings made so far."
        print_note(message or usual)
        status = 130
    except SystemExit:
        # where a reader leaves early (head, less), click replaces the stream and exits with 1, as
        # if a check had failed; shells report a program that a closed pipe ended by 141
        if sys.stdout is output:
            raise
        status = 141
    except OSError as error:
        if not raised_by_printing(error):
            raise
        print_note(
            f"Error: standard output cannot be written ({error.strerror}); files that the command "
            "writes are complete"
        )
        status = RunError.exit_code
    # a closed stream is None
    for stream in filter(None, (sys.stdout, sys.stderr)):
        drop_unwritten(stream)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
