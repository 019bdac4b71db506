"""Appending generated images to a run: only the new ones are valued."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.engine.reload import recorded_holdout
from gmvaluator.errors import InputError, RunError
from gmvaluator.files.seals import EARLIER_SEALS, SEAL
from gmvaluator.images import ImageSet, set_fingerprint
from gmvaluator.runs.tables import MARKER, check_run_output, read_marker
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions
from gmvaluator.settings import null_choice
from gmvaluator.valuator import GMValuator

# what decides a score, beside the settings themselves
_SAME = ("weights", "encoders")
# of the test for images without a contributor, what is of one set of images
_COUNTS = ("share", "images")
# distances of networks differ in their last digits between machines, backends and thread counts
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Extension:
    """A run with more generated images.

    Attributes:
        valuation: of all of them.
        n_before, n_new: generated images the run had, and those that were added.
        out: folder it was saved to.
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
    generated: object,
    *,
    train: object = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    prefix: str = "",
    allow_copies: bool = False,
    holdout: object = None,
    strict: bool = False,
    **changes: Any,
) -> Extension:
    """Value new generated images as a run did, append them, and save it.

    Args:
        run: folder of the run.
        generated: the new images, any source of `ImageSet`.
        train: the training images, where they are no longer where the run had them.
        out: folder to save to; None: the run itself. Its payouts stay as they are; its report
            and whatever else is made again is deleted.
        overwrite: replace the run that `out` holds.
        prefix: written before the ids of new images, those that cannot be read too.
        allow_copies: take new images whose content the run has already; they would count again.
        holdout: the images of the run's null sample, where they are no longer where it had them.
        strict: as for `GMValuator.value`.
        changes: of where things are computed and kept: device, backend, cache, memory, progress.

    Raises:
        InputError: ids collide, content repeats, or the set cannot be used.
        RunError: the training images, weights or encoders are others now, the run was changed
            meanwhile, or saving failed.
    """
    folder = Path(run)
    target = folder if out is None else Path(out)
    in_place = out is None or (target.exists() and target.samefile(folder))
    check_run_output(target, overwrite=overwrite or in_place)
    record = read_marker(folder, MARKER, "run")
    old = Valuation.load(folder)
    images = ImageSet.open(generated)
    _refuse_ids(old, [prefix + name for name in images.ids])
    others = recorded_holdout(old.info, holdout, f"run {folder}")
    # `auto` asks how many images there are: what it chose for the run is chosen for these
    settings = old.info.get("settings", {})
    used = set(str(settings.get("index_used", "none")).split(", "))
    if settings.get("index") == "auto" and len(used) == 1 and used != {"none"}:
        changes = {"index": used.pop()} | changes
    valuator = GMValuator.refit(folder, train=train, strict=strict, **changes)
    new = valuator.value(images, holdout=others, strict=strict)
    joined = join(old, new, prefix=prefix, allow_copies=allow_copies)
    # valuing takes long, and what another process saved into the run meanwhile would be lost
    if read_marker(folder, MARKER, "run") != record:
        raise RunError(f"run {folder} was changed meanwhile; nothing was saved, extend it again")
    # payouts of the run as it was are payouts of this one
    seals = [*record.get(EARLIER_SEALS, []), *([record[SEAL]] if SEAL in record else [])]
    joined = replace(joined, info=joined.info | {EARLIER_SEALS: seals})
    joined.save(target, overwrite=overwrite or in_place)
    return Extension(joined, len(old.generated_ids), len(new.generated_ids), target)


def join(
    old: Valuation, new: Valuation, *, prefix: str = "", allow_copies: bool = False
) -> Valuation:
    """One valuation of the generated images of two, of the same training images and settings.

    Every score depends on its own generated image and the training set alone, so this is the
    valuation of all of them.

    Args:
        old, new: valuations; the generated images of `new` come last.
        prefix: written before the ids of `new`, those of its skipped images too.
        allow_copies: whether `new` may hold images whose content `old` has.

    Raises:
        InputError: ids collide or content repeats.
        RunError: they are not of the same training images in one order, or other settings,
            weights or encoders made them.
    """
    new = replace(
        new,
        generated_ids=tuple(prefix + name for name in new.generated_ids),
        skipped=tuple(
            (side, replace(skip, id=prefix + skip.id) if side == "generated" else skip)
            for side, skip in new.skipped
        ),
    )
    _refuse_ids(old, _all_ids(new))
    _refuse_others(old, new)
    if not allow_copies:
        _refuse_copies(old, new)
    own, more = old.contributions, new.contributions
    keys = None
    if old.generated_keys is not None and new.generated_keys is not None:
        keys = (*old.generated_keys, *new.generated_keys)
    labels = None
    if old.generated_labels is not None or new.generated_labels is not None:
        labels = tuple(
            label
            for each in (old, new)
            for label in each.generated_labels or (None,) * len(each.generated_ids)
        )
    ids = (*old.generated_ids, *new.generated_ids)
    known = {(side, skip.id) for side, skip in old.skipped}
    later = [(side, skip) for side, skip in new.skipped if (side, skip.id) not in known]
    quality = np.concatenate([old.quality, new.quality])
    match_p, told = _joined_null(old, new, quality)
    info = _joined_info(old, new, prefix, set_fingerprint(ids, keys) if keys else None)
    return replace(
        old,
        generated_ids=ids,
        generated_labels=labels,
        generated_keys=keys,
        quality=quality,
        contributions=Contributions(
            rows=np.concatenate([own.rows, more.rows]),
            distances=np.concatenate([own.distances, more.distances]),
            scores=np.concatenate([own.scores, more.scores]),
            n_train=own.n_train,
        ),
        skipped=(*old.skipped, *later),
        info=info | told,
        match_p=match_p,
    )


def _joined_null(
    old: Valuation, new: Valuation, quality: NDArray[np.float64]
) -> tuple[NDArray[np.float64] | None, dict[str, Any]]:
    """The test for images without a contributor, of all: (p-values, entries of `info`)."""
    told = old.info.get("unattributed")
    if told is None or old.match_p is None or new.match_p is None:
        return None, {}
    p = np.concatenate([old.match_p, new.match_p])
    without = p <= told["level"]
    total = float(quality.sum())
    share = float(quality[without].sum()) / total if total > 0 else 0.0
    return p, {"unattributed": told | {"share": share, "images": int(without.sum())}}


def _all_ids(valuation: Valuation) -> list[str]:
    """Ids of the generated images, those that could not be read too."""
    left_out = [skip.id for side, skip in valuation.skipped if side == "generated"]
    return [*valuation.generated_ids, *left_out]


def _refuse_ids(old: Valuation, names: Sequence[str]) -> None:
    both = sorted(set(_all_ids(old)) & set(names))
    if both:
        raise InputError(
            f"{len(both)} new images have ids that the run has already ({', '.join(both[:3])}"
            f"{' …' if len(both) > 3 else ''}); rename them, or pass --prefix TEXT (prefix=…) to "
            "write before the new ids"
        )


def _refuse_copies(old: Valuation, new: Valuation) -> None:
    known = dict(zip(old.generated_keys or (), old.generated_ids, strict=False))
    copies = [
        (name, known[key])
        for name, key in zip(new.generated_ids, new.generated_keys or (), strict=False)
        if key in known
    ]
    if copies:
        shown = ", ".join(f"{name} is {other}" for name, other in copies[:3])
        raise InputError(
            f"{len(copies)} new images have the content of images in the run ({shown}"
            f"{' …' if len(copies) > 3 else ''}) and would count again; leave them out, or pass "
            "--allow-copies (allow_copies=True)"
        )


def _refuse_others(old: Valuation, new: Valuation) -> None:
    differences = [name for name in _SAME if old.info.get(name) != new.info.get(name)]
    before, now = old.info.get("settings", {}), new.info.get("settings", {})
    differences += [
        name
        for name in dict.fromkeys([*before, *now])
        if name != "index" and not _same(name, before.get(name, now.get(name)), now.get(name))
    ]
    if old.info.get("unattributed") is not None and not _same_null(old, new):
        differences.append("the null sample")
    if old.train_ids != new.train_ids:
        differences.append("training images")
    elif _leaders(old) != _leaders(new):
        differences.append("copies among the training images")
    elif old.contributions.rows.shape[1] != new.contributions.rows.shape[1]:
        differences.append("k")
    if differences:
        raise RunError(
            f"the new images were valued otherwise than the run: {', '.join(differences)} differ; "
            "value all generated images together instead"
        )


def _same(name: str, before: Any, now: Any) -> bool:
    """Whether two entries are equal, or nearly so where they are measured."""
    if name == "null":
        return null_choice(before) == null_choice(now)
    measured = name in ("temperature_used", "threshold")
    if measured and isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=_TOLERANCE)
    return bool(before == now)


def _same_null(old: Valuation, new: Valuation) -> bool:
    (before, held_out), (now, held_out_now) = _null_of(old), _null_of(new)
    return (
        held_out == held_out_now
        and before.keys() == now.keys()
        and all(_same(name, before[name], now[name]) for name in before)
    )


def _leaders(valuation: Valuation) -> list[int] | None:
    """The image that stands for each training image, where copies count once."""
    clusters = valuation.clusters
    return None if clusters is None else clusters.representatives.tolist()


def _null_of(valuation: Valuation) -> tuple[dict[str, Any], str | None]:
    """What the test compared with, and how: without what it said of these images."""
    told = valuation.info.get("unattributed", {})
    held_out = valuation.info.get("inputs", {}).get("holdout", {}).get("fingerprint")
    return {name: value for name, value in told.items() if name not in _COUNTS}, held_out


def _sources(old: Valuation, new: Valuation, prefix: str) -> list[list[str]] | None:
    """Where the images are, as `ImageSet.open` takes it; None where some were in memory."""
    before, later = (
        each.info.get("inputs", {}).get("generated", {}).get("source") for each in (old, new)
    )
    if before is None or later is None:
        return None
    return [*([["", before]] if isinstance(before, str) else before), [prefix, later]]


def _joined_info(
    old: Valuation, new: Valuation, prefix: str, fingerprint: str | None
) -> dict[str, Any]:
    """`run.json` of both: counts and seconds summed, each addition recorded."""
    info, more = old.info, new.info
    seconds = dict(info.get("seconds", {}))
    for stage, spent in more.get("seconds", {}).items():
        seconds[stage] = round(seconds.get(stage, 0.0) + spent, 3)
    inputs = dict(info.get("inputs", {}))
    inputs["generated"] = {"source": _sources(old, new, prefix), "fingerprint": fingerprint}
    addition = {
        "start": len(old.generated_ids),
        "n_generated": len(new.generated_ids),
        "prefix": prefix,
        "input": more.get("inputs", {}).get("generated"),
        "versions": more.get("versions"),
        "images": more.get("images"),
    }
    return info | {
        "n_generated": len(old.generated_ids) + len(new.generated_ids),
        "seconds": seconds,
        "inputs": inputs,
        "extensions": [*info.get("extensions", []), addition],
    }
