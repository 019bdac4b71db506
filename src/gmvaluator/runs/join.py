"""Two valuations of the same training images become the valuation of all generated images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvaluator.errors import InputError, RunError, either
from gmvaluator.images import set_fingerprint
from gmvaluator.images.ids import code_points, letters
from gmvaluator.runs.record import Input, RunRecord, Source, Unattributed
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.scores import Contributions
from gmvaluator.settings import null_choice

# entries of the record that decide a score, beside the settings
_SAME = ("weights", "encoders")
# entries of the test for images without a contributor that count the images of one run
_COUNTS = ("share", "images")
# network distances differ in their last digits between machines, backends and thread counts
_TOLERANCE = 1e-3


def join(
    old: Valuation, new: Valuation, *, prefix: str = "", allow_copies: bool = False
) -> Valuation:
    """The valuation of the generated images of both.

    A score depends on its own generated image and on the training set, and on no other generated
    image. So the joined scores equal those of valuing all generated images at once.

    Args:
        old, new: valuations of the same training images, made with the same settings. The
            generated images of `new` come last.
        prefix: text before the ids of `new`, including its skipped images.
        allow_copies: whether `new` may hold images with the content of images of `old`.

    Raises:
        InputError: ids collide or content repeats.
        RunError: the training images, their order, the settings, the weights or the encoders
            differ.
    """
    new = replace(
        new,
        generated_ids=tuple(prefix + name for name in new.generated_ids),
        skipped=tuple(
            (side, replace(skip, id=prefix + skip.id) if side == "generated" else skip)
            for side, skip in new.skipped
        ),
    )
    refuse_ids(old, _all_ids(new))
    _refuse_others(old, new)
    if not allow_copies:
        _refuse_copies(old, new)
    before, after = old.contributions, new.contributions
    keys = None
    if old.generated_keys is not None and new.generated_keys is not None:
        keys = (*old.generated_keys, *new.generated_keys)
    labels = None
    if old.generated_labels is not None or new.generated_labels is not None:
        labels = tuple(
            label
            for valuation in (old, new)
            for label in valuation.generated_labels or (None,) * len(valuation.generated_ids)
        )
    ids = (*old.generated_ids, *new.generated_ids)
    skipped = {(side, letters(skip.id)) for side, skip in old.skipped}
    later = [(side, skip) for side, skip in new.skipped if (side, letters(skip.id)) not in skipped]
    quality = np.concatenate([old.quality, new.quality])
    match_p, unattributed = _joined_null(old, new, quality)
    record = _joined_record(old, new, prefix, set_fingerprint(ids, keys) if keys else None)
    return replace(
        old,
        generated_ids=ids,
        generated_labels=labels,
        generated_keys=keys,
        quality=quality,
        contributions=Contributions(
            rows=np.concatenate([before.rows, after.rows]),
            distances=np.concatenate([before.distances, after.distances]),
            scores=np.concatenate([before.scores, after.scores]),
            n_train=before.n_train,
        ),
        skipped=(*old.skipped, *later),
        record=replace(record, unattributed=unattributed),
        match_p=match_p,
        nearest_distances=_nearer(old.nearest_distances, new.nearest_distances),
    )


def _nearer(
    old: NDArray[np.float32] | None, new: NDArray[np.float32] | None
) -> NDArray[np.float32] | None:
    """(n,) the smaller of both distances, NaN where both are; None where one is not known."""
    return None if old is None or new is None else np.fmin(old, new)


def _joined_null(
    old: Valuation, new: Valuation, quality: NDArray[np.float64]
) -> tuple[NDArray[np.float64] | None, Unattributed | None]:
    """The test for images without a contributor, of all: (p-values, entry of the record)."""
    test = old.record.unattributed
    if test is None or old.match_p is None or new.match_p is None:
        return None, test
    p = np.concatenate([old.match_p, new.match_p])
    without = p <= test.level
    total = float(quality.sum())
    share = float(quality[without].sum()) / total if total > 0 else 0.0
    return p, replace(test, share=share, images=int(without.sum()))


def _all_ids(valuation: Valuation) -> list[str]:
    """Ids of the generated images, including those that could not be read."""
    left_out = [skip.id for side, skip in valuation.skipped if side == "generated"]
    return [*valuation.generated_ids, *left_out]


def refuse_ids(old: Valuation, names: Sequence[str]) -> None:
    """Refuse ids of new generated images that a valuation has already, in letters or as they are.

    Raises:
        InputError: some of `names` are ids of generated images of `old`.
    """
    before = set(map(letters, _all_ids(old)))
    common = sorted(name for name in names if letters(name) in before)
    if common:
        raise InputError(
            f"{len(common)} new images have ids that the run has already "
            f"({', '.join(map(code_points, common[:3]))}"
            f"{' …' if len(common) > 3 else ''}); rename them, or pass "
            f"{either('prefix=…', '--prefix TEXT')} to write before the new ids"
        )


def _refuse_copies(old: Valuation, new: Valuation) -> None:
    id_of = dict(zip(old.generated_keys or (), old.generated_ids, strict=False))
    copies = [
        (name, id_of[key])
        for name, key in zip(new.generated_ids, new.generated_keys or (), strict=False)
        if key in id_of
    ]
    if copies:
        shown = ", ".join(f"{name} is {other}" for name, other in copies[:3])
        raise InputError(
            f"{len(copies)} new images have the content of images in the run ({shown}"
            f"{' …' if len(copies) > 3 else ''}) and would count again; leave them out, or pass "
            + either("allow_copies=True", "--allow-copies")
        )


def _refuse_others(old: Valuation, new: Valuation) -> None:
    differences = [name for name in _SAME if getattr(old.record, name) != getattr(new.record, name)]
    before, now = old.record.settings, new.record.settings
    differences += [
        name
        for name in dict.fromkeys([*before, *now])
        if name != "index" and not _same(name, before.get(name, now.get(name)), now.get(name))
    ]
    if old.record.unattributed is not None and not _same_null(old, new):
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
    measured = name in ("temperature_used", "dimension_used", "threshold")
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
    """The representative of each training image; None where every copy counts by itself."""
    clusters = valuation.clusters
    return None if clusters is None else clusters.representatives.tolist()


def _null_of(valuation: Valuation) -> tuple[dict[str, Any], str | None]:
    """The settings and the null sample of the test, without its result for these images."""
    record = valuation.record
    entries = {} if record.unattributed is None else record.unattributed.as_json()
    held_out = record.inputs.holdout
    return (
        {name: value for name, value in entries.items() if name not in _COUNTS},
        None if held_out is None else held_out.fingerprint,
    )


def _sources(old: Valuation, new: Valuation, prefix: str) -> Source | None:
    """Where the images are, as `ImageSet.open` takes it; None where some were in memory."""
    before, later = (run.record.inputs.generated.source for run in (old, new))
    if before is None or not isinstance(later, str):
        return None
    return [*([["", before]] if isinstance(before, str) else before), [prefix, later]]


def _joined_record(
    old: Valuation, new: Valuation, prefix: str, fingerprint: str | None
) -> RunRecord:
    """The record of both: counts and seconds summed, each addition recorded."""
    record, more = old.record, new.record
    seconds = dict(record.seconds)
    for stage, spent in more.seconds.items():
        seconds[stage] = round(seconds.get(stage, 0.0) + spent, 3)
    addition = {
        "start": len(old.generated_ids),
        "n_generated": len(new.generated_ids),
        "prefix": prefix,
        "input": asdict(more.inputs.generated),
        "versions": more.versions,
        "images": more.images,
    }
    return replace(
        record,
        n_generated=len(old.generated_ids) + len(new.generated_ids),
        seconds=seconds,
        inputs=replace(record.inputs, generated=Input(_sources(old, new, prefix), fingerprint)),
        extensions=(*(record.extensions or ()), addition),
    )
