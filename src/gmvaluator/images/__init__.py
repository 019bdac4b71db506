"""Image sets: from a folder, an archive, a table or objects to RGB arrays with stable ids.

`imageset`: `ImageSet`. `batching`: batches read ahead. `decoding`: single images. `pillow`: readers
of Pillow under rules of this package. `metadata`: what the pixels of a file do not need. `pixels`:
whole sets as arrays. `warping`: arrays moved and resized. `tensors`: arrays of any library. `ids`:
which ids name the same image. `sources`: one file a kind of source; `sources/opening.py` chooses.
"""

from gmvaluator.images.batching import Batch, Input
from gmvaluator.images.decoding import READING_RULES, Preprocessing
from gmvaluator.images.imageset import (
    ImageDataset,
    ImageSet,
    ImageSource,
    Thumbnail,
    set_fingerprint,
)
from gmvaluator.images.sources import Skip

__all__ = [
    "READING_RULES",
    "Batch",
    "ImageDataset",
    "ImageSet",
    "ImageSource",
    "Input",
    "Preprocessing",
    "Skip",
    "Thumbnail",
    "set_fingerprint",
]
