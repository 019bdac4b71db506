"""Draw m images from a generative model into a folder (step 1 of GMValuator's Algorithm 1).

`loading`: opens a model by its kind. `networks`: TorchScript, torch.export. `pipelines`: diffusers.
`base`: what a sampler is. `output`: what models return, as images. `folder`: draws into a folder.
Source of the algorithm: Yang et al., ICLR 2025, arXiv 2304.10701.
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
