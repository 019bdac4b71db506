"""Whether a saved run is intact, and whose inputs it belongs to.

Three things are looked at: files against the hashes the run recorded and the seal over these, the
laws that every valuation obeys, and the images against the content keys the run recorded.

Hashes without a signature show accidents and clumsy edits. Who rewrites files, hashes and seal
together is shown by a copy of the seal that was kept elsewhere, and by nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gmvaluator.errors import InputError, RunError
from gmvaluator.images import ImageSet, Preprocessing, set_fingerprint
from gmvaluator.laws import check_laws
from gmvaluator.progress import Advance, Progress, as_progress
from gmvaluator.run_sides import RunSide
from gmvaluator.runs import open_side
from gmvaluator.sealing import EARLIER_SEALS, FILES, RUN_SEAL, SEAL, broken, seal_of
from gmvaluator.valuation import MARKER, Valuation, read_marker, read_table

State = Literal["ok", "failed", "unknown"]
Side = Literal["train", "generated"]
NAMED = 20  # ids told in full; their number is told always
_SMALL = Preprocessing(8)


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what.
        state: `unknown`: it could not be checked.
        found: sentences: what is wrong, why it could not be checked, or what was found right.
    """

    name: str
    state: State
    found: tuple[str, ...]


@dataclass(frozen=True)
class InputCheck(Check):
    """Whether a set of images is the one that was valued.

    Attributes:
        n: images that the run lists.
        missing: ids the set no longer lists, or lists and cannot read.
        changed: ids whose content is another now.
        added: ids that the set lists and the run knows nothing of.
    """

    n: int = 0
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        run: folder.
        seal: recorded by the run; keep a copy elsewhere. None: an older run without.
        files, laws: of the run itself.
        train, generated: its images.
    """

    run: str
    seal: str | None
    files: tuple[Check, ...]
    laws: Check
    train: InputCheck
    generated: InputCheck

    @property
    def checks(self) -> tuple[Check, ...]:
        return (*self.files, self.laws, self.train, self.generated)

    @property
    def intact(self) -> bool:
        """Nothing that could be checked is wrong; see the states for what could not."""
        return all(check.state != "failed" for check in self.checks)

    @property
    def complete(self) -> bool:
        """Everything could be checked."""
        return all(check.state != "unknown" for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Plain types; `intact` is what the exit code of `gmvaluator verify` says."""
        return {
            "run": self.run,
            "intact": self.intact,
            "complete": self.complete,
            "seal": self.seal,
            "checks": [asdict(check) for check in self.checks],
        }

    def as_text(self) -> str:
        """For a terminal."""
        words = {"ok": "ok", "failed": "WRONG", "unknown": "not checked"}
        lines = [
            f"{words[check.state]:<12} {check.name}: {sentence}"
            for check in self.checks
            for sentence in check.found
        ]
        open_ones = [check.name for check in self.checks if check.state == "unknown"]
        verdict = "intact" if self.intact else "NOT intact"
        if self.intact and open_ones:
            verdict += f"; not checked: {', '.join(open_ones)}"
        lines.append(f"{self.run} is {verdict}")
        if self.seal:
            lines.append(
                f"seal {self.seal}: a copy kept elsewhere shows later (--seal) whether the whole "
                "run was rewritten; hashes alone do not"
            )
        return "\n".join(lines)


def verify(
    run: str | Path,
    *,
    train: object = None,
    generated: object = None,
    seal: str | None = None,
    quick: bool = False,
    progress: bool | Progress = False,
) -> Verification:
    """Check a run folder, and the images it was made from as far as they are at hand.

    Args:
        run: folder that `Valuation.save` or `gmvaluator value` wrote.
        train, generated: any source of `ImageSet`: where images are no longer where the run had
            them, or to be told whether the run was made from these.
        seal: that the run had, if a copy was kept.
        quick: compare ids of images only; their content is not read.
        progress: True for bars on standard error, or an object with `stage`.

    Raises:
        RunError: no run is there at all, or its `run.json` cannot be read.
        InputError: a set that was given cannot be opened, or the seal is no seal.
    """
    folder = Path(run)
    info = read_marker(folder, MARKER, "run")
    recorded = info.get(SEAL)
    files = (_files(info, folder), _seal(info, seal), *_made_of_it(info, folder))
    given: dict[Side, object] = {
        "train": None if train is None else ImageSet.open(train),
        "generated": None if generated is None else ImageSet.open(generated),
    }
    try:
        valuation = Valuation.load(folder, check=False)
        laws = _laws(valuation, folder)
        train_check, generated_check = (
            _inputs(valuation, side, given[side], quick, as_progress(progress))
            for side in ("train", "generated")
        )
    except RunError as error:
        laws = Check("laws", "failed", (str(error),))
        why = ("its tables cannot be read",)
        train_check = InputCheck("training images", "unknown", why)
        generated_check = InputCheck("generated images", "unknown", why)
    return Verification(
        run=str(folder),
        seal=recorded if isinstance(recorded, str) else None,
        files=files,
        laws=laws,
        train=train_check,
        generated=generated_check,
    )


def _files(info: dict[str, Any], folder: Path) -> Check:
    if FILES not in info:
        return Check(
            "files",
            "unknown",
            ("run.json lists no hashes: an older version made the run, or they were taken out",),
        )
    # the record's own seal is told apart from the files it lists
    wrong = broken({FILES: info[FILES]}, folder)
    if wrong:
        return Check("files", "failed", tuple(wrong))
    return Check("files", "ok", (f"all {len(info[FILES])} are as they were saved",))


def _seal(info: dict[str, Any], given: str | None) -> Check:
    if given is not None and (len(given) != 64 or set(given.lower()) - set("0123456789abcdef")):
        raise InputError(f"{given!r} is no seal; pass the 64 hex digits that verify printed")
    if SEAL not in info:
        if given is not None:
            return Check("seal", "failed", ("run.json has none, and one was given",))
        return Check(
            "seal",
            "unknown",
            ("run.json has none: an older version made the run, or it was taken out",),
        )
    if info[SEAL] != seal_of(info):
        return Check("seal", "failed", ("run.json was changed: its seal does not fit it",))
    if given is None:
        return Check("seal", "ok", ("fits run.json",))
    if info[SEAL] != given.lower():
        return Check("seal", "failed", (f"the run has another one than was given: {info[SEAL]}",))
    return Check("seal", "ok", ("fits run.json, and is the one given",))


def _made_of_it(info: dict[str, Any], folder: Path) -> list[Check]:
    """Whether what was made of the run (an audit, say) was made of this one, and is whole."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        if file.name == MARKER or not (isinstance(content, dict) and RUN_SEAL in content):
            continue
        wrong = broken(content, folder)
        saved = ", and as it was saved" if FILES in content else ""
        right = f"made of this run{saved}"
        earlier = info.get(EARLIER_SEALS)
        if isinstance(earlier, list) and content[RUN_SEAL] in earlier:
            right = f"made of this run before it was extended{saved}"
        elif content[RUN_SEAL] != info.get(SEAL):
            wrong = ["it was made of another run", *wrong]
        found.append(Check(file.name, "failed" if wrong else "ok", tuple(wrong) or (right,)))
    return found


def _laws(valuation: Valuation, folder: Path) -> Check:
    values, pairs = (read_table(folder / f"{name}.parquet") for name in ("values", "contributions"))
    try:
        laws = check_laws(valuation, values, pairs)
    except (KeyError, ValueError, TypeError) as error:
        return Check("laws", "failed", (f"the tables lack what they are to hold ({error})",))
    wrong = tuple(str(law) for law in laws if law.broken)
    return Check("laws", "failed" if wrong else "ok", wrong or (f"all {len(laws)} hold",))


def _inputs(
    valuation: Valuation, side: Side, given: object, quick: bool, progress: Progress
) -> InputCheck:
    name = "training images" if side == "train" else "generated images"
    opened = open_side(valuation, side, given)
    n = len(opened.ids)
    if opened.images is None:
        return InputCheck(name, "unknown", (str(opened.trouble),), n)
    left_out = {skip.id for each, skip in valuation.skipped if each == side}
    known = set(opened.ids) | left_out
    added = tuple(each for each in opened.images.ids if each not in known)
    missing = tuple(
        each for each, row in zip(opened.ids, opened.rows.tolist(), strict=True) if row < 0
    )
    where = f"the set at {opened.images.location or 'hand'}"
    if quick:
        wrong = _differences(missing, (), added)
        state: State = "failed" if wrong else "unknown"
        ids_only = f"{where} lists the same {n} ids; contents were not read (--quick)"
        return InputCheck(name, state, tuple(wrong) or (ids_only,), n, missing, (), added)
    keys = _contents(opened, progress, name)
    missing += tuple(
        each
        for each, key, row in zip(opened.ids, keys, opened.rows.tolist(), strict=True)
        if row >= 0 and key is None
    )
    changed = _changed(opened, keys)
    wrong = _differences(missing, changed, added)
    if opened.keys is None and not missing:
        recorded = valuation.info.get("inputs", {}).get(side, {}).get("fingerprint")
        if recorded is None and not wrong:
            nothing = ("the run recorded neither content keys nor a fingerprint",)
            return InputCheck(name, "unknown", nothing, n)
        if recorded not in (None, set_fingerprint(opened.ids, [str(key) for key in keys])):
            wrong.append(
                "contents of some differ from those valued; this older run does not say which"
            )
    if wrong:
        wrong = _of_another_set(opened, keys, missing, added, where) + wrong
    same = (f"{where} holds the same {n} images",)
    return InputCheck(
        name, "failed" if wrong else "ok", tuple(wrong) or same, n, missing, changed, added
    )


def _contents(side: RunSide, progress: Progress, name: str) -> list[str | None]:
    """Content key of each image of the run as it is now; None where it is gone or unreadable."""
    if side.images is None:
        return [None] * len(side.ids)
    rows = side.rows.tolist()
    listed = sorted(row for row in rows if row >= 0)
    with progress.stage(f"read {name}", len(listed)) as advance:
        now = _keys_of(side.images, listed, advance)
    return [now.get(row) for row in rows]


def _keys_of(
    images: ImageSet, rows: Sequence[int], advance: Advance = lambda count: None
) -> dict[int, str]:
    """Content key by row; those that cannot be read are missing."""
    keys: dict[int, str] = {}
    # every key is said to be known: content is hashed, and nothing decoded
    for batch in images.batches(_SMALL, rows=rows, known=lambda key: True):
        keys.update(zip(batch.rows.tolist(), batch.keys, strict=True))
        advance(len(batch.rows) + len(batch.skipped))
    return keys


def _changed(side: RunSide, keys: Sequence[str | None]) -> tuple[str, ...]:
    if side.keys is None:
        return ()
    return tuple(
        each
        for each, then, now in zip(side.ids, side.keys, keys, strict=True)
        if now is not None and now != then
    )


def _of_another_set(
    side: RunSide,
    keys: Sequence[str | None],
    missing: Sequence[str],
    added: Sequence[str],
    where: str,
) -> list[str]:
    """Whether the images are there under other ids, or none of them is there."""
    images, then = side.images, side.keys
    if then is None or images is None:
        return []
    gone = set(missing)
    lost = {key for each, key in zip(side.ids, then, strict=True) if each in gone}
    place_of = {each: place for place, each in enumerate(images.ids)}
    there = _keys_of(images, [place_of[each] for each in added]).values() if lost else ()
    renamed = len(lost & set(there))
    if renamed:
        return [f"{renamed} of the missing images are there under other ids"]
    if all(now != before for now, before in zip(keys, then, strict=True)):
        return [f"{where} is another set: not one image of the run is in it"]
    return []


def _differences(missing: Sequence[str], changed: Sequence[str], added: Sequence[str]) -> list[str]:
    parts = (
        ("are gone or cannot be read", missing),
        ("have other content than was valued", changed),
        ("were not there when the run was made", added),
    )
    return [f"{len(ids)} {what}: {_named(ids)}" for what, ids in parts if ids]


def _named(ids: Sequence[str]) -> str:
    rest = len(ids) - NAMED
    return ", ".join(ids[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
