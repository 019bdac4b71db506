"""Shift-tolerant LPIPS (Ghildyal & Liu, ECCV 2022) as a vector; see `lpips`.

The trunks are AlexNet and VGG-16 whose strides are moved out of convolutions and max-pools into
anti-aliased subsampling: a 3 x 3 binomial blur on reflected borders, then every second pixel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import torch

from gmvaluator.encoders.base import Network
from gmvaluator.encoders.lpips import perceptual_network, read_channel_weights
from gmvaluator.encoders.variants import input_size, variant_of
from gmvaluator.errors import InputError
from gmvaluator.weights import WeightFile, Weights, load_state

DEFAULT_SIZE = 32
MINIMUM_SIZE = {"alex": 21, "vgg": 18}

_CONVOLUTION = re.compile(r"net\.slice(\d+)\.(\d+)\.weight")


class BlurPool(torch.nn.Module):
    """(B, C, H, W) → (B, C, ⌈H/2⌉ + 1, ⌈W/2⌉ + 1): blur, then keep every second pixel.

    Both sides are extended by two reflected pixels, one more than the filter needs, so that
    border pixels are blurred like inner ones (the "full" padding of the ST-LPIPS paper).
    """

    kernel: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        kernel = torch.outer(row, row) / 16
        self.register_buffer("kernel", kernel.expand(channels, 1, 3, 3).contiguous())
        self.channels = channels

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(features, (2, 2, 2, 2), mode="reflect")
        return torch.nn.functional.conv2d(padded, self.kernel, stride=2, groups=self.channels)


def build(variant: str | None, size: int | None, weights: Weights) -> Network:
    """`st-lpips[:alex|vgg][@size]`; trunk and linear weights from one file of stlpips_pytorch.

    The weights are BSD-2-Clause; of that package only the weight file is read.
    """
    trunk = variant_of("st-lpips", variant, ("alex", "vgg"))
    encoder = f"st-lpips:{trunk}"
    side = input_size(encoder, size, DEFAULT_SIZE, MINIMUM_SIZE[trunk])
    file = weights.resolve(encoder)
    state = load_state(file.path)
    stages = _alex_stages() if trunk == "alex" else _vgg_stages()
    _fill_convolutions(stages, state, file)
    channel_weights = read_channel_weights(state, file)
    return perceptual_network(encoder, side, stages, channel_weights, (file,))


def _alex_stages() -> list[torch.nn.Sequential]:
    conv, relu, pool = torch.nn.Conv2d, torch.nn.ReLU, torch.nn.MaxPool2d
    return [
        torch.nn.Sequential(conv(3, 64, 11, padding=2), BlurPool(64), relu()),
        torch.nn.Sequential(pool(3, 1), BlurPool(64), conv(64, 192, 5, padding=2), relu()),
        torch.nn.Sequential(pool(3, 1), BlurPool(192), conv(192, 384, 3, padding=1), relu()),
        torch.nn.Sequential(conv(384, 256, 3, padding=1), relu()),
        torch.nn.Sequential(conv(256, 256, 3, padding=1), relu()),
    ]


def _vgg_stages() -> list[torch.nn.Sequential]:
    widths = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    stages, channels = [], 3
    for index, stage in enumerate(widths):
        layers: list[torch.nn.Module] = []
        if index:
            layers += [torch.nn.MaxPool2d(2, 1), BlurPool(channels)]
        for width in stage:
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
            channels = width
        stages.append(torch.nn.Sequential(*layers))
    return stages


def _fill_convolutions(
    stages: Sequence[torch.nn.Sequential], state: Mapping[str, torch.Tensor], file: WeightFile
) -> None:
    """Copy the file's convolutions, in their order, into those of `stages`."""
    matches = [match for key in state if (match := _CONVOLUTION.fullmatch(key))]
    matches.sort(key=lambda match: (int(match[1]), int(match[2])))
    prefixes = [match[0].removesuffix(".weight") for match in matches]
    slots = [layer for layer in _layers(stages) if isinstance(layer, torch.nn.Conv2d)]
    fits = len(slots) == len(prefixes) and all(
        slot.weight.shape == state[f"{prefix}.weight"].shape and f"{prefix}.bias" in state
        for slot, prefix in zip(slots, prefixes, strict=True)
    )
    if not fits:
        raise InputError(
            f"the weight file {file.path} is not this ST-LPIPS network: its {len(prefixes)} "
            f"convolutions do not match the {len(slots)} wanted; pass the file of stlpips_pytorch"
        )
    with torch.no_grad():
        for slot, prefix in zip(slots, prefixes, strict=True):
            slot.weight.copy_(state[f"{prefix}.weight"])
            if slot.bias is not None:
                slot.bias.copy_(state[f"{prefix}.bias"])


def _layers(stages: Sequence[torch.nn.Sequential]) -> Iterator[torch.nn.Module]:
    for stage in stages:
        yield from stage
