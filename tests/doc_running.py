"""Runs the code blocks of a page in the current folder; `doc_blocks` lists their kinds."""

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

from doc_blocks import ROOT, Block, command_lines
from gmvaluator.cli import cli
from gmvaluator.errors import GMValuatorError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# programs that lines may run beside gmvaluator, in the page's own folder
SMALL_TOOLS = ("cat", "cp", "echo", "head", "ls", "mkdir", "mv", "rm", "sed")
# programs whose lines are checked, not run
CHECKED = ("gmvaluator", "make", "pip", "python", "npm", "tar")


def run_page(blocks: Sequence[Block]) -> None:
    """Run the blocks of a page in order, in the current folder."""
    session: dict[str, Any] = {"__name__": "page"}
    printed = ""
    for block in blocks:
        if title := block.attribute("title"):
            Path(title).write_text(block.text, encoding="utf-8")
        if block.kind == "python":
            printed = run_python(block, session)
        elif block.kind.startswith("sh"):
            printed = run_shell(block)
        elif block.kind == "text output":
            assert masked(block.text) == masked(printed), f"{block}: not what is printed"
        elif block.kind == "text output exact":
            assert block.text == printed, f"{block}: not what is printed:\n{printed}"
    # files that a page leaves open are reported here, not in a later test
    session.clear()
    gc.collect()


def run_python(block: Block, session: dict[str, Any]) -> str:
    """Run a block with the names of its page. Returns what it printed."""
    # numbered as in the page, so that a traceback shows the line
    code = compile("\n" * block.line + block.text, block.page, "exec")
    with contextlib.redirect_stdout(io.StringIO()) as output, warnings.catch_warnings():
        warnings.simplefilter("default")
        exec(code, session)
    return output.getvalue()


def run_shell(block: Block) -> str:
    """Run the lines of a block, or check them if its kind says so. Returns what they printed."""
    lines = list(command_lines(block))
    if block.kind != "sh":
        for words in lines:
            check_line(block, words)
        return ""
    exit_codes = [0] * (len(lines) - 1) + [int(block.attribute("exit") or 0)]
    outputs = [run_line(block, *line) for line in zip(lines, exit_codes, strict=True)]
    return "".join(outputs)


def run_line(block: Block, words: Sequence[str], exit_code: int = 0) -> str:
    """Run one line; lines that install or build are checked only. Returns what it printed."""
    # HEX is the seal of run/ that a page's reader wrote down
    words = [_seal_of_run() if word == "HEX" else word for word in words]
    if words[0] == "gmvaluator":
        return run_command(block, words[1:], exit_code)
    if words[0] in SMALL_TOOLS:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == exit_code, f"{block}: {words}: {done.stderr}"
        return done.stdout
    check_line(block, words, ("make", "pip"))
    return ""


def run_words(text: str) -> str:
    """Run one line that is on no page."""
    return run_line(Block("no page", 1, "sh", text), text.split())


def _seal_of_run() -> str:
    return str(json.loads(Path("run/run.json").read_text(encoding="utf-8"))["seal"])


def run_command(block: Block, words: Sequence[str], exit_code: int) -> str:
    """Run `gmvaluator` with these words in this process. Returns what it printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        done = CliRunner().invoke(cli, list(words))
    error, code = done.exception, done.exit_code
    if isinstance(error, GMValuatorError):
        code = error.exit_code
    message = f"{block}: gmvaluator {' '.join(words)} ended with {code}: {done.output}{error}"
    assert code == exit_code, message
    return done.stdout


def check_line(block: Block, words: Sequence[str], programs: Sequence[str] = CHECKED) -> None:
    """Raise where a line names a verb, option, script, target or extra that does not exist."""
    program, rest = words[0], list(words[1:])
    if program not in programs:
        raise ValueError(f"{block}: {program} is not run here; see tests/doc_running.py")
    if program == "gmvaluator":
        check_command(block, rest)
    elif program == "python":
        check_script(block, rest)
    elif program == "make":
        targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
        assert set(rest) <= set(targets), f"{block}: make has no target {rest}"
    elif program == "pip":
        extras = {
            e for part in re.findall(r"\[([\w,-]+)\]", " ".join(rest)) for e in part.split(",")
        }
        assert extras <= set(PROJECT["optional-dependencies"]), f"{block}: no such extra: {extras}"


def check_command(block: Block, words: Sequence[str]) -> None:
    """Raise ValueError where click would refuse a `gmvaluator` line, or a valuer is unknown."""
    command: click.Command = cli
    parent: click.Context | None = None
    rest = list(words)
    while isinstance(command, click.Group):
        verb = rest.pop(0)
        if verb not in command.commands:
            raise ValueError(f"{block}: there is no command {verb!r} in {' '.join(words)!r}")
        settings = command.context_settings
        parent = click.Context(command, parent=parent, info_name=command.name, **settings)
        command = command.commands[verb]
    try:
        context = command.make_context(command.name, rest, parent=parent)
        check_valuers(context.params.get("valuers", ()))
    except (click.ClickException, GMValuatorError) as error:
        reason = error.format_message() if isinstance(error, click.ClickException) else error
        raise ValueError(f"{block}: {' '.join(words)}: {reason}") from error


def check_valuers(names: Sequence[str]) -> None:
    """Raise InputError for the name of a valuer that no study knows."""
    from gmvaluator.evaluation.valuers import IF4GAN, named_valuer

    for name in set(names) - {IF4GAN}:
        named_valuer(name)


class _ParsedError(Exception):
    """Stops a script when its arguments are read."""


def check_script(block: Block, words: Sequence[str]) -> None:
    """Raise ValueError where a script of the repository does not read these arguments."""
    parse_args = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Never:
        parse_args(self, args, namespace)
        raise _ParsedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", list(words))
        try:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except _ParsedError:
            return
        except SystemExit:
            raise ValueError(f"{block}: {' '.join(words)} is refused") from None
    raise ValueError(f"{block}: {words[0]} reads no arguments")


def masked(text: str) -> list[str]:
    """Lines with every number as 0 and spaces as one, since numbers differ between machines."""
    return [" ".join(re.sub(r"\d+(\.\d+)?", "0", line).split()) for line in text.splitlines()]
