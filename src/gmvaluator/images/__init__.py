"""Image sets: from a folder, an archive, a table or objects to RGB arrays with stable ids.

`imageset`: `ImageSet`. `batching`: batches read ahead. `decoding`: single images, all PIL code.
`pixels`: whole sets as arrays. `tensors`: arrays of any library. `sources`: one file a kind of
source; `sources/opening.py` chooses.
"""

from gmvaluator.images.batching import Batch
from gmvaluator.images.decoding import Preprocessing
from gmvaluator.images.imageset import ImageDataset, ImageSet, ImageSource, set_fingerprint
from gmvaluator.images.sources import Skip

__all__ = [
    "Batch",
    "ImageDataset",
    "ImageSet",
    "ImageSource",
    "Preprocessing",
    "Skip",
    "set_fingerprint",
]
