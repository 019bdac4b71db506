"""Running the code blocks of a page, in the current folder; see `doc_blocks` for their kinds."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import re
import runpy
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Never

import click
import pytest
from click.testing import CliRunner

import doc_blocks
from doc_blocks import ROOT, Block
from gmvaluator.cli import cli
from gmvaluator.errors import GMValuatorError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


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
    # what a page leaves open is told here, not in a later test
    names.clear()
    gc.collect()


def run_python(block: Block, names: dict[str, Any]) -> str:
    """Run it in the page's names; returns what it printed."""
    # numbered as in the page, so that a traceback shows the line
    code = compile("\n" * block.line + block.text, block.page, "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("default")
        exec(code, names)
    return printed.getvalue()


def run_shell(block: Block) -> str:
    """Run the lines of a block, or read them where it is not for now; returns what they printed."""
    lines = list(doc_blocks.command_lines(block))
    if set(block.words) & {"parse", "small"}:
        for words in lines:
            check_line(block, words)
        return ""
    printed = ""
    for number, words in enumerate(lines, 1):
        printed += run_line(block, words, block.exit_code if number == len(lines) else 0)
    return printed


def run_line(block: Block, words: Sequence[str], wanted: int = 0) -> str:
    """Run one line; what installs or builds is only read. Returns what it printed."""
    words = [run_seal() if word == "HEX" else word for word in words]
    if words[0] == "gmvaluator":
        return run_command(block, words[1:], wanted)
    if words[0] in doc_blocks.SMALL_TOOLS:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == wanted, f"{block}: {words}: {done.stderr}"
        return done.stdout
    check_line(block, words, ("make", "pip"))
    return ""


def run_words(text: str) -> str:
    """Run one line that is on no page."""
    return run_line(Block("given", 1, "sh", text), text.split())


def run_seal() -> str:
    """What a page's reader kept of run/."""
    return str(json.loads(Path("run/run.json").read_text(encoding="utf-8"))["seal"])


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
