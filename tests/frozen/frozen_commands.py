"""The command line as the frozen tests use it: called in this process, its help read as text."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from frozen.frozen_shapes import shape_of_folder
from frozen.frozen_values import RECORDED

IMAGES, RUNS, INDEX = RECORDED / "images", RECORDED / "runs", RECORDED / "index"
LEDGER = RECORDED / "settled.ledger"

OPTION = re.compile(r"^  (-\S.*?)(?:\s{2,}|$)")
NAME = re.compile(r"--?[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def call(*arguments: str, cache: Path | None = None) -> Outcome:
    """Call `gmvaluator` with arguments, as its console script does.

    Args:
        arguments: of the command line.
        cache: folder that is the user's cache meanwhile.
    """
    from gmvaluator.cli import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["gmvaluator", *arguments]
    code: Any = 0
    changed = {} if cache is None else {"GMVALUATOR_CACHE": str(cache)}
    try:
        with mock.patch.dict(os.environ, changed):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = before
    return Outcome(code or 0, out.getvalue(), err.getvalue())


def verbs(*above: str) -> dict[str, Any]:
    """Every verb with its arguments and options, read from `--help`; sub-commands by `a b`."""
    found: dict[str, Any] = {}
    for name in _commands(call(*above, "--help").out):
        text = call(*above, name, "--help").out
        full = " ".join((*above, name))
        found[full] = {"arguments": _arguments(text, full), "options": _options(text)}
        if _commands(text):
            found |= verbs(*above, name)
    return found


def _section(text: str, title: str) -> list[str]:
    lines = text.splitlines()
    if title not in lines:
        return []
    after = lines[lines.index(title) + 1 :]
    return after[: after.index("")] if "" in after else after


def _commands(text: str) -> list[str]:
    lines = _section(text, "Commands:")
    return [line.split()[0] for line in lines if re.match(r"^  \S", line)]


def _arguments(text: str, verb: str) -> list[str]:
    usage = " ".join(text.partition("\n\n")[0].split())
    return usage.partition(f" {verb} ")[2].replace("[OPTIONS]", "").split()


def _options(text: str) -> dict[str, dict[str, Any]]:
    """Names, whether it is a flag, its choices and whether it is required, by the long name."""
    entries: list[str] = []
    for line in _section(text, "Options:"):
        if line.startswith("  -"):
            entries.append(line)
        elif line.startswith("  "):  # not a heading of options
            entries[-1] += f"  {line.strip()}"
    found = {}
    for entry in entries:
        matched = OPTION.match(entry)
        if matched is None:
            raise ValueError(f"no option can be read from {entry!r}")
        # what follows the names is the metavar, which a flag has not
        words = matched.group(1).replace(" / ", ",").replace(", ", ",").split(" ", 1)
        names = NAME.findall(words[0])
        metavar = words[1] if len(words) > 1 else ""
        listed = metavar.startswith("[") and "|" in metavar
        found[next(name for name in names if name.startswith("--"))] = {
            "names": sorted(names),
            "flag": not metavar,
            "choices": metavar.strip("[]").split("|") if listed else None,
            "required": "[required]" in entry,
        }
    return found


COMMANDS: Mapping[str, tuple[str, ...]] = {
    "report": ("report", "{run}", "--train-images", "{train}", "--generated-images", "{generated}"),
    "verify": ("verify", "{run}", "--train-images", "{train}", "--generated-images", "{generated}"),
    "verify of other images": (
        "verify",
        "{run}",
        "--generated-images",
        "{more}",
        "--train-images",
        "{train}",
    ),
    "verify without images": ("verify", "{run}"),
    "verify the unattributed": (
        *(
            "verify",
            "{unattributed}",
            "--train-images",
            "{train}",
            "--generated-images",
            "{generated}",
        ),
    ),
    "verify the robust": (
        *("verify", "{robust}", "--train-images", "{train}", "--generated-images", "{generated}"),
    ),
    "verify the older": (
        "verify",
        "{older}",
        "--train-images",
        "{train}",
        "--generated-images",
        "{generated}",
    ),
    "match the index": (
        *("match", "{index}", "{generated}/03.png", "--train-images", "{train}", "--top", "3"),
    ),
    "match the run": (
        *("match", "{run}", "{generated}/03.png", "--train-images", "{train}", "--top", "3"),
    ),
    "value by the index": (
        *("value", "{index}", "{generated}", "--train-images", "{train}", "--out", "{out}"),
    ),
    "value by the unattributed": (
        *("value", "{unattributed}", "{generated}", "--train-images", "{train}"),
        *("--out", "{out}", "--no-report"),
    ),
    "value by the older": (
        *("value", "{older}", "{generated}", "--train-images", "{train}"),
        *("--out", "{out}", "--no-report"),
    ),
    "extend": (
        *("extend", "{run}", "{more}", "--train-images", "{train}", "--prefix", "more/"),
        *("--out", "{out}"),
    ),
    "extend the robust": (
        *("extend", "{robust}", "{more}", "--train-images", "{train}", "--prefix", "more/"),
        *("--out", "{out}"),
    ),
    "payout": (
        *("payout", "{run}", "--by", "label", "--budget", "100", "--train-images", "{train}"),
        *("--resamples", "200", "--out", "{out}"),
    ),
    "payout without an owner": (
        *("payout", "{run}", "--by", "label", "--budget", "100", "--train-images", "{train}"),
        *("--withdraw", "3", "--out", "{out}"),
    ),
    "payout once more": (
        *("payout", "{run}", "--by", "label", "--budget", "100", "--train-images", "{train}"),
        *("--ledger", "{ledger}", "--minimum", "5", "--no-statements", "--out", "{out}"),
    ),
    "payout of what was added": (
        *("payout", "{extended}", "--by", "label", "--budget", "50", "--train-images", "{train}"),
        *("--ledger", "{ledger}", "--resamples", "0", "--no-statements", "--out", "{out}"),
    ),
    "ledger": ("ledger", "{ledger}"),
    "curate": (
        *("curate", "{run}", "--train-images", "{train}", "--out", "{out}", "--lowest", "10%"),
    ),
    "uncertainty": ("uncertainty", "{run}"),
    "value of nothing": ("value", "{out}/nothing", "{generated}", "--out", "{out}/run"),
    "value into a run": ("value", "{index}", "{generated}", "--out", "{run}"),
    "value by an index of another re-rank": (
        *("value", "{index}", "{generated}", "--train-images", "{train}", "--out", "{out}"),
        *("--rerank", "pixels@7"),
    ),
    "value by weights that are missing": (
        *("value", "{train}", "{generated}", "--out", "{out}", "--encoder", "lpips:alex"),
        *("--weights", "alexnet={train}/none.pth"),
    ),
    "verify no run": ("verify", "{train}"),
    "an unknown verb": ("valuate", "{run}"),
    "an unknown option": ("verify", "{run}", "--speed"),
}
"""Commands on recorded runs and the recorded index, whose images have moved since."""

# differs from one machine or day to the next, or is a sentence, which may be put in better words
VOLATILE = {
    *("seconds", "bytes", "files", "versions", "weights", "made", "gmvaluator", "package"),
    *("found", "troubles", "seal", "run_seal", "advice", "off_manifold_method", "cores"),
    *("title", "notes"),
}


def play(name: str, folder: Path) -> dict[str, Any]:
    """Carry out one of `COMMANDS` on copies in `folder`; its exit code, output and files."""
    places = {each.name: shutil.copytree(each, folder / each.name) for each in RUNS.iterdir()}
    places["run"] = places.pop("plain")
    places["index"] = shutil.copytree(INDEX, folder / "index")
    places["ledger"] = shutil.copyfile(LEDGER, folder / "ledger")
    places |= {each.name: each for each in IMAGES.iterdir()}
    places["out"] = folder / "out"
    filled = [text.format_map(places) for text in COMMANDS[name]]
    before = {place: set(shape_of_folder(each)) for place, each in places.items() if each.is_dir()}
    done = call(*filled, "--json", cache=folder / "cache")
    told = json.loads(done.out) if done.out else None
    written: dict[str, dict[str, Any]] = {}
    for place, each in places.items():
        shape = shape_of_folder(each)
        new = {file: shape[file] for file in shape if file not in before.get(place, ())}
        written |= {place: new} if new else {}
    return {
        "code": done.code,
        "told": _steady(told, {str(each): f"<{place}>" for place, each in places.items()}),
        "error": done.err.partition(":")[0] if done.code else "",
        "written": written,
        "values": _values(places["out"]),
    }


def _steady(content: Any, places: Mapping[str, str]) -> Any:
    """Without what differs by machine or day; folders by their names."""
    if isinstance(content, dict):
        kept = {key: each for key, each in content.items() if key not in VOLATILE}
        return {_named(key, places): _steady(each, places) for key, each in kept.items()}
    if isinstance(content, list):
        return [_steady(each, places) for each in content]
    return _named(content, places) if isinstance(content, str) else content


def _named(text: str, places: Mapping[str, str]) -> str:
    for path in sorted(places, key=len, reverse=True):
        text = text.replace(path, places[path])
    return text


def _values(folder: Path) -> dict[str, float] | None:
    """The values of a run that was written, by training id."""
    file = folder / "values.parquet"
    if not file.exists():
        return None
    import pyarrow.parquet as pq

    table = pq.read_table(file).to_pydict()
    return dict(zip(table["train_id"], table["value"], strict=True))
