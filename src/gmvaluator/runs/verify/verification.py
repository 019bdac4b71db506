"""Whether a saved run is intact, and whether it was made from given images.

Three things are checked: files against the recorded hashes and the seal over the hashes, the laws
that every run obeys, and images against the recorded content keys.

Hashes without a signature show accidents and careless edits. Someone who rewrites files, hashes and
seal together is caught only by a copy of the seal that was kept elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gmvaluator.errors import InputError, RunError
from gmvaluator.files.records import MALFORMED, UNREADABLE
from gmvaluator.files.seals import EARLIER_SEALS, FILES, RUN_SEAL, SEAL, broken, seal_of
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.places import RUN_FOLDER
from gmvaluator.progress import Progress, as_progress
from gmvaluator.runs.images import NAMES, VALUED
from gmvaluator.runs.record import MARKER, RunRecord, entries_since_seals, read_marker
from gmvaluator.runs.tables import LATER_FILES, RUN_FILES, read_table
from gmvaluator.runs.valuation import Valuation
from gmvaluator.runs.verify.inputs import Check, InputCheck, check_holdout, check_inputs
from gmvaluator.runs.verify.laws import check_laws
from gmvaluator.shown import short_repr

BESIDE = {
    "audit.json": ("audit.parquet", "audit/index.html"),
    "payout.json": (
        "payout.csv",
        "statements/index.html",
        "payout_difference.csv",
        "payout_contested.csv",
    ),
}
"""Records that other commands add to a run, each with the files that are never there without it."""
_MOVE = "move it and its files away, or make it again of this one (--overwrite)"


@short_repr
@dataclass(frozen=True)
class Verification:
    """The result of `verify_run`.

    Attributes:
        run: folder of the run.
        seal: of the run; keep a copy elsewhere. None: an older run without a seal.
        files: checks of the files: hashes, seal, and the records of other commands.
        laws: check of the laws.
        train, generated: checks of the images.
        holdout: check of the images that the null sample was taken from; None: there were none.
    """

    run: str
    seal: str | None
    files: tuple[Check, ...]
    laws: Check
    train: InputCheck
    generated: InputCheck
    holdout: InputCheck | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks, in the order in which they are shown."""
        held_out = () if self.holdout is None else (self.holdout,)
        return (*self.files, self.laws, self.train, self.generated, *held_out)

    @property
    def intact(self) -> bool:
        """No check failed; checks that could not be made do not count."""
        return all(check.state != "failed" for check in self.checks)

    @property
    def complete(self) -> bool:
        """Every check could be made."""
        return all(check.state != "unknown" for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Plain types; `intact` decides the exit code of `gmvaluator verify`."""
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
        unknown = [check.name for check in self.checks if check.state == "unknown"]
        verdict = "intact" if self.intact else "NOT intact"
        if self.intact and unknown:
            verdict += f"; not checked: {', '.join(unknown)}"
        lines.append(f"{self.run} is {verdict}")
        if self.seal:
            lines.append(
                f"seal {self.seal}: a copy kept elsewhere shows later (--seal) whether the whole "
                "run was rewritten; hashes alone do not"
            )
        return "\n".join(lines)


def verify_run(
    run: str | Path,
    *,
    train: ImageSource | None = None,
    generated: ImageSource | None = None,
    holdout: ImageSource | None = None,
    seal: str | None = None,
    quick: bool = False,
    progress: bool | Progress = False,
) -> Verification:
    """Check a run folder, and the images that it was made from as far as they are at hand.

    Args:
        run: folder that `Valuation.save` or `gmvaluator value` wrote.
        train, generated: any source of `ImageSet` that is compared with the images that were
            valued. Default: the recorded source.
        holdout: likewise, for the held-out images of the null sample.
        seal: a copy of the run's seal that was kept elsewhere.
        quick: compare ids of images only; do not read their content.
        progress: True for bars on standard error, or an object with `stage`.

    Raises:
        RunError: no run is there, or `run.json` is no JSON object.
        InputError: a set that was passed cannot be opened, or `seal` is no seal.
    """
    folder = Path(run)
    info = read_marker(folder, RUN_FOLDER)
    files = (_check_files(info, folder), _check_seal(info, folder, seal), *_records(info, folder))
    # a set that was passed must open, also where the run itself cannot be read
    sets = {
        name: None if source is None else ImageSet.open(source)
        for name, source in (("train", train), ("generated", generated), ("holdout", holdout))
    }
    bars = as_progress(progress)
    held_out: InputCheck | None
    try:
        valuation = Valuation.load(folder, check=False)
    except RunError as error:
        laws = Check("laws", "failed", (str(error),))
        train_check, generated_check, held_out = (
            InputCheck(name, "unknown", ("its tables cannot be read",)) for name in NAMES.values()
        )
        if holdout is None and not _had_holdout(info):
            held_out = None
    else:
        laws = _check_laws(valuation, folder)
        train_check, generated_check = (
            check_inputs(valuation, side, sets[side], quick=quick, progress=bars) for side in VALUED
        )
        held_out = check_holdout(valuation, sets["holdout"], quick=quick, progress=bars)
    recorded = info.get(SEAL)
    return Verification(
        run=str(folder),
        seal=recorded if isinstance(recorded, str) else None,
        files=files,
        laws=laws,
        train=train_check,
        generated=generated_check,
        holdout=held_out,
    )


def _check(name: str, wrong: list[str], right: str) -> Check:
    return Check(name, "failed" if wrong else "ok", tuple(wrong) or (right,))


def _check_files(info: Mapping[str, Any], folder: Path) -> Check:
    """Whether all files have the recorded hashes."""
    if FILES not in info:
        return _check_missing("hashes", FILES, info, folder)
    # without the seal, which `_check_seal` checks
    wrong = broken({FILES: info[FILES]}, folder)
    hashes = info[FILES] if isinstance(info[FILES], dict) else dict.fromkeys(RUN_FILES)
    present = (*RUN_FILES[:-1], *(name for name in LATER_FILES if (folder / name).exists()))
    wrong += [f"{name} is not listed with a hash" for name in present if name not in hashes]
    return _check(FILES, wrong, f"all {len(hashes)} are as they were saved")


def _check_seal(info: Mapping[str, Any], folder: Path, seal: str | None) -> Check:
    """Whether the recorded seal fits the record, and is the one that was kept elsewhere."""
    if seal is not None and (len(seal) != 64 or set(seal.lower()) - set("0123456789abcdef")):
        raise InputError(f"{seal!r} is no seal; pass the 64 hex digits that verify printed")
    if SEAL not in info:
        if seal is None:
            return _check_missing("seal", SEAL, info, folder)
        return Check(SEAL, "failed", ("run.json has none, and one was given",))
    wrong = []
    if info[SEAL] != seal_of(info):
        wrong = ["run.json was changed: its seal does not fit it"]
    elif seal is not None and info[SEAL] != seal.lower():
        wrong = [f"the run has another one than was given: {info[SEAL]}"]
    return _check(SEAL, wrong, f"fits run.json{'' if seal is None else ', and is the one given'}")


def _check_missing(what: str, name: str, info: Mapping[str, Any], folder: Path) -> Check:
    """A run without hashes or seal: an older run, or a run that they were taken out of."""
    later = [
        *entries_since_seals(info),
        *(file for file in LATER_FILES if (folder / file).exists()),
    ]
    if later:
        why = f"run.json has no {what}, and had them: it has {', '.join(later)}"
        return Check(name, "failed", (f"{why}, which older versions did not write",))
    why = f"run.json has no {what}: an older version made the run, or they were taken out"
    return Check(name, "unknown", (why,))


def _check_laws(valuation: Valuation, folder: Path) -> Check:
    values, pairs = (read_table(folder / f"{name}.parquet") for name in ("values", "contributions"))
    try:
        laws = check_laws(valuation, values, pairs)
    except MALFORMED as error:
        why = f"a column of the tables is missing or damaged ({type(error).__name__}: {error})"
        return Check("laws", "failed", (why,))
    return _check("laws", [str(law) for law in laws if law.broken], f"all {len(laws)} hold")


def _had_holdout(info: Mapping[str, Any]) -> bool:
    try:
        return RunRecord.from_json(info).inputs.holdout is not None
    except RunError:
        return False


def _records(info: Mapping[str, Any], folder: Path) -> Iterator[Check]:
    """Checks of the records that other commands added to the run (an audit, say)."""
    for name in sorted({*BESIDE, *(file.name for file in folder.glob("*.json"))} - {MARKER}):
        beside = [file for file in BESIDE.get(name, ()) if (folder / file).exists()]
        if (folder / name).exists():
            try:
                content = json.loads((folder / name).read_text(encoding="utf-8"))
            except UNREADABLE as error:
                content = error
            if name in BESIDE or (isinstance(content, dict) and RUN_SEAL in content):
                yield _check_record(name, content, beside, info, folder)
        elif beside:
            why = (
                f"it is missing, and {', '.join(beside)} is there: the record was deleted, or "
                "writing was broken off; restore it, make it again, or move away what is there"
            )
            yield Check(name, "failed", (why,))


def _check_record(
    name: str, content: object, beside: list[str], info: Mapping[str, Any], folder: Path
) -> Check:
    """Whether one such record is of this run, as it was saved, and lists the files beside it."""
    if not isinstance(content, dict):
        why = f" ({content})" if isinstance(content, Exception) else ": it holds no JSON object"
        return Check(name, "failed", (f"it cannot be read{why}",))
    seal, earlier = content.get(RUN_SEAL), info.get(EARLIER_SEALS)
    of_earlier = isinstance(earlier, list) and seal in earlier
    wrong = []
    if RUN_SEAL in content and seal != info.get(SEAL) and not of_earlier:
        wrong.append(f"it was made of another run; {_MOVE}")
    if name in BESIDE:
        keys = (RUN_SEAL, FILES, SEAL)
        wrong += [f"it has no {key}: it was taken out" for key in keys if key not in content]
    wrong += broken(content, folder)
    hashes = content.get(FILES)
    if isinstance(hashes, dict):
        wrong += [f"it lists no hash of {file}" for file in beside if file not in hashes]
    right = "made of this run before it was extended" if of_earlier else "made of this run"
    return _check(name, wrong, right + (", and as it was saved" if FILES in content else ""))
