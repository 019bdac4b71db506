"""Errors at the command line: what is wrong, and the option that helps; nothing of Python."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gmvaluator
from gmvaluator import GMValuator, Valuation
from gmvaluator.cli import cli
from gmvaluator.curation import curate_run, export_curation
from gmvaluator.extension import extend_run
from gmvaluator.places import FOLDERS, RUN_FOLDER, wrong_place
from image_makers import image_folder

Call = Callable[..., tuple[int, str, str]]
LEDGER = Path(__file__).parents[1] / "frozen" / "recorded" / "settled.ledger"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images, a run and an index of them, and what else may be taken for these."""
    home = tmp_path_factory.mktemp("places")
    settings = {"encoder": "pixels@8", "rerank": "none", "quality": "none", "cache": False}
    image_folder(home / "train", 12)
    image_folder(home / "gen", 3, seed=1)
    image_folder(home / "more", 2, seed=2)
    valuator = GMValuator(k=3, **settings).fit(home / "train")  # type: ignore[arg-type]
    valuator.save(home / "index")
    valuator.value(home / "gen").save(home / "run")
    export_curation(curate_run(home / "run", off_manifold="0", cache=False), home / "curation")
    (home / "empty").mkdir()
    shutil.copy(LEDGER, home / "ledger")
    (home / "picture.png").write_bytes(next((home / "train").rglob("*.png")).read_bytes())
    return {"home": home, "out": home / "out"} | {path.stem: path for path in home.iterdir()}


@pytest.fixture(scope="module")
def moved(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, an extended run and an index whose images are elsewhere now."""
    home = tmp_path_factory.mktemp("moved")
    before, after = home / "before", home / "after"
    before.mkdir()
    for name in ("train", "gen"):
        shutil.copytree(places[name], before / name)
    settings = {"encoder": "pixels@8", "rerank": "none", "quality": "none", "cache": False}
    valuator = GMValuator(k=3, **settings).fit(before / "train")  # type: ignore[arg-type]
    valuator.save(home / "index")
    valuator.value(before / "gen").save(home / "run")
    shutil.copytree(home / "run", home / "longer")
    extend_run(home / "longer", places["more"], prefix="more/", cache=False)
    before.rename(after)
    return {**places, "train": after / "train", "gen": after / "gen", "out": home / "out"} | {
        name: home / name for name in ("run", "index", "longer")
    }


def error(call: Call, places: dict[str, Path], words: str) -> str:
    """The message of a command that fails."""
    status, out, err = call(*(word.format(**places) for word in words.split()))
    assert (status in (2, 4), out) == (True, "")
    assert "Traceback" not in err
    (line,) = (line for line in err.splitlines() if line.startswith("Error: "))
    return line


RUN_VERBS = {
    "verify": "",
    "report": "",
    "uncertainty": "",
    "stability": "",
    "audit": "",
    "curate": "--out {out}",
    "payout": "--by label --budget 5",
    "extend": "{more} --out {out}",
    "reweigh": "--k 1 --out {out}",
}
"""Verbs that take a run alone, and what else each needs."""


@pytest.mark.parametrize("verb", RUN_VERBS)
def test_a_verb_that_takes_a_run_says_what_it_was_given(
    call: Call, places: dict[str, Path], verb: str
) -> None:
    wanted = "wanted a run folder: gmvaluator value writes run folders"
    for place, message in {
        "index": "is an index folder, not a run folder; value and match take an index folder",
        "curation": "is a curation folder, not a run folder; no verb takes a curation folder",
        "ledger": "is a ledger, not a run folder; gmvaluator ledger takes a ledger",
        "picture": f"is a file, and no run folder; {wanted}",
        "empty": f"is an empty folder; {wanted}",
        "train": f"is no run folder (it holds no run.json); {wanted}",
        "nothing": f"does not exist; {wanted}",
    }.items():
        path = places[place] if place in places else places["home"] / place
        assert f"{path} {message}" in error(call, places, f"{verb} {path} {RUN_VERBS[verb]}")
    assert not places["out"].exists()


@pytest.mark.parametrize(
    "words",
    [
        "value {train} {place} --out {out} --encoder pixels@8",
        "value {place}/. {place} --out {out}",
        "match {train} {place} --encoder pixels@8 --rerank none",
        "extend {run} {place} --out {out}",
        "verify {run} --generated-images {place}",
    ],
)
def test_a_run_or_index_is_no_set_of_images(
    call: Call, places: dict[str, Path], words: str
) -> None:
    for place, name in (("run", "a run folder"), ("index", "an index folder")):
        message = error(call, places | {"place": places[place]}, words)
        assert f"{places[place]} is {name}, and images are wanted here" in message
    assert not places["out"].exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ledger {run}", "is a run folder, not a ledger"),
        ("payout {run} --by label --budget 5 --ledger {index}", "an index folder, not a ledger"),
        ("ledger {picture}", "or pass a ledger"),
        ("value {train} {gen} --out {index}", "is an index folder; choose a new or empty folder"),
        ("embed {train} --out {run}", "is a run folder; choose a new or empty folder"),
        ("value {home}/nothing {gen} --out {out}", "nothing' does not exist; check the path."),
        ("value {picture} {gen} --out {out}", "holds 1 training image, and quality 'domain'"),
        ("value {train} {gen} --out {out} --quality foo", "or an .npy file of one number an image"),
        (
            "value {train} {gen} --out {out} --encoder pixels --rerank none --weights foo=bar",
            "--weights foo=… was given, and no network of these settings has weights of that "
            "name; theirs are none: correct the name, or leave it out",
        ),
        ("value {run} {gen} --out {out} --weights foo=bar", "theirs are none: correct the name"),
        ("match {index} {gen} --weights foo=bar", "--weights foo=… was given, and no network"),
        (
            "value {train} {gen} --out {out} --rerank none --weights clip=c.pt",
            "theirs are efficientnet-lite0: correct the name",
        ),
        ("value {train} {gen} --out {run}", "already holds a result; pass --overwrite to replace"),
        ("extend {run} {gen} --out {out}", "pass --prefix TEXT to write before the new ids"),
        ("extend {run} {gen} --out {out} --prefix a/", "leave them out, or pass --allow-copies"),
        (
            "value {train} {gen} --out {out} --null off --holdout {more} --encoder pixels@8",
            "pass --null report",
        ),
    ],
)
def test_a_message_names_what_helps(
    call: Call, places: dict[str, Path], words: str, message: str
) -> None:
    assert message in error(call, places, words)
    assert not places["out"].exists()


@pytest.mark.parametrize(
    ("words", "side"),
    [
        ("curate {run} --out {out}", "train"),
        ("match {run} {gen}", "train"),
        ("value {run} {gen} --out {out}", "train"),
        ("value {index} {gen} --out {out}", "train"),
        ("extend {run} {more} --out {out} --prefix more/", "train"),
        ("audit {run} --train-images {train}", "generated"),
        ("audit {run}", "train"),
        ("stability {run} --vary encoder", "generated"),
        ("payout {run} --by artist --budget 5", "train"),
        ("stability {run} --by artist --k 2", "train"),
        ("report {run} --metadata artist", "train"),
    ],
)
def test_images_that_moved_need_an_option_that_is_named(
    call: Call, moved: dict[str, Path], words: str, side: str
) -> None:
    name = {"train": "training", "generated": "generated"}[side]
    message = error(call, moved, words)
    assert re.search(rf"the {name} images of (the )?(run|index).* cannot be opened where", message)
    assert message.endswith(f"pass where they are now (--{side.removesuffix('ing')}-images SOURCE)")
    assert not moved["out"].exists()


def test_verify_and_report_go_on_and_name_the_options(
    call: Call, moved: dict[str, Path], tmp_path: Path
) -> None:
    for verb, *more in (("verify",), ("report", "--out", tmp_path / "page.html")):
        status, out, _ = call(verb, moved["run"], *more)
        assert status == 0
        for option in ("--train-images", "--generated-images"):
            assert f"pass where they are now ({option} SOURCE)" in out
    options = ("--train-images", moved["train"], "--generated-images", moved["gen"])
    assert call("verify", moved["run"], *options)[1].count("holds the same") == 2


def test_verify_of_an_extended_run_names_its_sets(call: Call, places: dict[str, Path]) -> None:
    longer = places["home"] / "longer"
    shutil.copytree(places["run"], longer)
    extend_run(longer, places["more"], prefix="more/", cache=False)
    status, out, _ = call("verify", longer, "--quiet")
    assert status == 0
    assert f"the sets at {places['gen']} and {places['more']} holds the same 5 images" in out
    shutil.rmtree(longer)


def test_a_page_keeps_its_pictures_when_the_images_are_gone(
    call: Call, moved: dict[str, Path]
) -> None:
    run, page = moved["run"], moved["run"] / "report.html"
    images = ("--train-images", moved["train"], "--generated-images", moved["gen"])
    assert call("report", run, *images)[0] == 0
    before = page.read_bytes()
    message = error(call, moved, "report {run}")
    assert f"{page} would lose its pictures" in message
    assert "--train-images SOURCE" in message
    assert "--pictures 0 for a page without pictures" in message
    assert page.read_bytes() == before
    assert call("report", run, "--pictures", "0")[0] == 0
    assert len(page.read_bytes()) < len(before)
    # a page without pictures has none to lose
    assert call("report", run)[0] == 0
    page.unlink()


def test_python_is_told_of_python(places: dict[str, Path]) -> None:
    message = wrong_place(places["index"], RUN_FOLDER)
    assert message.endswith("GMValuator.load takes an index folder")
    with pytest.raises(gmvaluator.RunError, match=r"pass overwrite=True to replace it"):
        Valuation.load(places["run"]).save(places["run"])


def test_verbs_that_messages_name_are_there() -> None:
    for kind in FOLDERS:
        for text in (kind.written_by[1], kind.taken_by[1]):
            words = re.findall(r"[a-z]+", text.partition(" take")[0].removeprefix("gmvaluator "))
            named = set(words) - {"and", "no", "verb", "writes", "folders", "run", "index"}
            assert named - {"curation"} <= set(cli.commands), text


PYTHON = re.compile(r"\(?\b[a-z_]+=(…|True|False|\[)|PIL|torch\.nn|np\.|numpy")
ALLOWED = {
    "engine/context.py": "two encoders of one name are Python objects",
    "generators/training.py": "conditional is False in Python alone",
    "encoders/custom.py": "an encoder that is no name is a Python object",
    "images/imageset.py": "rows are chosen in Python alone",
    "images/sources/objects.py": "data sets in memory are of Python alone",
    "samplers/output.py": "a function of the user is written in Python",
    "samplers/networks.py": "a model is exported in Python",
}
"""Files whose messages may speak of Python, and why."""


def messages() -> Iterator[tuple[str, str]]:
    """Texts of `raise` statements by file, without what `either` takes."""
    source = Path(gmvaluator.__file__).parent
    for file in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            either = {
                id(part)
                for call in ast.walk(node.exc)
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "either"
                for part in ast.walk(call)
            }
            texts = [
                str(part.value)
                for part in ast.walk(node.exc)
                if isinstance(part, ast.Constant) and id(part) not in either
            ]
            yield file.relative_to(source).as_posix(), "".join(texts)


def test_messages_have_two_wordings_where_python_and_options_differ() -> None:
    wrong = [
        (file, text)
        for file, text in messages()
        if PYTHON.search(text)
        and file not in ALLOWED
        and not file.startswith(("evaluation/", "baselines/"))
    ]
    assert wrong == []
