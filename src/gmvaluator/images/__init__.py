"""Image sets: from a folder, an archive, a table or objects to RGB arrays with stable ids."""

from gmvaluator.images.imageset import (
    Batch,
    ImageSet,
    Preprocessing,
    Skip,
    set_fingerprint,
)

__all__ = ["Batch", "ImageSet", "Preprocessing", "Skip", "set_fingerprint"]
