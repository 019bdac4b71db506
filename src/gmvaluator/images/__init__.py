"""Image sets: from a folder, an archive, a table or objects to RGB arrays with stable ids.

`imageset`: `ImageSet`. `batching`: batches read ahead. `decoding`: single images, all PIL code.
`pixels`: whole sets as arrays. `sources`: one file a kind of source; `sources/opening.py` chooses.
"""

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
