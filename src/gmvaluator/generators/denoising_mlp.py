"""A fully connected network that denoises: the U-Net's cheap and unstructured companion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from gmvaluator.generators.layers import mlp, with_class
from gmvaluator.generators.unet import time_waves

TIME = 64  # sines and cosines that tell the time


class DenoisingMLP(nn.Module):
    """(B, C, S, S) noisy images, (B,) times in [0, 1], (B,) classes → (B, C, S, S) noise, or
    images, whichever its model predicts.

    Class `classes` is the null class of classifier-free guidance. `hidden` are the widths of the
    hidden layers, with SiLU.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], classes: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.classes = classes
        pixels = math.prod(image_shape)
        widths = (pixels + TIME + classes + 1, *hidden, pixels)
        self.layers = mlp(widths, lambda _width, _place: [nn.SiLU()])

    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        predicted: Tensor = self.layers(self._inputs(images, times, labels))
        return predicted.reshape(images.shape)

    def middle(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """The middle hidden layer after its SiLU, (B, width)."""
        hidden = len(self.layers) // 2  # each with its SiLU, then the output layer
        hidden_layer: Tensor = self.layers[: 2 * ((hidden + 1) // 2)](
            self._inputs(images, times, labels)
        )
        return hidden_layer

    def _inputs(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        inputs = torch.cat([images.flatten(1), time_waves(times, TIME)], dim=1)
        return with_class(inputs, labels, self.classes + 1)

    def silence_outputs(self) -> None:
        """Zero the last layer's weights: start by predicting zeros."""
        nn.init.zeros_(cast(nn.Linear, self.layers[-1]).weight)
