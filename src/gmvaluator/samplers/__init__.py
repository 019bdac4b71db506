"""Draw m images from a generative model into a folder (step 1 of GMValuator's Algorithm 1).

Source of the algorithm: Yang et al., ICLR 2025, arXiv 2304.10701. A model is a Python callable,
a TorchScript or torch.export file, a diffusers pipeline or a generator of this package.
"""

from gmvaluator.samplers.base import DrawBatch, Label, PixelRange, Sampler
from gmvaluator.samplers.folder import MANIFEST, Drawn, draw
from gmvaluator.samplers.loading import SPECS, load_sampler
from gmvaluator.samplers.output import to_images

__all__ = [
    "MANIFEST",
    "SPECS",
    "DrawBatch",
    "Drawn",
    "Label",
    "PixelRange",
    "Sampler",
    "draw",
    "load_sampler",
    "to_images",
]
