"""Which generated images of a run are near copies of which of its training images (Appendix K)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator import versions
from gmvaluator.audit.evidence import write_evidence
from gmvaluator.audit.near_copies import Calibration, CopyFinder, CopySettings, Pair
from gmvaluator.audit.pages import FIRST, drop_pages
from gmvaluator.errors import InputError, RunError
from gmvaluator.files.atomic import check_into, publish_file
from gmvaluator.files.seals import FILES, RUN_SEAL, SEAL, hash_file, seal_of
from gmvaluator.geometry import evenly_spread
from gmvaluator.images import ImageSet, set_fingerprint
from gmvaluator.runs.folder import Run, open_run
from gmvaluator.runs.images import RunSide

if TYPE_CHECKING:
    import pyarrow as pa

    from gmvaluator.files.store import Store
    from gmvaluator.progress import Progress

TABLE, RECORD, PAGES = "audit.parquet", "audit.json", "audit"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found.

    Attributes:
        run: that was audited, with its images.
        settings: how copies were looked for.
        calibration: the threshold, and what it was taken from.
        pairs: the best match of every generated image looked at, in the run's order, each
            followed by the further training images that it is a copy of too.
        n_audited: generated images looked at.
        versions: of the packages that take part.
    """

    run: Run
    settings: CopySettings
    calibration: Calibration
    pairs: tuple[Pair, ...]
    n_audited: int
    versions: dict[str, str]

    @cached_property
    def copies(self) -> tuple[Pair, ...]:
        """Best matches that are copies, nearest first."""
        found = [pair for pair in self.pairs if pair.rank == 1 and pair.is_copy]
        return tuple(sorted(found, key=_by_distance))

    def as_json(self) -> dict[str, Any]:
        """What `audit.json` holds beside the hashes of the files."""
        return {
            "format": FORMAT,
            RUN_SEAL: self.run.seal,
            "n_generated": len(self.run.generated.ids),
            "n_audited": self.n_audited,
            "n_train": len(self.run.train.ids),
            "n_copies": len(self.copies),
            "n_copied": len({pair.train for pair in self.pairs if pair.is_copy}),
            "threshold": self.calibration.threshold,
            "calibration": self.calibration.as_json(),
            "settings": asdict(self.settings),
            "versions": self.versions,
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

        The record moves last and leaves first, so an audit with a record is always whole.

        Args:
            overwrite: replace the audit that the run holds.
            evidence: pairs shown at most, nearest first; 0 writes no pages, and those of the
                audit that is replaced are deleted.

        Returns:
            The record.

        Raises:
            RunError: the run holds an audit or files of these names (unless `overwrite`), or
                cannot be written.
        """
        import pyarrow.parquet as pq

        folder = self.run.folder
        check_audit_output(folder, overwrite=overwrite, evidence=evidence)
        with _replaced(folder):
            with publish_file(folder / TABLE) as part:
                pq.write_table(self.table(), part)
            pages = self._write_pages(folder / PAGES, evidence)
            names = [TABLE, *(f"{PAGES}/{page.name}" for page in pages)]
            hashes = {name: hash_file(folder / name) for name in names}
            content = json.loads(json.dumps(self.as_json() | {FILES: hashes}))
            text = json.dumps(content | {SEAL: seal_of(content)}, indent=2, ensure_ascii=False)
            with publish_file(folder / RECORD) as part:
                part.write_text(text + "\n", encoding="utf-8")
        return folder / RECORD

    def _write_pages(self, folder: Path, most: int) -> list[Path]:
        if not most:
            drop_pages(folder)
            return []
        best = sorted((each for each in self.pairs if each.rank == 1), key=_by_distance)
        return write_evidence(self.run, best, self.calibration, folder, most)


def _by_distance(pair: Pair) -> tuple[float, int]:
    return pair.distance, pair.generated


def check_audit_output(run: str | Path, *, overwrite: bool, evidence: int = 200) -> None:
    """Refuse before the work is done.

    Args:
        run, overwrite, evidence: as for `Audit.save`.

    Raises:
        RunError: the run holds an audit or files of these names and `overwrite` is not given,
            something no audit wrote is in the way, or the folder cannot be written to.
    """
    folder = Path(run)
    pages = folder / PAGES
    if not overwrite and (folder / RECORD).exists():
        raise RunError(
            f"{run} already holds an audit; pass --overwrite (overwrite=True) to replace it"
        )
    # an audit that was broken off leaves them too
    there = [file for file in (folder / TABLE, pages / FIRST) if file.exists()]
    if there and not overwrite and not (folder / RECORD).exists():
        raise RunError(
            f"{there[0]} is there, and no {RECORD} that it belongs to; move it away, or pass "
            "--overwrite (overwrite=True) to replace it"
        )
    blocked = [file for file in (folder / RECORD, folder / TABLE) if file.is_dir()]
    if evidence and pages.exists():
        others = pages.is_dir() and any(pages.iterdir()) and not (pages / FIRST).is_file()
        blocked += [pages] if others or not pages.is_dir() else []
    if blocked:
        raise RunError(f"{blocked[0]} is in the way, and no audit wrote it; move it away")
    check_into(folder, RECORD, overwrite=True)
    if pages.is_dir():
        check_into(pages, FIRST, overwrite=True)


def audit(
    run: str | Path,
    *,
    train: object = None,
    generated: object = None,
    settings: CopySettings | None = None,
    most: int | None = None,
    cache: bool | str | Path | Store = True,
    device: str = "auto",
    backend: Any = "auto",
    progress: bool | Progress = False,
) -> Audit:
    """Look for near copies of a run's training images among its generated ones.

    Args:
        run: folder of the run.
        train, generated: any source of `ImageSet`, where images are no longer where the run had
            them.
        settings: how copies are looked for.
        most: generated images looked at, evenly spread; None: all.
        cache, device, backend, progress: as for `GMValuator`.

    Raises:
        RunError: no run is there, it is not as it was saved, or its images are others now.
        InputError: a set cannot be opened, or too few training images.
    """
    opened = open_run(run, train=train, generated=generated)
    if most is not None and most < 1:
        raise InputError(f"most={most} generated images; pass at least 1, or leave it out for all")
    training, drawn = (
        _present(side, name, opened)
        for side, name in ((opened.train, "train"), (opened.generated, "generated"))
    )
    m = len(opened.generated.ids)
    chosen = evenly_spread(m, m if most is None else most)
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
    matches = finder.match(drawn.select(chosen))
    ids = tuple(drawn.ids[chosen[row]] for row in matches.rows)
    _check_same(opened, opened.generated, "generated", ids, matches.keys, chosen)
    return Audit(
        run=opened,
        settings=finder.settings,
        calibration=finder.calibration,
        pairs=tuple(matches.pairs(finder.calibration.threshold, chosen)),
        n_audited=len(chosen),
        versions=versions.installed(),
    )


def _present(side: RunSide, name: str, run: Run) -> ImageSet:
    """The images of one side in the order of the run.

    Raises:
        InputError: they cannot be opened.
        RunError: some are no longer there.
    """
    if side.images is None:
        raise InputError(f"{name} images of run {run.folder}: {side.trouble} (--{name} SET)")
    if side.trouble is not None:
        gone = [each for each, row in zip(side.ids, side.rows, strict=True) if row < 0]
        raise RunError(
            f"{name} images of run {run.folder}: {side.trouble}, first {gone[0]!r}; restore them "
            f"or pass where they are (--{name} SET)"
        )
    return side.images.select(side.rows)


def _check_same(
    run: Run,
    side: RunSide,
    name: str,
    ids: Sequence[str],
    keys: Sequence[str],
    chosen: NDArray[np.int64] | None = None,
) -> None:
    """Refuse images that are not those that were valued.

    Args:
        ids, keys: of the images that could be read now.
        chosen: rows of the run they should be; None: all.

    Raises:
        RunError: some cannot be read, or have other content.
    """
    rows = range(len(side.ids)) if chosen is None else chosen.tolist()
    now = dict(zip(ids, keys, strict=True))
    lost = [side.ids[row] for row in rows if side.ids[row] not in now]
    other: list[str] = []
    if side.keys is not None:
        then = {side.ids[row]: side.keys[row] for row in rows}
        other = [each for each, key in now.items() if key != then.get(each, key)]
    elif not lost and len(rows) == len(side.ids):
        recorded = run.valuation.info.get("inputs", {}).get(name, {}).get("fingerprint")
        if recorded is not None and recorded != set_fingerprint(ids, keys):
            other = ["one of them; this older run does not say which"]
    if lost or other:
        what = f"{len(lost)} can no longer be read" if lost else f"{len(other)} have changed since"
        raise RunError(
            f"{name} images of run {run.folder}: {what}, first {(lost or other)[0]!r}; "
            f"restore them, pass where they are (--{name} SET), or make the run again"
        )


@contextmanager
def _replaced(folder: Path) -> Iterator[None]:
    """Without a record while files are being replaced."""
    try:
        (folder / RECORD).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder / RECORD} cannot be replaced ({error.strerror or error}); make the run's "
            "folder writable"
        ) from error
    yield
