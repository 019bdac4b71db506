"""The options of all commands: each is declared once, so that one name means one thing.

`--help` lists options in the same order everywhere: what the command writes, its settings, where
images are now, how it computes, what it prints. Every help text ends with the default.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]
PATH = click.Path(path_type=Path)
REPEAT = "Repeatable."


def options(*chosen: Option[Any]) -> Callable[[Command], Command]:
    """All of these options, listed by `--help` in this order."""

    def decorate(command: Command) -> Command:
        for each in reversed(chosen):
            command = each(command)
        return command

    return decorate


def option(
    *names: str, text: str, default: Any = None, shown: str = "", **click_settings: Any
) -> Any:
    """An option whose help ends with its default.

    Args:
        names: flags, and the parameter's name where it is another.
        text: help, without the default.
        default: value of an option that is not given; None: the library decides.
        shown: the default in words, where `default` does not show it.
        click_settings: further arguments of `click.option`.
    """
    if default is not None:
        click_settings["default"] = default
        listed = default if isinstance(default, tuple) else (default,)
        shown = shown or ", ".join(str(value) for value in listed)
    if click_settings.get("multiple"):
        text += f" {REPEAT}"
    ending = f" Default: {shown}." if shown else ""
    return click.option(*names, help=text + ending, **click_settings)


def flag(*names: str, text: str) -> Any:
    """An option without a value."""
    return click.option(*names, is_flag=True, help=text)


def example(words: str) -> str:
    """The end of a command's help: one line that a reader can copy."""
    return f"\b\nExample:\n  gmvaluator {words}"


def out(text: str, **click_settings: Any) -> Any:
    """`--out`, the one place that a command writes to."""
    return option("--out", type=PATH, text=text, **click_settings)


RUN = click.argument("run", type=PATH)
OVERWRITE = flag(
    "--overwrite", text="Replace an earlier result in the same place; without it that is an error."
)
JSON = flag("--json", "as_json", text="Print the result as JSON.")
QUIET = flag("--quiet", text="Show no progress bars.")
PRINTING = (JSON, QUIET)

TRAIN_IMAGES = option(
    "--train-images",
    metavar="SOURCE",
    text="The training images, if they moved since the index or run was made.",
    shown="where they were",
)
GENERATED_IMAGES = option(
    "--generated-images",
    metavar="SOURCE",
    text="The generated images, if they moved since the run was made.",
    shown="where they were",
)
HOLDOUT = option(
    "--holdout",
    metavar="SOURCE",
    text="Images of the same kind as the training images that the generator was not trained on. "
    "The test of --null compares generated images with them.",
    shown="the holdout that the run had; a new run takes training images, each left out in turn",
)
BY = option(
    "--by",
    metavar="COLUMN",
    text="Group the training images by this column of their metadata, or by `label`. For payout, "
    "each group is an owner.",
    shown="label; for payout, the owners of --owners",
)
LEVEL = option(
    "--level",
    type=float,
    default=0.95,
    text="Coverage of the intervals, between 0 and 1.",
)
SEED_TEXT = "Seed of the random numbers: the same seed gives the same result."
SEED = option("--seed", type=click.IntRange(min=0), default=0, text=SEED_TEXT)
# None where it is not given: an index or run has a seed of its own
FIT_SEED = option("--seed", type=click.IntRange(min=0), text=SEED_TEXT, shown="0")
FALSE_ALARMS = option(
    "--false-alarms",
    type=float,
    default=0.01,
    text="Largest share of generated images that may be called copies although they are not. The "
    "distance below which an image is a copy follows from it.",
)

DEVICE = option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    text="Processor that runs the networks. auto: cuda where there is a GPU, else cpu.",
    shown="auto",
)
BACKEND = option(
    "--backend",
    type=click.Choice(["auto", "torch", "torch-compile", "openvino"]),
    text="Library that runs the networks. auto: OpenVINO on the CPU where it is installed, else "
    "torch.",
    shown="auto",
)
CACHE = option(
    "--cache",
    type=PATH,
    text="Folder that keeps embeddings, indexes and downloaded weights for later commands.",
    shown="$GMVALUATOR_CACHE, else the user's cache folder",
)
NO_CACHE = flag("--no-cache", text="Neither read nor keep embeddings and indexes in the cache.")
STRICT = flag(
    "--strict",
    text="Stop at the first image that cannot be read; without it such images are "
    "skipped and listed.",
)
COMPUTING = (
    DEVICE,
    BACKEND,
    CACHE,
    NO_CACHE,
    option(
        "--memory",
        metavar="SIZE",
        text="Memory that large arrays may take together, such as 2GB.",
        shown="4 GiB",
    ),
    option(
        "--weights",
        multiple=True,
        metavar="NAME=PATH",
        text="Load the network weights NAME from your own file. `gmvaluator doctor` lists the "
        "names.",
        shown="weights of installed packages, the cache, or a download",
    ),
    STRICT,
)

PRESET_NAMES = ("offline", "paper", "robust", "counterfactual")
FIT = (
    option(
        "--preset",
        type=click.Choice(PRESET_NAMES),
        default="offline",
        text="Settings to begin with; other options change them. offline: all weights come with "
        "packages, nothing is downloaded. paper: CLIP, PQ, DreamSim and MANIQA, as published. "
        "robust: also finds compressed, cropped and mirrored copies. counterfactual: predicts "
        "best what retraining without an image would change.",
    ),
    option(
        "--encoder",
        metavar="NAME",
        text="Network whose vectors find the candidates of a generated image: "
        "name[:variant][@size in pixels], such as clip or pixels@28.",
        shown="efficientnet-lite0",
    ),
    option(
        "--second-encoder",
        metavar="NAME",
        text="Second network that finds candidates: --encoder finds one half of them, this network "
        "the other half. It finds copies that one network misses.",
        shown="none",
    ),
    option(
        "--index",
        metavar="NAME",
        text="How candidates are searched: exact, pq or ivfpq (compressed, for millions of "
        "images), a faiss factory string, or auto (by the number of images and the memory).",
        shown="auto",
    ),
    option(
        "--rerank",
        multiple=True,
        metavar="NAME[=WEIGHT]",
        text="Distance that orders the candidates: an encoder, l2 (pixels), or none (the distance "
        "of --encoder). Several make a weighted mean.",
        shown="efficientnet-lite0=1 and l2=0.5",
    ),
    option(
        "--quality",
        metavar="NAME|FILE",
        text="Quality of each generated image, between 0 and 1; its contributors share this "
        "number. realism: closeness to the training images; maniqa: a network's opinion; none: 1 "
        "for every image; or an .npy file with one number per generated image.",
        shown="realism",
    ),
    option(
        "--k",
        type=int,
        text="Number of training images that share each generated image (its contributors).",
        shown="50, or all of a smaller training set",
    ),
    option(
        "--candidates",
        type=int,
        text="Number of training images that the search finds for each generated image. The "
        "distance of --rerank then picks the --k nearest of them. More take longer and miss less.",
        shown="200, or all of a smaller training set",
    ),
    option(
        "--dedup",
        type=click.Choice(["none", "exact", "near"]),
        text="Copies among the training images that count as one image and share its value. none: "
        "every image counts; exact: images with equal pixels; near: also images that look almost "
        "the same.",
        shown="exact",
    ),
    FIT_SEED,
)
WEIGHING = (
    option(
        "--weighting",
        metavar="NAME",
        text="How contributors share a generated image. softmax: nearer ones get more (Eq. 6 of "
        "the paper); shapley: Shapley values of nearest neighbours; ridge: weights of a kernel "
        "ridge regression on the candidates; global-ridge: the same on all training images.",
        shown="softmax",
    ),
    option(
        "--temperature",
        metavar="FLOAT|auto|spacing",
        text="How evenly contributors share with --weighting softmax: near 0 the nearest gets "
        "nearly all, a large number gives equal parts. auto: fitted to each generated image; "
        "spacing: a twentieth of the median distance between neighbouring training images.",
        shown="1.0",
    ),
    option(
        "--mirror/--no-mirror",
        text="Also compare the left-right mirror image of each generated image; the smaller "
        "distance counts.",
        shown="--no-mirror",
    ),
)
NULL = (
    option(
        "--null",
        type=click.Choice(["report", "withhold", "off"]),
        text="What happens to a generated image that has no source in the training set: its match "
        "there is worse than nearly all matches of held-out images (--holdout). report: the run "
        "counts such images, their scores stay. withhold: no training image gets their scores. "
        "off: no test.",
        shown="report",
    ),
    option(
        "--null-level",
        type=float,
        text="Error rate of the test of --null: the share of held-out images that the test calls "
        "images without a source.",
        shown="0.02",
    ),
    HOLDOUT,
)
