"""Two commands that write to one place at once: the second is refused before it works."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gmvaluator import GMValuator, RunError
from gmvaluator.files.atomic import claimed
from image_makers import image_folder

Call = Callable[..., tuple[int, str, str]]
LIGHT = ("--encoder", "pixels@8", "--rerank", "none")
HOLD = """
import sys
from pathlib import Path
from gmvaluator.files.atomic import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train`, `gen`, `more`, a `run`, and `many` images for a study."""
    home = tmp_path_factory.mktemp("claims")
    image_folder(home / "many", 40)
    for seed, name in enumerate(("train", "gen", "more")):
        image_folder(home / name, 12, seed=seed)
    valuator = GMValuator(encoder="pixels@8", rerank="none", quality="none", k=3, cache=False)
    valuator.fit(home / "train").value(home / "gen").save(home / "run")
    return home


@pytest.mark.parametrize(
    "words",
    [
        ("value", "train", "gen", "--out", "{out}", *LIGHT),
        ("value", "train", "gen", "--out", "{out}", "--overwrite", *LIGHT),
        ("embed", "train", "--out", "{out}", *LIGHT),
        ("extend", "run", "more", "--prefix", "b/", "--out", "{out}"),
        ("curate", "run", "--out", "{out}"),
        ("reweigh", "run", "--k", "1", "--out", "{out}"),
        ("demo", "--out", "{out}"),
        ("sample", "demo", "-m", "2", "--out", "{out}"),
        ("train-generator", "gan", "train", "--out", "{out}/g.safetensors"),
        ("audit", "run"),
        ("stability", "run"),
    ],
    ids=lambda words: words[0],
)
def test_a_place_that_another_command_writes_to_is_refused(
    call: Call, home: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    places = {
        "audit": "run/audit.json",
        "stability": "run/stability.json",
        "train-generator": "out/g.safetensors",
    }
    place = places.get(words[0], "out")
    with claimed(home / place):
        status, out, err = call(*(word.format(out="out") for word in words))
    # nothing but the message: no stage has begun
    message = f"Error: another process is writing {place}; wait for its end, or choose another"
    assert (status, out, err.startswith(message), err.count("\n")) == (4, "", True, 1)
    assert not (home / "out").exists()


def test_a_place_is_free_again_after_the_command(call: Call, home: Path, tmp_path: Path) -> None:
    words = ("value", home / "train", home / "gen", "--out", tmp_path / "run", *LIGHT)
    assert call(*words, "--k", "99")[0] == 2
    assert list(tmp_path.iterdir()) == []
    assert call(*words, "--k", "3")[0] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_killed_process_keeps_no_place(tmp_path: Path) -> None:
    place = tmp_path / "missing" / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(RunError, match="another process is writing"), claimed(place):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with claimed(place):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["w", "out/planted"])
def test_studies_that_share_a_place_take_turns_and_resume(
    call: Call, home: Path, tmp_path: Path, place: str
) -> None:
    given = ("--valuer", "nearest-pixel", "--k", "10", "--m", "4", "--owners", "2", "--seeds", "1")
    places = ("--out", tmp_path / "out", "--work", tmp_path / "w")
    words = ("evaluate", "planted", home / "many", *given, *places)
    with claimed(tmp_path / place):
        status, out, err = call(*words)
    message = f"Error: another process is writing {tmp_path / place}; wait for its end"
    assert (status, out, err.startswith(message), err.count("\n")) == (4, "", True, 1)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        assert call(*words)[0] == 0
    assert {file.name for file in tmp_path.iterdir()} == {"out", "w"}


def test_all_studies_claim_their_places(call: Call, home: Path, tmp_path: Path) -> None:
    words = ("evaluate", "all", home / "train", "--work", tmp_path / "w", "--out", tmp_path / "out")
    for place in (tmp_path / "w", tmp_path / "out" / "all_train"):
        with claimed(place):
            status, _, err = call(*words)
        assert (status, f"another process is writing {place}" in err) == (4, True)


def test_a_claim_holds_when_the_folders_above_it_are_made_later(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "run"
    with claimed(place):
        place.parent.mkdir(parents=True)
        with pytest.raises(RunError, match="another process is writing"), claimed(place):
            pass
    with claimed(place):
        pass
    assert list(place.parent.iterdir()) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_an_error_of_the_work_is_none_of_the_claim(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="of the work"), claimed(tmp_path / "run"):
        raise TimeoutError("of the work")
