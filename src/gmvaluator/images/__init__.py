"""Image sets: from a folder, an archive, a table or objects to RGB arrays with stable ids."""

from gmvaluator.images.imageset import (
    Batch,
    ImageDataset,
    ImageSet,
    ImageSource,
    Preprocessing,
    Skip,
    set_fingerprint,
)

__all__ = [
    "Batch",
    "ImageDataset",
    "ImageSet",
    "ImageSource",
    "Preprocessing",
    "Skip",
    "set_fingerprint",
]
