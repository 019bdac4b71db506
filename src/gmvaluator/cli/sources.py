"""Sources of images on the command line: a text goes in, an open `ImageSet` comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmvaluator.cli.options import within_limit
from gmvaluator.cli.printing import print_note

if TYPE_CHECKING:
    from gmvaluator.images import ImageSet


def open_images(source: str) -> ImageSet:
    """The images of a source; what was chosen of it and left out is said on standard error.

    The limit of --pixel-limit holds, where the command has that option.

    Raises:
        InputError: the source cannot be opened.
    """
    from gmvaluator.images import ImageSet

    images = ImageSet.open(within_limit(source))
    for note in images.notes:
        print_note(f"Note: {source}: {note}")
    return images
