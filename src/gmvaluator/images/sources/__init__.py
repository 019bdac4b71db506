"""Where images come from: every source becomes ids, labels and a reader of raw rows.

`opening`: which file opens what. `base`: `Listing` and `Reader`, which every source gives.
`files`: folders, single images, CSV tables. `arrays`: .npy and .npz. `parquet`, `tar`: those files.
`objects`: Python objects. `address`: a path and what of it is meant. `splits`, `columns`: which
files and which column that is. A reader gives encoded bytes or arrays, never decoded files:
decoding belongs to `decoding.py`. Readers hold no open files, so that they can be pickled, forked
and used from threads.
"""

from gmvaluator.images.sources.base import LeftOut, Listing, Raw, Reader, Skip, image_format
from gmvaluator.images.sources.opening import open_source

__all__ = ["LeftOut", "Listing", "Raw", "Reader", "Skip", "image_format", "open_source"]
