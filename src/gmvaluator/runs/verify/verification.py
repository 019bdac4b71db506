"""Whether a saved run is intact, and whose inputs it belongs to.

Three things are looked at: files against the hashes the run recorded and the seal over these, the
laws that every valuation obeys, and the images against the content keys the run recorded.

Hashes without a signature show accidents and clumsy edits. Who rewrites files, hashes and seal
together is shown by a copy of the seal that was kept elsewhere, and by nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gmvaluator.errors import InputError, RunError
from gmvaluator.files.seals import EARLIER_SEALS, FILES, RUN_SEAL, SEAL, broken, seal_of
from gmvaluator.images import ImageSet
from gmvaluator.progress import Progress, as_progress
from gmvaluator.runs.tables import LATER_FILES, MARKER, RUN_FILES, read_marker, read_table
from gmvaluator.runs.valuation import Valuation
from gmvaluator.runs.verify.inputs import (
    HELD_OUT,
    NAMES,
    Check,
    InputCheck,
    State,
    check_holdout,
    check_inputs,
)
from gmvaluator.runs.verify.laws import check_laws

__all__ = ["Check", "InputCheck", "State", "Verification", "verify_run"]

BESIDE = {
    "audit.json": ("audit.parquet", "audit/index.html"),
    "payout.json": (
        "payout.csv",
        "statements/index.html",
        "payout_difference.csv",
        "payout_contested.csv",
    ),
}
"""Records of what is made of a run, and files that are never there without them."""
_SEALED_KEYS = ("unattributed", EARLIER_SEALS, "extensions")
_SEALED_SETTINGS = ("dedup", "null")
_MOVE = "move it and its files away, or make it again of this one (--overwrite)"
_DAMAGE = (AttributeError, KeyError, TypeError, ValueError)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Verification:
    """What `verify_run` found.

    Attributes:
        run: folder.
        seal: recorded by the run; keep a copy elsewhere. None: an older run without.
        files, laws: of the run itself.
        train, generated: its images.
        holdout: the images that a null sample was taken from; None where there were none.
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
        held_out = () if self.holdout is None else (self.holdout,)
        return (*self.files, self.laws, self.train, self.generated, *held_out)

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


def verify_run(
    run: str | Path,
    *,
    train: object = None,
    generated: object = None,
    holdout: object = None,
    seal: str | None = None,
    quick: bool = False,
    progress: bool | Progress = False,
) -> Verification:
    """Check a run folder, and the images it was made from as far as they are at hand.

    Args:
        run: folder that `Valuation.save` or `gmvaluator value` wrote.
        train, generated: any source of `ImageSet`: where images are no longer where the run had
            them, or to be told whether the run was made from these.
        holdout: likewise, the held-out images of a run whose null sample they gave.
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
    files = (_files(info, folder), _seal(info, folder, seal), *_made_of_it(info, folder))
    sets = {"train": train, "generated": generated, "holdout": holdout}
    given = {name: None if each is None else ImageSet.open(each) for name, each in sets.items()}
    told = as_progress(progress)
    held_out: InputCheck | None
    try:
        valuation = Valuation.load(folder, check=False)
    except RunError as error:
        laws = Check("laws", "failed", (str(error),))
        train_check, generated_check, held_out = (
            InputCheck(name, "unknown", ("its tables cannot be read",))
            for name in (*NAMES.values(), HELD_OUT)
        )
        inputs = info.get("inputs")
        if holdout is None and not (isinstance(inputs, dict) and "holdout" in inputs):
            held_out = None
    else:
        laws = _laws(valuation, folder)
        train_check, generated_check = (
            _looked_at(name, partial(check_inputs, valuation, side, given[side], quick, told))
            for side, name in NAMES.items()
        )
        held_out = _looked_at(
            HELD_OUT, partial(check_holdout, valuation, given["holdout"], quick, told)
        )
    return Verification(
        run=str(folder),
        seal=recorded if isinstance(recorded, str) else None,
        files=files,
        laws=laws,
        train=train_check,
        generated=generated_check,
        holdout=held_out,
    )


def _looked_at(name: str, look: Callable[[], Found]) -> Found | InputCheck:
    """What `look` finds; where run.json says nonsense of the set, that."""
    try:
        return look()
    except _DAMAGE as error:
        what = f"run.json does not say what it is to say of them ({_told(error)})"
        return InputCheck(name, "failed", (what,))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _signs_of_a_seal(info: dict[str, Any], folder: Path) -> list[str]:
    """What only versions write that record hashes and a seal as well."""
    settings = info.get("settings")
    asked = settings if isinstance(settings, dict) else {}
    return [
        *(name for name in (FILES, SEAL, *_SEALED_KEYS) if name in info),
        *(f"settings.{name}" for name in _SEALED_SETTINGS if name in asked),
        *(name for name in LATER_FILES if (folder / name).exists()),
    ]


def _not_there(what: str, signs: list[str]) -> Check:
    """A run without hashes or seal: an older one, or one they were taken out of."""
    name = FILES if what == "hashes" else SEAL
    if signs:
        told = f"run.json has no {what}, and had them: it has {', '.join(signs)}"
        return Check(name, "failed", (f"{told}, which older versions did not write",))
    why = f"run.json has no {what}: an older version made the run, or they were taken out"
    return Check(name, "unknown", (why,))


def _files(info: dict[str, Any], folder: Path) -> Check:
    if FILES not in info:
        return _not_there("hashes", _signs_of_a_seal(info, folder))
    # the record's own seal is told apart from the files it lists
    wrong = broken({FILES: info[FILES]}, folder)
    listed = info[FILES] if isinstance(info[FILES], dict) else RUN_FILES
    there = (*RUN_FILES[:-1], *(name for name in LATER_FILES if (folder / name).exists()))
    wrong += [f"{name} is not listed with a hash" for name in there if name not in listed]
    if wrong:
        return Check("files", "failed", tuple(wrong))
    return Check("files", "ok", (f"all {len(info[FILES])} are as they were saved",))


def _seal(info: dict[str, Any], folder: Path, given: str | None) -> Check:
    if given is not None and (len(given) != 64 or set(given.lower()) - set("0123456789abcdef")):
        raise InputError(f"{given!r} is no seal; pass the 64 hex digits that verify printed")
    if SEAL not in info:
        if given is not None:
            return Check("seal", "failed", ("run.json has none, and one was given",))
        return _not_there("seal", _signs_of_a_seal(info, folder))
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
    for name in sorted({*BESIDE, *(file.name for file in folder.glob("*.json"))} - {MARKER}):
        beside = [each for each in BESIDE.get(name, ()) if (folder / each).exists()]
        if not (folder / name).exists():
            if beside:
                found.append(Check(name, "failed", (_without_record(name, beside),)))
            continue
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            content = error
        if name in BESIDE or (isinstance(content, dict) and RUN_SEAL in content):
            found.append(_record(name, content, beside, info, folder))
    return found


def _without_record(name: str, beside: list[str]) -> str:
    return (
        f"it is missing, and {', '.join(beside)} is there: the record was deleted, or writing was "
        "broken off; restore it, make it again, or move away what is there"
    )


def _record(
    name: str, content: object, beside: list[str], info: dict[str, Any], folder: Path
) -> Check:
    """One such record: of this run, sealed, and with the files that it lists."""
    if not isinstance(content, dict):
        why = f" ({content})" if isinstance(content, Exception) else ": it holds no JSON object"
        return Check(name, "failed", (f"it cannot be read{why}",))
    wrong = [
        f"it has no {each}: it was taken out"
        for each in (RUN_SEAL, FILES, SEAL)
        if each not in content and name in BESIDE
    ]
    wrong += broken(content, folder)
    listed = content.get(FILES)
    if isinstance(listed, dict):
        wrong += [f"it lists no hash of {each}" for each in beside if each not in listed]
    saved = ", and as it was saved" if FILES in content else ""
    right = f"made of this run{saved}"
    earlier = info.get(EARLIER_SEALS)
    seal = content.get(RUN_SEAL)
    if isinstance(earlier, list) and seal in earlier:
        right = f"made of this run before it was extended{saved}"
    elif RUN_SEAL in content and seal != info.get(SEAL):
        wrong = [f"it was made of another run; {_MOVE}", *wrong]
    return Check(name, "failed" if wrong else "ok", tuple(wrong) or (right,))


def _laws(valuation: Valuation, folder: Path) -> Check:
    values, pairs = (read_table(folder / f"{name}.parquet") for name in ("values", "contributions"))
    try:
        laws = check_laws(valuation, values, pairs)
    except _DAMAGE as error:
        what = f"the tables or run.json lack what they are to hold ({_told(error)})"
        return Check("laws", "failed", (what,))
    wrong = tuple(str(law) for law in laws if law.broken)
    return Check("laws", "failed" if wrong else "ok", wrong or (f"all {len(laws)} hold",))
