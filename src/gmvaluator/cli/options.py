"""Options that several commands share, so that each has one name, one help text and one place.

`--help` lists them in the same order everywhere: what the command writes, its own options, where
images are now, how it computes, what it prints.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]


def options(*given: Option[Any]) -> Callable[[Command], Command]:
    """All of these options, listed by `--help` in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(given):
            command = option(command)
        return command

    return decorate


def out(text: str, **settings: Any) -> Option[Any]:
    """`--out`, with its help text and what else click is told of it."""
    return click.option("--out", type=click.Path(path_type=Path), help=text, **settings)


def overwrite(replaced: str) -> Option[Any]:
    """`--overwrite`, which replaces what is named, such as "the run"."""
    return click.option("--overwrite", is_flag=True, help=f"Replace {replaced} that is there.")


RUN = click.argument("run", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
QUIET = click.option("--quiet", is_flag=True, help="No progress bars.")
PRINTING = (JSON, QUIET)

_TRAIN_HELP = "Where the training images are now, if they moved."
_GENERATED_HELP = "Where the generated images are now, if they moved."
TRAIN = click.option("--train", help=_TRAIN_HELP)
GENERATED = click.option("--generated", help=_GENERATED_HELP)
# for commands that have another TRAIN or GENERATED
TRAIN_IMAGES = click.option("--train-images", help=_TRAIN_HELP)
INDEX_IMAGES = click.option(
    "--train-images", help="Where the training images of an index are now, if they moved."
)
GENERATED_IMAGES = click.option("--generated-images", help=_GENERATED_HELP)
HOLDOUT_IMAGES = click.option(
    "--holdout", help="Where the images of RUN's --holdout are now, if they moved."
)

DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to compute (auto)."
)
BACKEND = click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "torch-compile", "openvino"]),
    help="What runs the networks (auto: OpenVINO on the CPU where installed).",
)
CACHE = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder for what can be had again: embeddings, indexes, downloaded weights.",
)
NO_CACHE = click.option(
    "--no-cache", is_flag=True, help="Neither use nor keep embeddings and indexes."
)
STRICT = click.option("--strict", is_flag=True, help="Fail on the first unreadable image.")
COMPUTING = (
    DEVICE,
    BACKEND,
    CACHE,
    NO_CACHE,
    click.option("--memory", help="What long arrays may take together, such as 2GB (4GB)."),
    click.option(
        "--weights",
        multiple=True,
        metavar="NAME=PATH",
        help="Use a weight file of yours for NAME. Repeatable.",
    ),
    STRICT,
)

PRESET_NAMES = ("offline", "paper", "robust", "counterfactual")
FIT = (
    click.option(
        "--preset",
        type=click.Choice(PRESET_NAMES),
        default="offline",
        show_default=True,
        help="offline: every weight comes with a PyPI package; paper: CLIP, PQ, DreamSim, MANIQA; "
        "robust: offline, and finds altered and mirrored copies; counterfactual: what retraining "
        "without an image would show.",
    ),
    click.option(
        "--encoder",
        help="Encoder of the recall: name[:variant][@size in pixels] (efficientnet-lite0).",
    ),
    click.option(
        "--second-encoder",
        help="Encoder that candidates are recalled by as well, half of them; none: leave it out.",
    ),
    click.option("--index", help="auto, exact, pq, ivfpq or a faiss factory string (auto)."),
    click.option(
        "--rerank",
        multiple=True,
        metavar="NAME[=WEIGHT]",
        help="Re-rank distance: none, l2 or any encoder; repeat for a weighted mean "
        "(efficientnet-lite0=1 and l2=0.5).",
    ),
    click.option(
        "--quality", help="realism, maniqa, none, or an .npy file, one number an image (realism)."
    ),
    click.option("--k", type=int, help="Contributors a generated image (50)."),
    click.option("--candidates", type=int, help="Training images recalled before re-rank (200)."),
    click.option(
        "--dedup",
        type=click.Choice(["none", "exact", "near"]),
        help="Copies in TRAIN that count once: exact, of equal pixels; near, looking nearly the "
        "same as well (exact).",
    ),
    click.option("--seed", type=int, help="Seed of the index training (0)."),
)
WEIGHING = (
    click.option(
        "--weighting",
        help="How contributors share a generated image: softmax, shapley, ridge, global-ridge.",
    ),
    click.option(
        "--temperature",
        metavar="FLOAT|auto|spacing",
        help="Temperature τ of the softmax (1.0); auto: matched for each generated image; spacing: "
        "a twentieth of the distance between neighbouring training images.",
    ),
    click.option(
        "--mirror/--no-mirror",
        default=None,
        help="Compare each generated image and its mirror image, the nearer counts (no).",
    ),
)
NULL = (
    click.option(
        "--null",
        type=click.Choice(["report", "withhold", "off"]),
        help="What happens to a generated image that matches TRAIN no better than images outside "
        "TRAIN do. report: the run counts the image and keeps its scores; withhold: no training "
        "image gets its scores; off: no test. Default: report.",
    ),
    click.option(
        "--null-level",
        type=float,
        help="Share of images that are wrongly found to have no contributor, at most (0.02).",
    ),
    click.option(
        "--holdout",
        help="Images of the same kind that the model was not trained on, to find these by "
        "(training images, each left out in turn).",
    ),
)
