"""The options of all commands: each is declared once, so that one name means one thing.

`--help` lists options in the same order everywhere: what the command writes, its settings, where
images are now, how it computes, what it prints. Every help text ends with the default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from gmvaluator.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value")
Option = Callable[[Command], Command]
PATH = click.Path(path_type=Path)


def options(*decorators: Option[Any]) -> Callable[[Command], Command]:
    """All of these options, listed by `--help` in this order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def option(
    name: str, text: str, *, to: str = "", default: Any = None, **click_settings: Any
) -> Option[Any]:
    """An option of a command.

    Args:
        name: the flag, and its metavar after a space: "--older-than DAYS".
        text: help, with the default as last sentence; without it, `default` is written there.
        to: parameter of the command, where it is called otherwise.
        default: value of an option that is not given; None: the library decides.
        click_settings: further arguments of `click.option`.
    """
    declared, _, metavar = name.partition(" ")
    if "/" in declared:
        # click takes a switch without a default for an answer of no
        click_settings["default"] = default
    if default is not None:
        click_settings["default"] = default
        if "Default: " not in text:
            values = default if isinstance(default, tuple) else (default,)
            text += f" Default: {', '.join(map(str, values))}."
    if click_settings.get("multiple"):
        text += " Repeatable."
    names = [declared, to] if to else [declared]
    return click.option(*names, help=text, metavar=metavar or None, **click_settings)


def flag(name: str, text: str, *, to: str = "") -> Option[Any]:
    """An option without a value."""
    return click.option(*([name, to] if to else [name]), is_flag=True, help=text)


def out(text: str, **click_settings: Any) -> Option[Any]:
    """`--out`, the one place that a command writes to."""
    return option("--out", text, type=PATH, **click_settings)


def pair(text: str, wanted: str, convert: Callable[[str], Value]) -> tuple[str, Value]:
    """A value such as NAME=PATH of an option, in two.

    Args:
        text: the value.
        wanted: the option and what its value looks like: "--weights NAME=PATH".
        convert: reads what is right of the sign; ValueError where that cannot be read.

    Raises:
        InputError: the value is no such pair.
    """
    name, separator, right = text.partition("=")
    try:
        if not (name and separator and right):
            raise ValueError
        return name, convert(right)
    except ValueError:
        option = wanted.partition(" ")[0]
        raise InputError(f"{option} {text!r} cannot be read; write {wanted}") from None


def distance_terms(parts: Sequence[str], wanted: str) -> str | dict[str, float]:
    """Weights of re-rank distances by name, or `none`.

    Args:
        parts: NAME or NAME=WEIGHT each; without a weight it is 1.
        wanted: as for `pair`.

    Raises:
        InputError: a part cannot be read, or a name occurs twice.
    """
    if tuple(parts) == ("none",):
        return "none"
    pairs = [_weighted(text, wanted) for text in parts]
    names = [name for name, _ in pairs]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"{wanted.partition(' ')[0]} names {repeated[0]!r} twice ({', '.join(parts)}); give it "
            "a weight"
        )
    return dict(pairs)


def _weighted(text: str, wanted: str) -> tuple[str, float]:
    """A name and its weight; a name may end with `?KEY=VALUE&…`."""
    name, mark, query = text.partition("?")
    head, sign, last = query.rpartition("&")
    key, equals, value = last.partition("=")
    if not mark:
        return pair(text, wanted, float) if "=" in text else (text, 1.0)
    value, weighted, weight = value.partition("=")
    kept = f"{name}?{head}{sign}{key}{equals}{value}"
    return (kept, pair(f"{name}={weight}", wanted, float)[1]) if weighted else (kept, 1.0)


RUN = click.argument("run", type=PATH)
OVERWRITE = flag(
    "--overwrite", "Replace an earlier result in the same place; without it that is an error."
)
NO_REPORT = flag("--no-report", "Do not write the page report.html into the run.")
JSON = flag("--json", "Print the result as JSON.", to="as_json")
QUIET_GIVEN = "gmvaluator.quiet"
QUIET = click.option(
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=lambda context, _, given: context.meta.update({QUIET_GIVEN: given}),
    help="Show no progress.",
)
PRINTING = (JSON, QUIET)


def within_limit(source: str) -> str:
    """A source with the limit of --pixel-limit, as `ImageSet.open` takes it."""
    from gmvaluator.images.sources.address import limited

    limit = click.get_current_context().meta.get(_LIMIT)
    return source if limit is None else limited(source, limit)


def _source(name: str, text: str) -> Option[Any]:
    """An option that takes a set of images."""

    def read(_context: click.Context, _option: click.Parameter, source: str | None) -> str | None:
        return None if source is None else within_limit(source)

    return option(f"{name} SOURCE", text, callback=read)


def _keep_limit(context: click.Context, _option: click.Parameter, limit: int | None) -> None:
    context.meta[_LIMIT] = limit


_LIMIT = "gmvaluator.pixel_limit"
PIXEL_LIMIT = option(
    "--pixel-limit NUMBER",
    "Largest width × height of an image in pixels; larger ones are skipped. A large image takes "
    "3 bytes of memory a pixel or more. A run or index remembers the limit. Default: 89478485.",
    type=click.IntRange(min=1),
    # before the sources, which have the limit
    is_eager=True,
    expose_value=False,
    callback=_keep_limit,
)
TRAIN_IMAGES = _source(
    "--train-images",
    "The training images, if they moved since the index or run was made. Default: where they were.",
)
GENERATED_IMAGES = _source(
    "--generated-images",
    "The generated images, if they moved since the run was made. Default: where they were.",
)
HOLDOUT = _source(
    "--holdout",
    "Images of the same kind as the training images that the generator was not trained on. "
    "The test of --null compares generated images with them. Default: the holdout of the run; "
    "without one, the training images, each compared with the others.",
)
BY = option(
    "--by COLUMN",
    "Group the training images by this column of their metadata, or by `label`. For payout, "
    "each group is an owner. Default: label; for payout, the owners of --owners.",
)
LEVEL = option("--level", "Coverage of the intervals, between 0 and 1.", default=0.95)
_SEED = "Seed of the random numbers: the same seed gives the same result. Default: 0."
SEED = option("--seed", _SEED, type=click.IntRange(min=0), default=0)
# None where it is not given: an index or run has a seed of its own
FIT_SEED = option("--seed", _SEED, type=click.IntRange(min=0))
FALSE_ALARMS = option(
    "--false-alarms",
    "Largest share of generated images that may be called copies although they are not. The "
    "distance below which an image is a copy follows from it.",
    default=0.01,
)

DEVICE = option(
    "--device",
    "Processor that runs the networks. auto: cuda where there is a GPU, else cpu. Default: auto.",
    type=click.Choice(["auto", "cpu", "cuda"]),
)
BACKEND = option(
    "--backend",
    "Library that runs the networks. auto: OpenVINO on the CPU where it is installed, else "
    "torch. Default: auto.",
    type=click.Choice(["auto", "torch", "torch-compile", "openvino"]),
)
CACHE = option(
    "--cache",
    "Folder that keeps embeddings, indexes, calibrations of audits and downloaded weights for "
    "later commands. "
    "Default: $GMVALUATOR_CACHE, else the user's cache folder.",
    type=PATH,
)
NO_CACHE = flag(
    "--no-cache", "Neither read nor keep embeddings, indexes and calibrations in the cache."
)
STRICT = flag(
    "--strict",
    "Stop at the first image that cannot be read; without it such images are skipped and listed.",
)
COMPUTING = (
    DEVICE,
    BACKEND,
    CACHE,
    NO_CACHE,
    option(
        "--memory SIZE", "Memory that large arrays may take together, such as 2GB. Default: 4 GiB."
    ),
    option(
        "--weights NAME=PATH",
        "Load the network weights NAME from your own file. `gmvaluator doctor` lists the names. "
        "Default: weights of installed packages, the cache, or a download.",
        multiple=True,
    ),
    STRICT,
)

_K = "Number of training images that share each generated image (its contributors)."
_WEIGHTING = (
    "How contributors share a generated image. expected-rank: by how many training images one "
    "expects to be nearer, less where others say the same; softmax: nearer ones get more (Eq. 6 "
    "of the paper); shapley: Shapley values of nearest neighbours; ridge: weights of a kernel "
    "ridge regression on the candidates; global-ridge: the same on all training images."
)
_TEMPERATURE = (
    "How evenly contributors share, with --weighting expected-rank or softmax: near 0 the nearest "
    "gets nearly all, a large number gives equal parts. auto: fitted to each generated image. "
    "spacing/N, for softmax: an N-th of the median distance between neighbouring training images; "
    "spacing is spacing/20."
)
# of a run that is weighed again: settings that need no image
REWEIGHING = (
    option(
        "--weighting NAME",
        f"{_WEIGHTING} A run can be weighed again by its own weighting or by softmax, or by "
        "shapley with a smaller --k. Default: that of the run.",
    ),
    option("--temperature FLOAT|auto|spacing/N", f"{_TEMPERATURE} Default: that of the run."),
    option("--k", f"{_K} At most as many as the run has. Default: that of the run.", type=int),
)

PRESET_NAMES = ("offline", "paper", "offline-1", "robust", "counterfactual")
FIT = (
    option(
        "--preset",
        "Settings to begin with; other options change them. offline: names the source of a "
        "picture; all weights come with packages, nothing is downloaded. offline-1: the default "
        "before that. paper: CLIP, PQ, DreamSim and MANIQA, as published. robust: finds "
        "compressed, cropped and mirrored copies, with shares by distance. counterfactual: "
        "predicts best what retraining without an image would change.",
        type=click.Choice(PRESET_NAMES),
        default="offline",
    ),
    option(
        "--encoder NAME",
        "Network whose vectors find the candidates of a generated image: name[:variant][@size "
        "in pixels], such as clip, pixels@28 or onnx:FILE, a network of yours. Default: "
        "efficientnet-lite0.",
    ),
    option(
        "--second-encoder NAME",
        "Second network that finds candidates: --encoder finds one half of them, this network "
        "the other half. It finds copies that one network misses. none: one network. Default: "
        "pixels@14 where there is a re-rank.",
    ),
    option(
        "--index NAME",
        "How candidates are searched: exact, pq or ivfpq (compressed, for millions of images), "
        "a faiss factory string, or auto (by the number of images and the memory). Default: "
        "auto.",
    ),
    option(
        "--rerank NAME[=WEIGHT]",
        "Distance that orders the candidates: an encoder, l2 (pixels), or none (the distance of "
        "--encoder). Several make a weighted mean. Default: efficientnet-lite0=1 and pixels@14=2.",
        multiple=True,
    ),
    option(
        "--mixing",
        "How several distances of --rerank become one. decisive: a distance counts more for a "
        "generated image that it matches decisively, such as a copy. fixed: their weighted mean. "
        "Default: decisive.",
        type=click.Choice(["fixed", "decisive"]),
    ),
    option(
        "--quality NAME|FILE",
        "Quality of each generated image, between 0 and 1; its contributors share this number. "
        "domain: how usual the image is as a small picture, where noise is not and blur is; "
        "realism: closeness to the training images; maniqa: a network's opinion; none: 1 for "
        "every image; or an .npy file with one number per generated image. Default: domain.",
    ),
    option("--k", f"{_K} Default: 50, or all of a smaller training set.", type=int),
    option(
        "--candidates",
        "Number of training images that the search finds for each generated image. The distance "
        "of --rerank then picks the --k nearest of them. More take longer and miss less. "
        "Default: 200, or all of a smaller training set.",
        type=int,
    ),
    option(
        "--dedup",
        "Copies among the training images that count as one image and share its value. none: "
        "every image counts; exact: images with equal pixels; near: also images that look "
        "almost the same. Default: exact.",
        type=click.Choice(["none", "exact", "near"]),
    ),
    FIT_SEED,
)
WEIGHING = (
    option("--weighting NAME", f"{_WEIGHTING} Default: expected-rank."),
    option(
        "--temperature FLOAT|auto|spacing/N",
        f"{_TEMPERATURE} Default: 0.7 with expected-rank, else 1.0.",
    ),
    option(
        "--mirror/--no-mirror",
        "Also compare the left-right mirror image of each generated image; the smaller distance "
        "counts. Default: --mirror, but with --weighting ridge or global-ridge.",
    ),
)
NULL = (
    option(
        "--null",
        "What happens to a generated image that has no source in the training set: its match "
        "there is worse than nearly all matches of held-out images (--holdout). report: the run "
        "counts such images, their scores stay. withhold: no training image gets their scores. "
        "off: no test. Default: report.",
        type=click.Choice(["report", "withhold", "off"]),
    ),
    option(
        "--null-measure",
        "What the test of --null calls strange. domain: an image beyond the domain of the "
        "training images, such as an icon or a digit among photographs; blur is not strange. "
        "neighbours: an image that is farther from its neighbours than they are from each other. "
        "Default: domain.",
        type=click.Choice(["neighbours", "domain"]),
    ),
    option(
        "--null-level",
        "Error rate of the test of --null: the share of held-out images that the test calls "
        "images without a source. Default: 0.02.",
        type=float,
    ),
    HOLDOUT,
)
