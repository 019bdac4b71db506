"""The audit of a run: generated images that are near copies of training images (Appendix K)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.arguments import whole_number
from gmvaluator.audit.calibration import Calibration
from gmvaluator.audit.evidence import write_evidence
from gmvaluator.audit.near_copies import CopyFinder, CopySettings, Pair
from gmvaluator.audit.pages import FIRST, drop_pages
from gmvaluator.errors import InputError, RunError, pass_overwrite
from gmvaluator.files.atomic import check_into, publish_file
from gmvaluator.files.records import write_record
from gmvaluator.files.seals import RUN_SEAL, sealed
from gmvaluator.geometry import evenly_spread
from gmvaluator.images import ImageSet, ImageSource, set_fingerprint
from gmvaluator.memory import once
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.runs.images import NAMES, RunSide, pass_images
from gmvaluator.shown import short_repr

if TYPE_CHECKING:
    import pyarrow as pa

    from gmvaluator.files.store import Store
    from gmvaluator.progress import Progress

AUDIT_TABLE, AUDIT_RECORD, AUDIT_PAGES = "audit.parquet", "audit.json", "audit"
AUDIT_FORMAT = 1
LISTED = 10
"""Nearest pairs that the record and the command list, copies or not."""


@short_repr
@dataclass(frozen=True, eq=False)
class Audit:
    """The result of `audit_run`.

    Attributes:
        run: the run, with its images.
        settings: of the audit.
        calibration: of the threshold.
        pairs: nearest training image of each audited generated image, in the run's order, each
            followed by the further training images that it is a copy of.
        n_audited: number of audited generated images.
        versions: of the packages that take part.
    """

    run: Run
    settings: CopySettings
    calibration: Calibration
    pairs: tuple[Pair, ...]
    n_audited: int
    versions: dict[str, str]

    @property
    @once
    def copies(self) -> tuple[Pair, ...]:
        """The copies with their nearest training images, nearest pair first."""
        return tuple(pair for pair in self.nearest if pair.is_copy)

    @property
    @once
    def nearest(self) -> list[Pair]:
        """Each audited image with its nearest training image, nearest pair first."""
        nearest = (pair for pair in self.pairs if pair.rank == 1)
        return sorted(nearest, key=lambda pair: (pair.distance, pair.generated))

    def as_json(self) -> dict[str, Any]:
        """The content of `audit.json`, without the hashes of the files."""
        return {
            "format": AUDIT_FORMAT,
            RUN_SEAL: self.run.seal,
            "n_generated": len(self.run.generated.ids),
            "n_audited": self.n_audited,
            "n_train": len(self.run.train.ids),
            "n_copies": len(self.copies),
            "n_copied": len({pair.train for pair in self.pairs if pair.is_copy}),
            "threshold": self.calibration.threshold,
            "warnings": list(self.calibration.warnings),
            "nearest": [self._pair_json(pair) for pair in self.nearest[:LISTED]],
            "calibration": self.calibration.as_json(),
            "settings": asdict(self.settings),
            "versions": self.versions,
        }

    def _pair_json(self, pair: Pair) -> dict[str, Any]:
        return {
            "generated_id": self.run.generated.ids[pair.generated],
            "train_id": self.run.train.ids[pair.train],
            "distance": pair.distance,
            "is_copy": pair.is_copy,
            "placement": pair.placement,
        }

    def table(self) -> pa.Table:
        """The rows of `audit.parquet`."""
        import pyarrow as pa

        generated, train = self.run.generated.ids, self.run.train.ids
        return pa.table(
            {
                "generated_id": pa.array([generated[p.generated] for p in self.pairs], pa.string()),
                "train_id": pa.array([train[p.train] for p in self.pairs], pa.string()),
                "distance": pa.array([p.distance for p in self.pairs], pa.float64()),
                "is_copy": pa.array([p.is_copy for p in self.pairs], pa.bool_()),
                "rank": pa.array([p.rank for p in self.pairs], pa.int64()),
                "placement": pa.array([p.placement for p in self.pairs], pa.string()),
            }
        )

    def save(self, *, overwrite: bool = False, evidence: int = 200) -> Path:
        """Write `audit.parquet`, `audit.json` and evidence pages (`audit/`) into the run.

        The record is written last and deleted first, so that an audit with a record is whole.

        Args:
            overwrite: replace an earlier audit of the run.
            evidence: largest number of copies to show, nearest first. 0: no pages; pages of the
                earlier audit are deleted.

        Returns:
            The record.

        Raises:
            RunError: the run holds an audit or files of these names and `overwrite` is False, or
                the folder cannot be written.
        """
        import pyarrow.parquet as pq

        folder = self.run.folder
        check_audit_output(folder, overwrite=overwrite, evidence=evidence)
        _delete_record(folder)
        with publish_file(folder / AUDIT_TABLE) as part:
            pq.write_table(self.table(), part)
        pages = self._write_pages(folder / AUDIT_PAGES, evidence)
        names = [AUDIT_TABLE, *(f"{AUDIT_PAGES}/{page.name}" for page in pages)]
        with publish_file(folder / AUDIT_RECORD) as part:
            write_record(sealed(self.as_json(), folder, names), part)
        return folder / AUDIT_RECORD

    def _write_pages(self, folder: Path, most: int) -> list[Path]:
        if not most:
            drop_pages(folder)
            return []
        return write_evidence(self.run, self.nearest, self.calibration, folder, most)


def check_audit_output(run: str | Path, *, overwrite: bool, evidence: int = 200) -> None:
    """Refuse, before any work, to write an audit into a run.

    Args:
        run, overwrite, evidence: as for `Audit.save`.

    Raises:
        InputError: `evidence` is no whole number ≥ 0.
        RunError: the run holds an audit or files of these names and `overwrite` is False, files
            that no audit wrote are in the way, or the folder cannot be written.
    """
    whole_number("evidence", evidence, 0)
    folder = Path(run)
    pages = folder / AUDIT_PAGES
    if not overwrite and (folder / AUDIT_RECORD).exists():
        raise RunError(f"{run} already holds an audit; {pass_overwrite()} to replace it")
    # an audit that was interrupted leaves files as well
    leftovers = [file for file in (folder / AUDIT_TABLE, pages / FIRST) if file.exists()]
    if leftovers and not overwrite and not (folder / AUDIT_RECORD).exists():
        raise RunError(
            f"{leftovers[0]} is there, and no {AUDIT_RECORD} that it belongs to; move it away, or "
            f"{pass_overwrite()} to replace it"
        )
    blocked = [file for file in (folder / AUDIT_RECORD, folder / AUDIT_TABLE) if file.is_dir()]
    if evidence and pages.exists():
        foreign = pages.is_dir() and any(pages.iterdir()) and not (pages / FIRST).is_file()
        blocked += [pages] if foreign or not pages.is_dir() else []
    if blocked:
        raise RunError(f"{blocked[0]} is in the way, and no audit wrote it; move it away")
    check_into(folder, AUDIT_RECORD, overwrite=True)
    if pages.is_dir():
        check_into(pages, FIRST, overwrite=True)


def audit_run(
    run: str | Path,
    *,
    train: ImageSource | None = None,
    generated: ImageSource | None = None,
    settings: CopySettings | None = None,
    most: int | None = None,
    cache: bool | str | Path | Store = True,
    device: str = "auto",
    backend: Any = "auto",
    progress: bool | Progress = False,
) -> Audit:
    """Find near copies of a run's training images among its generated images.

    Args:
        run: folder of the run.
        train, generated: any source of `ImageSet`, if the images are no longer where the run had
            them.
        settings: of the audit.
        most: number of generated images to audit, evenly spread. Default: all.
        cache, device, backend, progress: as for `GMValuator`.

    Raises:
        RunError: no run there, a damaged run, or its images have changed since.
        InputError: an image set cannot be opened, or there are too few training images.
    """
    most = None if most is None else whole_number("most", most, 1)
    opened = open_run(run, train=train, generated=generated)
    training, drawn = (_present(side, opened) for side in (opened.train, opened.generated))
    m = len(opened.generated.ids)
    audited = evenly_spread(m, m if most is None else most)
    finder = CopyFinder(
        training,
        settings,
        cache=cache,
        device=device,
        backend=backend,
        progress=progress,
    )
    fitted = finder.fitted.train
    _check_same(opened, opened.train, "train", fitted.ids, fitted.keys)
    matches = finder.match(drawn.select(audited))
    ids = tuple(drawn.ids[audited[row]] for row in matches.rows)
    _check_same(opened, opened.generated, "generated", ids, matches.keys, audited)
    return Audit(
        run=opened,
        settings=finder.settings,
        calibration=finder.calibration,
        pairs=tuple(matches.pairs(finder.calibration.threshold, audited)),
        n_audited=len(audited),
        versions=versions.installed(),
    )


def _present(side: RunSide, run: Run) -> ImageSet:
    """The images of one side in the order of the run.

    Raises:
        InputError: the images cannot be opened.
        RunError: some images are missing.
    """
    if side.images is None:
        raise InputError(f"run {run.folder}: {side.trouble}")
    if side.trouble is not None:
        gone = [name for name, row in zip(side.ids, side.rows, strict=True) if row < 0]
        raise RunError(f"run {run.folder}: {side.trouble}; the first is {gone[0]!r}")
    return side.images.select(side.rows, ids=side.ids)


def _check_same(
    run: Run,
    side: RunSide,
    name: Literal["train", "generated"],
    ids: Sequence[str],
    keys: Sequence[str],
    expected: NDArray[np.int64] | None = None,
) -> None:
    """Refuse images that differ from the valued images.

    Args:
        ids, keys: of the images that can be read now.
        expected: rows in the run of the images that should be there; None: all.

    Raises:
        RunError: an image cannot be read, or has changed since.
    """
    rows = range(len(side.ids)) if expected is None else expected.tolist()
    key_of = dict(zip(ids, keys, strict=True))
    lost = [side.ids[row] for row in rows if side.ids[row] not in key_of]
    changed: list[str] = []
    if side.keys is not None:
        valued = {side.ids[row]: side.keys[row] for row in rows}
        changed = [name for name, key in key_of.items() if key != valued.get(name, key)]
    elif (
        not lost
        and len(rows) == len(side.ids)
        and side.fingerprint not in (None, set_fingerprint(ids, keys))
    ):
        changed = ["one of them; this older run does not say which"]
    if lost or changed:
        what = (
            f"{len(lost)} can no longer be read" if lost else f"{len(changed)} have changed since"
        )
        raise RunError(
            f"{NAMES[name]} of run {run.folder}: {what}, first {(lost or changed)[0]!r}; "
            f"restore them, {pass_images(name)}, or make the run again"
        )


def _delete_record(folder: Path) -> None:
    try:
        (folder / AUDIT_RECORD).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder / AUDIT_RECORD} cannot be replaced ({error.strerror or error}); make the "
            "run's folder writable"
        ) from error
