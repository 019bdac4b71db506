"""LPIPS as a vector whose squared Euclidean distance it is (Zhang et al., CVPR 2018).

LPIPS(x, y) = Σ_l 1/(H_l·W_l) Σ_hw Σ_c w_lc (f̂_lhwc(x) − f̂_lhwc(y))², with f̂_l the features of
layer l scaled to unit length over channels. All w are ≥ 0, so it equals ‖v(x) − v(y)‖² for
v = concat_l √(w_l / (H_l·W_l)) · f̂_l, and each image passes through the network once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from gmvaluator.encoders._modules import Normalise, frozen
from gmvaluator.encoders.base import Network
from gmvaluator.encoders.torchvision import load_torchvision
from gmvaluator.encoders.variants import input_size, variant_of
from gmvaluator.errors import InputError
from gmvaluator.images import Preprocessing
from gmvaluator.weights import WeightFile, Weights, load_state

DEFAULT_SIZE = 64

# layer slices of torchvision's `features` that end in the activations LPIPS compares
TRUNKS: Mapping[str, tuple[str, int, tuple[int, ...]]] = {
    "alex": ("alexnet", 31, (2, 5, 8, 10, 12)),
    "vgg": ("vgg16", 16, (4, 9, 16, 23, 30)),
    "squeeze": ("squeezenet1_1", 17, (2, 5, 8, 10, 11, 12, 13)),
}

# LPIPS standardises inputs in [−1, 1] by these
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10


class PerceptualVector(torch.nn.Module):
    """(B, 3, H, W) uint8 RGB → (B, dim) float32, the vector v of this module's docstring.

    `stages` run one after the other; the output of stage l is weighted by `channel_weights[l]`,
    (C_l,) and non-negative.
    """

    def __init__(
        self, stages: Sequence[torch.nn.Module], channel_weights: Sequence[torch.Tensor]
    ) -> None:
        super().__init__()
        offset = [127.5 * (1 + shift) for shift in SHIFT]
        self.normalise = Normalise(offset, [127.5 * scale for scale in SCALE])
        self.stages = torch.nn.ModuleList(stages)
        self.channel_weights = torch.nn.ParameterList(
            torch.nn.Parameter(weight.reshape(1, -1, 1, 1), requires_grad=False)
            for weight in channel_weights
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.normalise(pixels)
        parts = []
        for stage, weight in zip(self.stages, self.channel_weights, strict=True):
            features = stage(features)
            length = features.square().sum(dim=1, keepdim=True).sqrt()
            area = features.shape[2] * features.shape[3]
            unit = features / (length + EPSILON)
            parts.append((unit * (weight / area).sqrt()).flatten(1))
        return torch.cat(parts, dim=1)


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`lpips[:alex|vgg|squeeze][@size]`, version 0.1 (linear weights BSD-2-Clause).

    Needs `lpips:<variant>` (in the lpips package) and torchvision's trunk.
    """
    trunk = variant_of("lpips", variant, tuple(TRUNKS))
    model_name, minimum, ends = TRUNKS[trunk]
    encoder = f"lpips:{trunk}"
    side = input_size(encoder, size, DEFAULT_SIZE, minimum)
    linear = weights.resolve(encoder)
    channel_weights = read_channel_weights(load_state(linear.path), linear)
    model, file = load_torchvision(model_name, weights)
    starts = (0, *ends[:-1])
    stages = [model.features[a:b] for a, b in zip(starts, ends, strict=True)]
    return perceptual_network(encoder, side, stages, channel_weights, (linear, file))


def perceptual_network(
    encoder: str,
    side: int,
    stages: Sequence[torch.nn.Module],
    channel_weights: Sequence[torch.Tensor],
    files: tuple[WeightFile, ...],
) -> Network:
    """The network of an LPIPS-like distance."""
    return Network(
        name=f"{encoder}@{side}",
        module=frozen(PerceptualVector(stages, channel_weights)),
        preprocessing=Preprocessing(side),
        metric="sqeuclidean",
        weights=files,
        # 146 kB an image and more: 60,000 images would take 9 GB, and a minute to compute again
        kept=False,
    )


def read_channel_weights(state: Mapping[str, torch.Tensor], file: WeightFile) -> list[torch.Tensor]:
    """The (C_l,) weights of each layer, from tensors `lin<l>.model.1.weight`.

    Raises InputError if there are none or one is negative (no vector has that distance).
    """
    weights = {
        int(key.split(".")[0].removeprefix("lin")): tensor.flatten().float()
        for key, tensor in state.items()
        if key.startswith("lin") and key.endswith(".weight") and not key.startswith("lins.")
    }
    if not weights or min(weight.min().item() for weight in weights.values()) < 0:
        raise InputError(
            f"the weight file {file.path} holds no non-negative LPIPS layer weights "
            "(lin0.model.1.weight …); pass the file of the published package"
        )
    return [weights[layer] for layer in sorted(weights)]
