"""Every verb, argument and option that was recorded is still there and means as much.

Help texts may change and options may be added. What is renamed on purpose is written down.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from frozen.frozen_commands import call, verbs
from frozen.frozen_values import RECORDED

RENAMED: dict[str, str] = {
    "value --no-null": "--null",
    **{f"{verb} --train": "--train-images" for verb in ("report", "audit", "verify")},
    **{f"{verb} --generated": "--generated-images" for verb in ("report", "audit", "verify")},
}
"""What the recorded "verb --option", or "verb" alone, is called now."""
RESHAPED: frozenset[str] = frozenset({"value --null"})
"""Recorded "verb --option" that is no longer a flag, or has become one, on purpose."""


@cache
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RECORDED / "verbs.json").read_text(encoding="utf-8"))
    return content


@cache
def today() -> dict[str, Any]:
    return verbs()


def option_today(verb: str, option: str) -> dict[str, Any] | None:
    """An option by the name it was recorded with, wherever its verb has it among its names now."""
    now = RENAMED.get(verb, verb)
    name = RENAMED.get(f"{verb} {option}", option)
    options = today()[now]["options"].values()
    found: dict[str, Any] | None = next((each for each in options if name in each["names"]), None)
    return found


def test_the_recorded_verbs_are_there() -> None:
    assert len(recorded()) > 30
    assert {RENAMED.get(verb, verb) for verb in recorded()} <= set(today())


@pytest.mark.parametrize("verb", recorded())
def test_arguments_are_the_recorded_ones(verb: str) -> None:
    now = today()[RENAMED.get(verb, verb)]["arguments"]
    assert [RENAMED.get(f"{verb} {each}", each) for each in recorded()[verb]["arguments"]] == now


@pytest.mark.parametrize("verb", recorded())
def test_options_are_there_and_mean_as_much(verb: str) -> None:
    options = recorded()[verb]["options"]
    assert "--help" in options
    for option, then in options.items():
        now = option_today(verb, option)
        assert now is not None, f"{verb} {option} is gone"
        names = {RENAMED.get(f"{verb} {name}", name) for name in then["names"]}
        assert names <= set(now["names"]), f"{verb} {option}"
        if f"{verb} {option}" not in RESHAPED:
            assert now["flag"] == then["flag"], f"{verb} {option}"
            lost = set(then["choices"] or ()) - set(now["choices"] or then["choices"] or ())
            assert not lost, f"{verb} {option} no longer takes {lost}"


@pytest.mark.parametrize("verb", recorded())
def test_nothing_is_required_that_was_not(verb: str) -> None:
    then = recorded()[verb]["options"]
    wanted = {
        RENAMED.get(f"{verb} {option}", option) for option in then if then[option]["required"]
    }
    now = today()[RENAMED.get(verb, verb)]["options"]
    assert {option for option in now if now[option]["required"]} <= wanted


def test_the_version_is_told() -> None:
    done = call("--version")
    assert done.code == 0
    assert done.out.startswith("gmvaluator, version ")
