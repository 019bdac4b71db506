"""IF4GAN as a study's valuer: a GAN of its own, trained with a trace on the training set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from gmvaluator.baselines.gan_metrics import FrechetDistance, train_metric_classifier
from gmvaluator.baselines.gan_steps import GANRecipe, mlp_gan
from gmvaluator.baselines.gan_trace import data_keys, train_traced
from gmvaluator.baselines.if4gan import IF4GAN, signed_images
from gmvaluator.errors import InputError
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.valuers import IF4GAN as NAME
from gmvaluator.files.pieces import Workspace
from gmvaluator.generators.data import class_numbers, ordered_labels
from gmvaluator.generators.training import torch_threads
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.images.pixels import known_labels, random_subset
from gmvaluator.progress import Progress
from gmvaluator.runs.valuation import Valuation

RECIPE = GANRecipe()
DTYPE = torch.float64  # in float32, rounding exceeds the effect of one image
CLASSIFIER_EPOCHS = 6
MOST_HELD_OUT = 5_000  # images that the metric's classifier learns from


@dataclass
class TracedGANValuer:
    """Trains a fully connected GAN on the training set, then values by FID (`IF4GAN`).

    The values hold for the images of this GAN. The generated images passed to `value` play no part.

    Args:
        held_out: labelled images for the metric. The GAN is not trained on them.
        work: working folder that stores the trace.
        seed: seed of the networks, the order and the codes.
        recipe: recipe of the GAN.
        progress: receives the progress.
    """

    held_out: ImageSet
    work: Workspace
    seed: int
    recipe: GANRecipe
    progress: Progress

    def fit(self, train: ImageSet) -> Self:
        """Train the GAN, or read its trace from the working folder."""
        data = signed_images(train, self.progress).to(DTYPE)
        pair = mlp_gan(data.shape[1:], dtype=DTYPE, seed=self.seed)
        recipe = replace(self.recipe, seed=self.seed)
        folder = self.work.path("traces", f"{data_keys(data)[0][:12]}-seed{self.seed}")
        with torch_threads(1):  # small products: a second thread mostly waits
            trace = train_traced(pair, data, folder, recipe, progress=self.progress)
            metric = FrechetDistance(*self._features(data.shape[-1]))
        self._valuer = IF4GAN(trace, metric, seed=self.seed, progress=self.progress).fit(train)
        return self

    def value(self, generated: ImageSource) -> Valuation:
        """The values; see `IF4GAN.value`."""
        with torch_threads(1):
            return self._valuer.value(generated)

    def _features(self, side: int) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
        images = random_subset(self.held_out, MOST_HELD_OUT)
        pixels = signed_images(images, self.progress)
        if pixels.shape[-1] != side:
            raise InputError(
                f"held-out images of {pixels.shape[-1]} pixels for training images of {side}; pass "
                "images of the same size"
            )
        labels = known_labels(images, "held-out images")
        numbers = torch.from_numpy(class_numbers(labels, ordered_labels(labels.tolist())))
        model = train_metric_classifier(
            pixels, numbers, epochs=CLASSIFIER_EPOCHS, seed=self.seed, progress=self.progress
        )
        return model.to(DTYPE).features, pixels.to(DTYPE)


def if4gan(held_out: ImageSet | None, work: Workspace, progress: Progress) -> NamedValuer:
    """IF4GAN as a study's valuer.

    Raises:
        InputError: no held-out images to measure by.
    """
    if held_out is None:
        raise InputError(f"{NAME} measures by images that its GAN does not see; pass --held-out")

    def make(k: int, seed: int) -> TracedGANValuer:
        del k  # a measure of the whole set has a score for every training image
        return TracedGANValuer(held_out, work, seed, RECIPE, progress)

    settings: dict[str, Any] = {
        "valuer": NAME,
        **vars(RECIPE),
        "dtype": str(DTYPE),
        "metric": FrechetDistance.name,
    }
    return NamedValuer(NAME, make, settings)
