"""The command line: parse, call the library, print; three lines of Python can do the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmvaluator.cli.audit import audit
from gmvaluator.cli.curate import curate
from gmvaluator.cli.evaluate import evaluate
from gmvaluator.cli.options import (
    CACHE,
    COMPUTING,
    FIT,
    INDEX_IMAGES,
    JSON,
    NULL,
    PRINTING,
    WEIGHING,
    options,
    out,
    overwrite,
)
from gmvaluator.cli.payout import extend, ledger, payout
from gmvaluator.cli.printing import (
    copies_text,
    print_cache,
    print_result,
    print_valuation,
    skipped_text,
    warn_plainly,
)
from gmvaluator.cli.report import report
from gmvaluator.cli.stability import stability
from gmvaluator.cli.uncertainty import uncertainty
from gmvaluator.cli.verify import verify
from gmvaluator.errors import GMValuatorError, InputError

if TYPE_CHECKING:
    from gmvaluator.valuator import GMValuator


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gmvaluator")
def cli() -> None:
    """How much did each training image contribute to what a generative model produced?

    TRAIN and GENERATED are folders of images (sub-folders are labels), Parquet files in the
    Hugging Face layout, .npz or .npy arrays, CSV or Parquet manifests with a path column, or
    WebDataset .tar shards.
    """


@cli.command()
@click.argument("train")
@click.argument("generated")
@options(out("Folder of the run.", required=True), overwrite("the run"))
@click.option("--no-report", is_flag=True, help="Leave out the page report.html of the run.")
@options(*FIT, *WEIGHING, *NULL, INDEX_IMAGES, *COMPUTING, *PRINTING)
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
    quiet: bool,
    **options: Any,
) -> None:
    """Value every image of TRAIN by the images of GENERATED.

    TRAIN may also be an index folder that `gmvaluator embed` wrote, or a run to fit again, whose
    holdout, if it had one, is taken where none is given.
    """
    from gmvaluator.images import ImageSet
    from gmvaluator.report import report_run
    from gmvaluator.runs.folder import open_run
    from gmvaluator.runs.tables import check_run_output

    check_run_output(out, overwrite=overwrite)
    # opened before the long work: a mistyped path is found in seconds, not in minutes
    images = ImageSet.open(generated)
    others = _holdout(train, holdout)
    valuator = _fitted(train, options, train_images, strict=strict, quiet=quiet)
    valuation = valuator.value(images, holdout=others, strict=strict)
    valuation.save(out, overwrite=overwrite)
    page = None
    if not no_report:
        run = open_run(out, train=train_images, generated=images)
        page = report_run(run, progress=not quiet and not as_json)
    print_valuation(valuation, out, as_json=as_json, report=page)


@cli.command()
@click.argument("train")
@options(out("Folder of the index.", required=True), overwrite("the index"))
@options(*FIT, *COMPUTING, *PRINTING)
def embed(
    train: str,
    out: Path,
    overwrite: bool,
    strict: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Embed TRAIN once and save it as an index, for `value` and `match` to use again."""
    from gmvaluator.engine.trained import check_index_output

    check_index_output(out, overwrite=overwrite)
    valuator = _valuator(options, quiet=quiet).fit(train, strict=strict)
    valuator.save(out, overwrite=overwrite)
    fitted = valuator.fitted_
    if fitted is None:
        raise InputError("nothing was fitted; pass a training set")
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


@cli.command()
@click.argument("fitted", metavar="INDEX")
@click.argument("images", nargs=-1, required=True)
@click.option("--top", type=int, default=10, show_default=True, help="Contributors to print.")
@options(*FIT, *WEIGHING, INDEX_IMAGES, *COMPUTING, *PRINTING)
def match(
    fitted: str,
    images: tuple[str, ...],
    top: int,
    train_images: str | None,
    strict: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Show the contributors of single IMAGES against INDEX, an index folder or a run.

    A run is fitted again with its own settings from where its training images were.
    """
    from gmvaluator.images import ImageSet

    sets = {image: ImageSet.open(image) for image in images}
    valuator = _fitted(fitted, options, train_images, strict=strict, quiet=quiet, null=None)
    found: dict[str, list[dict[str, Any]]] = {}
    lines: list[str] = []
    for image, images_of in sets.items():
        valuation = valuator.value(images_of, strict=strict)
        for name in valuation.generated_ids:
            contributors = valuation.contributors(name)
            rows = list(zip(*_columns(contributors, top), strict=True))
            source = name if len(sets) == 1 else f"{image}: {name}"
            found[source] = [
                {"train_id": id_, "distance": distance, "score": score}
                for id_, distance, score in rows
            ]
            lines.append(source)
            lines += [f"  {d:>9.4f}  {100 * s:>7.3f} %  {id_}" for id_, d, s in rows]
    print_result(found, "\n".join(lines), as_json=as_json)


@cli.command("train-generator")
@click.argument("name")
@click.argument("data")
@options(
    out("File to write (.safetensors).", required=True),
    overwrite("the file, or another's checkpoint,"),
)
@click.option("--steps", type=int, help="Training steps (each family's own).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the training.")
@click.option("--conditional", is_flag=True, help="Learn classes (ddpm and biggan always do).")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the family, such as latent=16 or hidden=512,256. Repeatable.",
)
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints (steps / 20).")
@click.option(
    "--keep", type=int, default=0, show_default=True, help="Evenly spaced snapshots to keep."
)
@click.option("--threads", type=int, help="Processor threads (all).")
@options(*PRINTING)
def train_generator(
    name: str,
    data: str,
    out: Path,
    steps: int | None,
    seed: int,
    conditional: bool,
    settings: tuple[str, ...],
    checkpoint_every: int | None,
    keep: int,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a small generative model on DATA.

    NAME is beta-vae, conv-beta-vae, gan, dcgan, ddpm or biggan. A training that was interrupted
    goes on when the same command is given again.
    """
    from gmvaluator.generators.training import train_generator as train
    from gmvaluator.progress import as_progress

    trained = train(
        name,
        data,
        out,
        steps=steps,
        seed=seed,
        settings=dict(_pair(text, "--set", str) for text in settings),
        conditional=conditional or None,
        checkpoint_every=checkpoint_every,
        keep=keep,
        threads=threads,
        overwrite=overwrite,
        progress=as_progress(not quiet and not as_json),
    )
    print_result(trained.as_json(), trained.as_text(), as_json=as_json)


@cli.command()
@click.argument("model")
@options(out("Folder of images.", required=True), overwrite("another draw"))
@click.option("-m", "--number", type=int, required=True, help="How many images to draw.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the drawing.")
@click.option("--batch-size", type=int, default=64, show_default=True, help="Images at once.")
@click.option("--latent", type=int, help="Length of the latent code of a network file.")
@click.option(
    "--pixel-range",
    type=click.Choice(["unit", "symmetric"]),
    default="unit",
    show_default=True,
    help="Whether the model's floats span [0, 1] or [-1, 1].",
)
@click.option("--steps", type=int, help="Denoising steps of a ddpm or a diffusers pipeline.")
@click.option("--guidance", type=float, help="Guidance scale of a ddpm; 1 = none.")
@click.option("--truncation", type=float, help="Bound on the codes of a GAN; 0 = none.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="Class (name or number) or prompt to draw; repeat: they take turns (all classes).",
)
@click.option("--device", default="cpu", show_default=True, help="Torch device to draw on.")
@options(*PRINTING)
def sample(
    model: str,
    number: int,
    out: Path,
    seed: int,
    batch_size: int,
    latent: int | None,
    pixel_range: Any,
    steps: int | None,
    guidance: float | None,
    truncation: float | None,
    labels: tuple[str, ...],
    device: str,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw images from MODEL into a folder (step 1 of the paper's Algorithm 1).

    MODEL is `demo`, a generator of this package (.safetensors), a TorchScript (.pt) or
    torch.export (.pt2) file, a diffusers pipeline (folder or hub id) or package.module:callable.
    """
    from gmvaluator.progress import as_progress
    from gmvaluator.samplers import draw, load_sampler

    sampler = load_sampler(
        model,
        latent=latent,
        pixel_range=pixel_range,
        inference_steps=steps,
        guidance=guidance,
        truncation=truncation,
        device=device,
    )
    drawn = draw(
        sampler,
        number,
        out,
        seed=seed,
        batch_size=batch_size,
        labels=[labels[i % len(labels)] for i in range(number)] if labels else None,
        overwrite=overwrite,
        progress=as_progress(not quiet and not as_json),
    )
    summary = {"out": str(out), "n": len(drawn.paths), "kept": drawn.n_kept}
    kept = f" ({drawn.n_kept} were there already)" if drawn.n_kept else ""
    print_result(summary, f"{len(drawn.paths)} images in {out}{kept}", as_json=as_json)


@cli.command()
@options(
    out("Folder of the run.", default=Path("demo-run"), show_default=True),
    overwrite("the run"),
    *PRINTING,
)
def demo(out: Path, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Value 5,000 real digits against 200 digits drawn by a small β-VAE."""
    from gmvaluator.cli.demo import PAGE, run_demo

    result = run_demo(out, overwrite=overwrite, progress=not quiet and not as_json)
    print_valuation(
        result.valuation,
        out,
        as_json=as_json,
        report=out / PAGE,
        class_agreement=result.agreement,
    )


@cli.command()
@click.option("--cache", "folder", type=click.Path(path_type=Path), help="Cache folder.")
@click.option("--prune", is_flag=True, help="Drop what is damaged or left over, merge small files.")
@click.option(
    "--older-than",
    type=float,
    metavar="DAYS",
    help="With --prune: also drop what was not used for so long; 0 drops all but weights.",
)
@options(*PRINTING)
def cache(
    folder: Path | None, prune: bool, older_than: float | None, as_json: bool, quiet: bool
) -> None:
    """Show what the cache holds, or make it smaller."""
    from gmvaluator.files.prune import prune as prune_cache
    from gmvaluator.files.prune import survey
    from gmvaluator.files.store import Store
    from gmvaluator.progress import as_progress

    if older_than is not None and not prune:
        raise InputError("--older-than says what --prune drops; add --prune")
    store = Store(folder)
    if not prune:
        print_cache(store.folder, survey(store), as_json=as_json)
        return
    progress = as_progress(not quiet and not as_json)
    done = prune_cache(store, older_than=older_than, progress=progress)
    text = (
        f"{done.vectors} embeddings and {done.indexes} indexes dropped, {done.merged} small files "
        f"merged; {done.freed / 1e6:.1f} MB freed in {store.folder}"
    )
    print_result(done.as_json(), text, as_json=as_json)


@cli.command()
@options(CACHE, JSON)
def doctor(cache: Path | None, as_json: bool) -> None:
    """Say what is installed, which weights are at hand, and which presets can run."""
    from gmvaluator.cli.doctor import diagnose

    diagnosis = diagnose(cache)
    print_result(diagnosis.as_json(), diagnosis.as_text(), as_json=as_json)


cli.add_command(evaluate)
cli.add_command(report)
cli.add_command(uncertainty)
cli.add_command(stability)
cli.add_command(payout)
cli.add_command(ledger)
cli.add_command(extend)
cli.add_command(audit)
cli.add_command(verify)
cli.add_command(curate)


def _valuator(options: dict[str, Any], *, quiet: bool, **fixed: Any) -> GMValuator:
    from gmvaluator.valuator import GMValuator

    preset = options.pop("preset")
    return GMValuator.preset(preset, **_arguments(options, quiet=quiet), **fixed)


def _holdout(train: str, given: str | None) -> object:
    """The held-out images that were given, or those of the run that is fitted again."""
    from gmvaluator.engine.reload import recorded_holdout
    from gmvaluator.images import ImageSet
    from gmvaluator.runs.tables import MARKER, read_marker

    if given is not None:
        return ImageSet.open(given)
    if not (Path(train) / MARKER).is_file():
        return None
    return recorded_holdout(read_marker(Path(train), MARKER, "run"), None, f"run {train}")


def _fitted(
    train: str,
    options: dict[str, Any],
    train_images: str | None,
    *,
    strict: bool,
    quiet: bool,
    **fixed: Any,
) -> GMValuator:
    """A fitted valuator from images, from an index folder or from a run.

    Args:
        fixed: arguments of `GMValuator` that are no options of the command.
    """
    from gmvaluator.engine.trained import INDEX_MARKER
    from gmvaluator.runs.tables import MARKER
    from gmvaluator.valuator import GMValuator

    folder = Path(train)
    preset = click.get_current_context().get_parameter_source("preset")
    saved = (folder / INDEX_MARKER).is_file() or (folder / MARKER).is_file()
    if saved and preset is click.core.ParameterSource.COMMANDLINE:
        raise InputError(f"{train} brings its own settings; leave --preset out")
    if not saved:
        if train_images is not None:
            raise InputError(f"--train-images goes with an index or run, and {train} is neither")
        return _valuator(options, quiet=quiet, **fixed).fit(train, strict=strict)
    options.pop("preset")
    changes = _arguments(options, quiet=quiet) | fixed
    if (folder / INDEX_MARKER).is_file():
        return GMValuator.load(folder, train=train_images, **changes)
    return GMValuator.refit(folder, train=train_images, strict=strict, **changes)


def _arguments(options: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Options as arguments of `GMValuator`; what was not given is left to its defaults."""
    from gmvaluator.settings import read_temperature
    from gmvaluator.weights import Weights

    arguments = {name: given for name, given in options.items() if given not in (None, ())}
    paths = dict(_pair(text, "--weights", Path) for text in arguments.pop("weights", ()))
    cache = arguments.get("cache")
    arguments["weights"] = Weights(paths, cache / "weights" if cache else None)
    if arguments.pop("no_cache"):
        arguments["cache"] = False
    if "rerank" in arguments:
        arguments["rerank"] = _rerank(arguments["rerank"])
    if "temperature" in arguments:
        arguments["temperature"] = read_temperature(arguments["temperature"])
    if str(arguments.get("quality", "")).endswith(".npy"):
        arguments["quality"] = _load_quality(Path(arguments["quality"]))
    as_json = click.get_current_context().params.get("as_json", False)
    return arguments | {"progress": not quiet and not as_json}


def _rerank(texts: tuple[str, ...]) -> str | dict[str, float]:
    if texts == ("none",):
        return "none"
    pairs = [_pair(text, "--rerank", float) if "=" in text else (text, 1.0) for text in texts]
    if len({name for name, _ in pairs}) < len(pairs):
        raise InputError(f"--rerank names a distance twice ({', '.join(texts)}); give it a weight")
    return dict(pairs)


_PAIRS = {"--weights": "NAME=PATH", "--rerank": "NAME or NAME=WEIGHT", "--set": "KEY=VALUE"}


def _pair(text: str, option: str, convert: Callable[[str], Any]) -> tuple[str, Any]:
    name, separator, given = text.partition("=")
    try:
        if not (name and separator and given):
            raise ValueError
        return name, convert(given)
    except ValueError:
        wanted = _PAIRS[option]
        raise InputError(f"{option} {text!r} cannot be read; write {option} {wanted}") from None


def _load_quality(file: Path) -> Any:
    import numpy as np

    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--quality {file} cannot be read ({error}); pass an .npy file of one number an image"
        ) from None


def _columns(contributors: Any, top: int) -> tuple[Any, ...]:
    return (
        contributors.ids[:top],
        [float(distance) for distance in contributors.distances[:top]],
        [float(score) for score in contributors.scores[:top]],
    )


def main() -> None:
    """Entry point: every expected failure is one line on standard error and an exit code."""
    warn_plainly()
    try:
        status = cli.main(standalone_mode=False)
    except GMValuatorError as error:
        message = " ".join(str(error).split())
        click.echo(f"Error: {message}", err=True)
        status = error.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt) as interrupt:
        # click turns the one into the other
        told = str(interrupt.__cause__ or interrupt)
        usual = "Interrupted; no result was written, what was embedded is cached."
        click.echo(told or usual, err=True)
        status = 130
    except BrokenPipeError:
        # the reader left (head, less); what it wanted was printed
        sys.stderr.close()
        status = 141
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
