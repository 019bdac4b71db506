"""The help of every verb: complete, the same option the same everywhere, quick, with examples."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from gmvaluator import GMValuator
from gmvaluator.cli import cli
from gmvaluator.cli.evaluate import evaluate
from gmvaluator.cli.help import HEADINGS, MOST_FLAT, SETTINGS, Purposes, Verb
from gmvaluator.cli.options import FIT, NULL, WEIGHING, options

SEVERAL = "the verb compares several values, so the option is repeatable"
OF_RUN = "the verb changes a run, whose settings are the defaults"
EACH = "each study has its own default"
EXCEPTIONS: Mapping[str, Mapping[str, str]] = {
    "--encoder": {
        "stability": SEVERAL,
        "audit": "copies are searched by one encoder, whatever the run used",
    },
    "--k": {"stability": SEVERAL, "evaluate": EACH, "reweigh": OF_RUN},
    "--m": {"evaluate": EACH},
    "--temperature": {"stability": SEVERAL, "reweigh": OF_RUN},
    "--weighting": {"reweigh": OF_RUN},
    "--index": {"evaluate pq": SEVERAL},
    "--share": {"evaluate counterfactual": SEVERAL},
    "--candidates": {"audit": "the audit compares each candidate in detail, which is slow"},
    "--seed": dict.fromkeys(("value", "embed", "match"), "an index or run brings its own seed"),
    "--steps": {"sample": "these are denoising steps, and those of training elsewhere"},
    "--device": {"sample": "any torch device draws; only cpu draws the same everywhere"},
    "--level": {"evaluate strangers": "an error rate of the null test, not a coverage"},
    "--owners": {"evaluate planted": "a number of made-up owners, not a file"},
    "--by": {"evaluate lds": "without a column, images are not grouped at all"},
    "--conditional": {"train-generator": "studies train several families at once"},
}
"""Option → verb (or `evaluate`: every study) whose option of that name differs → why."""
ANY_TEXT = {"--out": "each verb writes something else, and some have a place for it"}
"""Options whose default and help may differ, with the reason; type and metavar may not."""

# click remembers the help option of a command by the first context that it sees
PARENT = click.Context(cli, info_name="gmvaluator", **cli.context_settings)


def verbs(group: click.Group = cli, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every verb and study, by the words that call it."""
    for name, command in group.commands.items():
        yield f"{above}{name}", command
        if isinstance(command, click.Group):
            yield from verbs(command, f"{above}{name} ")


VERBS = dict(verbs())


def option_names(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield max(parameter.opts, key=len), parameter


def shape(option: click.Option) -> dict[str, Any]:
    """What an option looks like to a user."""
    context = click.Context(click.Command("any"))
    return {
        "type": repr(option.type),
        "metavar": option.make_metavar(context),
        "default": option.get_default(context),
        "help": option.help,
        "repeatable": option.multiple,
        "names": sorted(option.opts + option.secondary_opts),
    }


def test_an_option_is_the_same_in_every_verb() -> None:
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    differences = []
    for verb, command in VERBS.items():
        for name, option in option_names(command):
            exceptions = EXCEPTIONS.get(name, {})
            if verb in exceptions or verb.split()[0] in exceptions:
                continue
            found = shape(option)
            if name in ANY_TEXT:
                found |= {"default": None, "help": None}
            known, wanted = first.setdefault(name, (verb, found))
            if found != wanted:
                differences.append(f"{name} of {verb} is not that of {known}: {found}, {wanted}")
    assert differences == []


def test_each_exception_is_an_option_that_differs() -> None:
    for name, exceptions in EXCEPTIONS.items():
        usual = [
            shape(option)
            for verb, command in VERBS.items()
            for each, option in option_names(command)
            if each == name and not {verb, verb.split()[0]} & set(exceptions)
        ]
        for place in exceptions:
            inside = [
                shape(option)
                for verb, command in VERBS.items()
                for each, option in option_names(command)
                if each == name and place in (verb, verb.split()[0])
            ]
            assert inside
            assert any(one != other for one in inside for other in [*usual, *inside]), (name, place)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_and_its_options_have_help(verb: str) -> None:
    command = VERBS[verb]
    text = inspect.cleandoc(command.help or "")
    first = text.split("\n")[0]
    assert first.endswith((".", "?")), first
    assert len(first) <= 66, f"--help would cut this line: {first}"
    for argument in command.params:
        if isinstance(argument, click.Argument):
            name = argument.make_metavar(click.Context(command)).strip(".[]")
            everywhere = {"TRAIN", "GENERATED", "RUN"} | ({"LEDGER"} if verb == "ledger" else set())
            assert name in text or name in everywhere, f"{verb} does not explain {name}"
    for name, option in option_names(command):
        assert option.help, f"{verb} {name} lacks help"
        assert option.help[0].isupper() or option.help.startswith("image:"), option.help
        assert option.help.endswith("."), f"{verb} {name}: {option.help}"
        if not option.is_flag and not option.required and not option.is_bool_flag:
            assert re.search(r"Default: [^ ]", option.help), f"{verb} {name} tells no default"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_ends_with_an_example_that_parses(verb: str) -> None:
    command = VERBS[verb]
    (line,) = re.findall(r"^\x08\nExample:\n  gmvaluator (.*)$", command.epilog or "")
    words = shlex.split(line)
    example, context = command, None
    for word in verb.split():
        assert words.pop(0) == word or isinstance(command, click.Group)
    if isinstance(command, click.Group):
        example = command.commands[words.pop(0)]
    path_of = [p for p in example.params if getattr(p.type, "exists", False)]
    for parameter in path_of:  # the file of an example is not here
        parameter.type = click.STRING
    context = example.make_context(verb, words, parent=PARENT)
    assert context.params


@pytest.mark.parametrize("group", [cli, evaluate], ids=["gmvaluator", "evaluate"])
def test_commands_are_listed_by_purpose(group: Purposes) -> None:
    parent = None if group is cli else PARENT
    context = click.Context(group, parent, info_name="gmvaluator", terminal_width=100)
    assert sorted(group.list_commands(context)) == sorted(group.commands)
    text = group.get_help(context)
    for purpose, names in group.purposes.items():
        lines = text.partition(f" {purpose}:\n")[2].split("\n")
        assert [line.split()[0] for line in lines[: len(names)]] == list(names)
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize("verb", VERBS)
def test_many_options_are_listed_by_headings(verb: str) -> None:
    command = VERBS[verb]
    if isinstance(command, click.Group):
        return
    assert isinstance(command, Verb)
    context = click.Context(command, PARENT, info_name=verb, terminal_width=100)
    section = command.get_help(context).partition("\nOptions:\n")[2].partition("\n\n")[0]
    shown = dict[str, list[str]]({"": []})
    for line in section.splitlines():
        if heading := re.fullmatch(r" (\S.*):", line):
            shown[heading[1]] = []
        elif line.startswith("  -"):
            shown[list(shown)[-1]] += re.findall(r"--[a-z][a-z-]*", line.split("  ")[1])[:1]
    names = [name for name, _ in option_names(command)]
    assert sorted(name for listed in shown.values() for name in listed) == sorted(
        [*names, "--help"]
    )
    if len(names) < MOST_FLAT:
        assert list(shown) == [""]
        return
    assert shown.pop("") == []
    assert list(shown) == [heading for heading in HEADINGS if heading in shown]
    assert max(map(len, shown.values())) <= 13
    for title, listed in shown.items():
        assert title == SETTINGS or set(listed) <= set(HEADINGS[title])


def test_each_option_that_a_heading_lists_is_one_of_some_verb() -> None:
    listed = [name for names in HEADINGS.values() for name in names]
    assert len(listed) == len(set(listed))
    known = {name for command in VERBS.values() for name, _ in option_names(command)}
    assert set(listed) - {"--help"} <= known


def test_defaults_in_the_help_are_those_of_the_library() -> None:
    @options(*FIT, *WEIGHING, *NULL)
    def command(**_: Any) -> None: ...

    made = dict(option_names(click.command()(command)))
    signature = inspect.signature(GMValuator).parameters
    from gmvaluator.settings import DEFAULT_CANDIDATES, DEFAULT_K

    wanted = {name: signature[name[2:].replace("-", "_")].default for name in made
              if name[2:].replace("-", "_") in signature}  # fmt: skip
    # what the library decides by the other settings, of those that are not given
    settings = GMValuator().settings
    terms = [f"{name}={weight:g}" for name, weight in settings.rerank]
    wanted |= {"--k": DEFAULT_K, "--candidates": DEFAULT_CANDIDATES}
    wanted["--mirror"] = "--mirror" if settings.mirror else "--no-mirror"
    wanted["--second-encoder"] = f"{settings.second_encoder} where there is a re-rank"
    wanted["--rerank"] = " and ".join(terms)
    wanted["--temperature"] = f"{settings.temperature} with {settings.weighting}"
    assert (settings.mirror, settings.second_encoder) == (True, "pixels@14")
    assert (settings.weighting, settings.temperature) == ("expected-rank", 0.7)
    assert terms == ["efficientnet-lite0=1", "pixels@14=2"]
    for name, default in wanted.items():
        shown = (made[name].help or "").partition("Default: ")[2]
        assert re.match(rf"{re.escape(str(default))}[.,]", shown), (name, shown, default)
    assert len(wanted) >= 14


def test_help_answers_in_a_fifth_of_a_second() -> None:
    """Processor time: other processes on this machine do not count."""
    command = [sys.executable, "-m", "gmvaluator.cli", "--help"]
    spent = []
    for _ in range(3):
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        spent.append(after.children_user + after.children_system
                     - before.children_user - before.children_system)  # fmt: skip
    assert min(spent) < 0.2, spent


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_shell_completes_verbs_options_and_choices(tmp_path: Path) -> None:
    """By the line of the documentation, in a real bash."""
    page = Path(__file__).parents[2] / "docs" / "tutorials" / "operator.md"
    (line,) = re.findall(r"^eval .*bash_source.*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    program = tmp_path / "gmvaluator"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gmvaluator.cli "$@"\n')
    program.chmod(0o755)
    asked = {"verif": 1, "value --qui": 2, "value --null with": 3}
    script = [line] + [
        f"COMP_WORDS=(gmvaluator {words}); COMP_CWORD={at}; COMPREPLY=(); "
        '_gmvaluator_completion gmvaluator; echo "${COMPREPLY[@]}"'
        for words, at in asked.items()
    ]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:3] == ["verify", "--quiet", "withhold"], done.stderr


@pytest.mark.parametrize("verb", ["value", "match"])
def test_an_option_that_is_not_given_leaves_the_choice_to_the_index(verb: str) -> None:
    """A default here would replace the setting that an index or a run was made with."""
    words = {"value": ["t", "g", "--out", "o"], "match": ["t", "p.png"]}[verb]
    given = cli.commands[verb].make_context(verb, words, parent=PARENT).params
    settings = {*inspect.signature(GMValuator).parameters} & {*given} - {"cache", "memory"}
    assert len(settings) > 10
    assert {name: given[name] for name in settings if given[name] not in (None, ())} == {}
