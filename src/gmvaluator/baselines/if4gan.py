"""IF4GAN: the change of a GAN's quality without a training image, from a trace of its training.

Source: Terashita, Ohashi, Nonaka & Kanemaru, "Influence estimation for generative adversarial
networks" (ICLR 2021). The estimate of image j is s_j ≈ M(θ without j) − M(θ). M is a metric of the
generator's drawings. "Without j" leaves the term of j out of every recorded update. The estimate
starts at the gradient of M at the final weights and takes one vector-Jacobian product per update,
backwards.
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

from gmvaluator.arguments import real_number, whole_number
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
    """Agreement of estimated effects with the true effects of removing images.

    Attributes:
        rows: (R,) images that were removed, one at a time.
        estimated, true: (R,) changes of the metric.
        kendall_tau: rank correlation of both. None if all true changes are equal.
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
    """(n,) estimated change of the metric if an image is left out of the recorded updates.

    The estimate is exactly 0 for an image that occurs in no recorded update.

    Args:
        trace: trace of the training.
        data: the training images of the trace.
        metric: the metric.
        codes: (V, latent) codes of the drawings that the metric measures.
        progress: receives the progress.

    Raises:
        InputError: `data` are not the training images of the trace.
        RunError: the estimate is not finite.
    """
    trace.check_data(data)
    step = make_step(trace.pair, trace.recipe)
    critic, maker = trace.final

    def measured(weights: Parameters) -> Tensor:
        return metric(trace.pair.draw(weights, codes))

    of_maker = torch.func.grad(measured)(maker)
    of_critic = {name: torch.zeros_like(parameter) for name, parameter in critic.items()}
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
    changes = []
    with (progress or Silent()).stage("replay", len(rows)) as advance:
        for row in rows:
            changes.append(measured_after(trace, data, metric, codes, (int(row),)) - before)
            advance(1)
    return np.array(changes)


def measured_after(
    trace: Trace,
    data: Tensor,
    metric: GANMetric,
    codes: Tensor,
    removed: Collection[int] = (),
) -> float:
    """The metric after the recorded updates without the removed images."""
    with torch.no_grad():
        _, maker = trace.replay(data, removed) if len(removed) else trace.final
        return float(metric(trace.pair.draw(maker, codes)))


@dataclass(frozen=True)
class Cleansed:
    """The metric after the recorded updates without a share of the images.

    Attributes:
        share: share of the removed images.
        least: metric without the images of the lowest values.
        random: metric without the same number of random images.
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
    """Repeat the recorded updates without the least valuable images, and without random images.

    Args:
        trace, data: trace and training images.
        metric: the metric. It should differ from the metric of `values`, or measure other images.
        codes: codes of the drawings that the metric measures.
        values: (n,) values, high = helpful.
        shares: shares of the images to remove, each between 0 and 1.
        seed: seed of the random images.
        progress: receives the progress.

    Raises:
        InputError: `data` are not the training images of the trace, or a share is out of range.
    """
    trace.check_data(data)
    seed = whole_number("seed", seed, 0)
    wanted = "one between 0 and 1"
    if wrong := [share for share in shares if not 0 < real_number("share", share, wanted) < 1]:
        raise InputError(f"a share of {wrong[0]} to leave out; pass {wanted}")
    lowest = np.argsort(values, kind="stable")
    shuffled = np.random.default_rng(seed).permutation(trace.n)
    results = []
    with (progress or Silent()).stage("cleanse", 2 * len(shares)) as advance:
        for share in shares:
            count = round(share * trace.n)
            without = []
            for order in (lowest, shuffled):
                removed = order[:count].tolist()
                without.append(measured_after(trace, data, metric, codes, removed))
                advance(1)
            results.append(Cleansed(share, *without))
    return results


class IF4GAN:
    """Values training images by the estimated change of a GAN's metric without each image.

    A positive value marks a helpful image: without it, the GAN's drawings would be worse. Values
    hold for the whole generated set, not for single images. The valuation has one "generated
    image", the whole set, and does not depend on the images passed to `value`.

    Args:
        trace: trace of the training.
        metric: metric of the drawings.
        validation: number of drawings that the metric measures. Their codes are fixed.
        checked: number of images that are removed in truth, to check the estimate (Kendall's tau
            in `info["agreement"]`).
        seed: seed of the codes and of the choice of checked images.
        progress: receives the progress.
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
        """(validation, latent) codes of the drawings that the metric measures."""
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
        del generated  # the metric measures drawings of the traced GAN
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
        """Estimated and true effects of removing images that occur in the trace.

        Args:
            effects: result of `removal_effects`.
        """
        from scipy.stats import kendalltau

        _, data = fitted(self._train)
        recorded = np.unique(self.trace.rows)
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.choice(recorded, min(self.checked, len(recorded)), replace=False))
        true = true_effects(self.trace, data, self.metric, self.codes, rows, self._progress)
        tau = float(kendalltau(effects[rows], true).statistic)
        return Agreement(rows, effects[rows], true, None if np.isnan(tau) else tau)


def signed_images(images: ImageSet, progress: Progress | None = None) -> Tensor:
    """(n, C, S, S) float32 in [−1, 1] of a set of square images of one size.

    Raises:
        InputError: images differ in size, or an image cannot be read.
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
