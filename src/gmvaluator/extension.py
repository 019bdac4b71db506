"""More generated images for a run: only the new images are valued, and the run grows by them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gmvaluator.errors import RunError
from gmvaluator.files.atomic import check_output, locked
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.runs.join import join, refuse_ids
from gmvaluator.runs.record import MARKER, check_by_gmvaluator, read_record
from gmvaluator.runs.valuation import Valuation
from gmvaluator.shown import short_repr
from gmvaluator.valuator import GMValuator


@short_repr
@dataclass(frozen=True, eq=False)
class Extension:
    """A run with more generated images.

    Attributes:
        valuation: of all generated images.
        n_before, n_new: number of generated images before, and number of added ones.
        out: folder of the extended run.
    """

    valuation: Valuation
    n_before: int
    n_new: int
    out: Path

    def as_json(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "n_before": self.n_before,
            "n_new": self.n_new,
            "n_generated": len(self.valuation.generated_ids),
            "skipped": len(self.valuation.skipped),
        }

    def as_text(self) -> str:
        return (
            f"{self.n_new} generated images added to {self.n_before}: "
            f"{len(self.valuation.generated_ids)} in {self.out}"
        )


def extend_run(
    run: str | Path,
    generated: ImageSource,
    *,
    train: ImageSource | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    prefix: str = "",
    allow_copies: bool = False,
    holdout: ImageSource | None = None,
    strict: bool = False,
    **changes: Any,
) -> Extension:
    """Value new generated images with the settings of a run, append them, and save the run.

    Args:
        run: folder of the run.
        generated: the new images, any source of `ImageSet`.
        train: the training images, if they are no longer where the run had them.
        out: folder to save to. Default: the run itself. A payout of the run stays valid; files
            that can be made again from the run, such as its report, are deleted.
        overwrite: replace the run in `out`.
        prefix: text before the ids of the new images, including those that cannot be read.
        allow_copies: take new images with the content of images of the run; such images count
            twice.
        holdout: the images of the run's null sample, if they are no longer where the run had them.
        strict: as for `GMValuator.value`.
        changes: arguments of `GMValuator` that decide no value: device, backend, cache, memory,
            progress.

    Raises:
        InputError: GMValuator did not make the run, ids collide, content repeats, or the new images
            cannot be used.
        RunError: the training images, weights or encoders have changed since, another process
            changed the run meanwhile, or saving failed.
    """
    folder = Path(run)
    target = folder if out is None else Path(out)
    in_place = out is None or (target.exists() and target.samefile(folder))
    record = read_record(folder)
    check_output(target, MARKER, overwrite=overwrite or in_place)
    check_by_gmvaluator(record, folder)
    old = Valuation.load(folder)
    images = ImageSet.open(generated)
    refuse_ids(old, [prefix + name for name in images.ids])
    # `auto` chooses an index by the number of images; the run's choice holds for the new images
    used = set((record.settings.index_used or "none").split(", "))
    if record.settings.index == "auto" and len(used) == 1 and used != {"none"}:
        changes = {"index": used.pop()} | changes
    valuator = GMValuator.refit(folder, train=train, holdout=holdout, strict=strict, **changes)
    new = valuator.value(images, strict=strict)
    joined = join(old, new, prefix=prefix, allow_copies=allow_copies)
    # payouts of the shorter run stay payouts of this run
    joined = replace(joined, record=replace(joined.record, earlier_seals=record.seals))
    with ExitStack() as lock:
        if in_place:
            home = folder.resolve()
            try:
                lock.enter_context(locked(home.with_name(f".{home.name}.extend.lock"), timeout=-1))
            except OSError as error:
                raise RunError(f"cannot write beside run {run}: {error.strerror}") from error
        # valuing takes long: another process may have saved to the run meanwhile
        if read_record(folder) != record:
            raise RunError(
                f"run {folder} was changed meanwhile; nothing was saved, extend it again"
            )
        joined.save(target, overwrite=overwrite or in_place)
    return Extension(joined, len(old.generated_ids), len(new.generated_ids), target)
