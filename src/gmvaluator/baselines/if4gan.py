"""IF4GAN: what a GAN's quality would lose without a training image, from a trace of its training.

Source: Terashita, Ohashi, Nonaka & Kanemaru, "Influence estimation for generative adversarial
networks" (ICLR 2021). For an image j, s_j ≈ M(θ without j) − M(θ), where its term is left out of
every recorded update and M is a metric of what the generator draws. The chain of updates is pulled
back, one vector-Jacobian product an update, from the gradient of M at the final weights.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmvaluator.baselines.assembling import assemble_for_set
from gmvaluator.baselines.checks import check_at_least, fitted
from gmvaluator.baselines.gan_metrics import GANMetric
from gmvaluator.baselines.gan_steps import Parameters, make_step
from gmvaluator.baselines.gan_trace import Trace
from gmvaluator.errors import InputError, RunError
from gmvaluator.generators.data import common_side, read_training_data
from gmvaluator.generators.layers import to_signed
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.progress import Progress, Silent
from gmvaluator.runs.valuation import Valuation

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How well estimates order images, against what removing them really does.

    Attributes:
        rows: (R,) images that were removed, one at a time.
        estimated, true: (R,) changes of the metric.
        kendall_tau: rank correlation of the two; None where all true changes are the same.
    """

    rows: NDArray[np.int64]
    estimated: Scores
    true: Scores
    kendall_tau: float | None


def removal_effects(
    trace: Trace,
    data: Tensor,
    metric: GANMetric,
    codes: Tensor,
    progress: Progress | None = None,
) -> Scores:
    """(n,) estimated change of the metric if an image had been left out of the recorded updates.

    Exactly 0 for an image that no recorded update saw.

    Args:
        trace: of the training.
        data: its training images.
        metric: what changes.
        codes: (V, latent) that it is measured with.
        progress: hears how far it is.

    Raises:
        InputError: other data than the trace was recorded with.
        RunError: the estimate is not finite.
    """
    trace.check_data(data)
    step = make_step(trace.pair, trace.recipe)
    critic, maker = trace.final

    def measured(weights: Parameters) -> Tensor:
        return metric(trace.pair.draw(weights, codes))

    of_maker = torch.func.grad(measured)(maker)
    of_critic = {name: torch.zeros_like(each) for name, each in critic.items()}
    effects = np.zeros(trace.n)
    ones = torch.ones(trace.recipe.batch_size, dtype=data.dtype)
    with (progress or Silent()).stage("pull back", len(trace)) as advance:
        for t in reversed(range(len(trace))):
            real, drawn = trace.batch(data, t)
            critic, maker = trace.at(t)

            def update(
                c: Parameters,
                g: Parameters,
                w: Tensor,
                real: Tensor = real,
                drawn: Tensor = drawn,
            ) -> tuple[Parameters, Parameters]:
                return step(c, g, w, real, drawn)

            pull = torch.func.vjp(update, critic, maker, ones)[1]
            of_critic, of_maker, of_weights = pull((of_critic, of_maker))
            np.subtract.at(effects, trace.rows[t], of_weights.double().numpy())
            advance(1)
    if not np.isfinite(effects).all():
        raise RunError(
            f"the estimate from trace {trace.folder} is not finite: its training is unstable; take "
            "smaller learning rates or trace fewer epochs"
        )
    return effects


def true_effects(
    trace: Trace,
    data: Tensor,
    metric: GANMetric,
    codes: Tensor,
    rows: Sequence[int] | NDArray[np.int64],
    progress: Progress | None = None,
) -> Scores:
    """(R,) change of the metric when the recorded updates are repeated without each of `rows`.

    Raises as `removal_effects`.
    """
    trace.check_data(data)
    before = measured_after(trace, data, metric, codes)
    found = []
    with (progress or Silent()).stage("replay", len(rows)) as advance:
        for row in rows:
            found.append(measured_after(trace, data, metric, codes, (int(row),)) - before)
            advance(1)
    return np.array(found)


def measured_after(
    trace: Trace,
    data: Tensor,
    metric: GANMetric,
    codes: Tensor,
    removed: Collection[int] = (),
) -> float:
    """The metric after the recorded updates without some images; all of them: as trained."""
    with torch.no_grad():
        _, maker = trace.replay(data, removed) if len(removed) else trace.final
        return float(metric(trace.pair.draw(maker, codes)))


@dataclass(frozen=True)
class Cleansed:
    """The metric after recorded updates without a share of the images.

    Attributes:
        share: of the images that were left out.
        least: without those of the lowest values.
        random: without as many random ones.
    """

    share: float
    least: float
    random: float


def cleanse(
    trace: Trace,
    data: Tensor,
    metric: GANMetric,
    codes: Tensor,
    values: Scores,
    shares: Sequence[float],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Cleansed]:
    """What leaving out the least valuable images does to the metric, against random ones.

    Args:
        trace, data: of the training; its recorded updates are repeated.
        metric: best another one than `values` are by, or measured on other images.
        codes: that it is measured with.
        values: (n,), high = helpful.
        shares: of the images to leave out, each between 0 and 1.
        seed: of the random ones.

    Raises:
        InputError: other data than the trace's, or a share out of range.
    """
    trace.check_data(data)
    if wrong := [share for share in shares if not 0 < share < 1]:
        raise InputError(f"a share of {wrong[0]} to leave out; pass one between 0 and 1")
    lowest = np.argsort(values, kind="stable")
    shuffled = np.random.default_rng(seed).permutation(trace.n)
    found = []
    with (progress or Silent()).stage("cleanse", 2 * len(shares)) as advance:
        for share in shares:
            count = round(share * trace.n)
            without = []
            for order in (lowest, shuffled):
                removed = order[:count].tolist()
                without.append(measured_after(trace, data, metric, codes, removed))
                advance(1)
            found.append(Cleansed(share, *without))
    return found


class IF4GAN:
    """Values training images by what the metric of a traced GAN would lose without them.

    Values are signed: positive = helpful, so that leaving the image out would have made what the
    GAN draws worse. They are of all that it draws, not of single images: the valuation has one
    "generated image", the whole set, and does not depend on the images passed to `value`.

    Args:
        trace: of the training.
        metric: of what is drawn.
        validation: how many images it is measured on, drawn with fixed codes.
        checked: images that are really removed, to tell how far the estimate can be trusted
            (Kendall's tau in `info["agreement"]`).
        seed: of the codes and of the images removed.
        progress: hears how far it is.
    """

    def __init__(
        self,
        trace: Trace,
        metric: GANMetric,
        *,
        validation: int = 2_000,
        checked: int = 40,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        check_at_least(2, "validation", validation)
        check_at_least(2, "checked", checked)
        check_at_least(0, "seed", seed)
        self.trace = trace
        self.metric = metric
        self.checked = checked
        self.seed = seed
        self._validation = validation
        self._progress = progress or Silent()
        self._train: tuple[ImageSet, Tensor] | None = None

    def fit(self, train: ImageSource) -> Self:
        """Read the training images, in the order of the trace's training.

        Raises:
            InputError: other images than the trace's, or another order.
        """
        images = ImageSet.open(train)
        data = signed_images(images, self._progress).to(self.trace.pair.dtype)
        self.trace.check_data(data)
        self._train = (images, data)
        return self

    @property
    def codes(self) -> Tensor:
        """(validation, latent) that the metric is measured with."""
        drawn = torch.Generator().manual_seed(self.seed)
        shape = (self._validation, self.trace.pair.latent)
        return torch.randn(shape, generator=drawn, dtype=self.trace.pair.dtype)

    def value(self, generated: ImageSource = ()) -> Valuation:
        """The value of each training image, with the agreement between estimate and truth.

        Its seconds count the trace's training as `fit`, and the agreement as `check`.

        Raises:
            InputError: not fitted.
            RunError: the estimate is not finite.
        """
        del generated  # the metric is of what the traced GAN draws
        images, data = fitted(self._train)
        start = time.perf_counter()
        effects = removal_effects(self.trace, data, self.metric, self.codes, self._progress)
        estimated = time.perf_counter()
        agreement = self.agreement(effects)
        return assemble_for_set(
            images,
            self.metric.helpful * effects,
            settings={
                "valuer": "if4gan",
                "signed": True,
                "whole_set": True,
                "metric": self.metric.name,
                "traced_updates": len(self.trace),
                "updates": self.trace.recipe.updates,
                "validation": self._validation,
            },
            seed=self.seed,
            seconds={
                "fit": self.trace.seconds,
                "values": estimated - start,
                "check": time.perf_counter() - estimated,
            },
            more={
                "agreement": {
                    "removals": len(agreement.rows),
                    "kendall_tau": agreement.kendall_tau,
                }
            },
        )

    def agreement(self, effects: Scores) -> Agreement:
        """Estimated against true effects of leaving out images that the trace saw.

        Args:
            effects: of `removal_effects`.
        """
        from scipy.stats import kendalltau

        _, data = fitted(self._train)
        seen = np.unique(self.trace.rows)
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.choice(seen, min(self.checked, len(seen)), replace=False))
        true = true_effects(self.trace, data, self.metric, self.codes, rows, self._progress)
        tau = float(kendalltau(effects[rows], true).statistic)
        return Agreement(rows, effects[rows], true, None if np.isnan(tau) else tau)


def signed_images(images: ImageSet, progress: Progress | None = None) -> Tensor:
    """(n, C, S, S) float32 in [−1, 1] of a set of square images of one size.

    Raises:
        InputError: images differ in size, or one cannot be read.
    """
    side = common_side(images)
    if side is None:
        raise InputError(f"{images!r} has images of several sizes; pass square ones of one size")
    read = read_training_data(images, side, progress or Silent(), conditional=False)
    if read.skipped:
        first = read.skipped[0]
        raise InputError(
            f"{len(read.skipped)} images cannot be read (first: {first.id}: {first.reason}); a "
            "trace needs all of them"
        )
    return to_signed(torch.from_numpy(read.images))
