"""Places that a command writes to: checked and claimed before any work."""

from __future__ import annotations

from pathlib import Path

import click


def claim(place: Path) -> None:
    """Keep other commands from writing to a place until the running command ends.

    Raises:
        RunError: another command writes there.
    """
    from gmvaluator.files.atomic import claimed

    click.get_current_context().with_resource(claimed(place))


def claim_folder(folder: Path, marker: str, *, overwrite: bool) -> None:
    """Claim the folder of a result, and refuse it where a result may not be written.

    Args:
        folder, marker, overwrite: as for `files.atomic.check_output`.

    Raises:
        RunError: the folder may not be written, or another command writes there.
    """
    from gmvaluator.files.atomic import check_output

    check_output(folder, marker, overwrite=overwrite)
    claim(folder)
    # another command may have ended meanwhile
    check_output(folder, marker, overwrite=overwrite)
