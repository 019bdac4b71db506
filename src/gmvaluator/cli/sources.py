"""Sources of images on the command line: a text goes in, an open `ImageSet` comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gmvaluator.images import ImageSet


def open_images(source: str) -> ImageSet:
    """The images of a source; what was chosen of it and left out is said on standard error.

    Raises:
        InputError: the source cannot be opened.
    """
    from gmvaluator.images import ImageSet

    images = ImageSet.open(source)
    for note in images.notes:
        click.echo(f"Note: {source}: {note}", err=True)
    return images
