"""What `from gmvaluator import …` gives has the members and parameters that were recorded.

Names and parameters may be added. What changes on purpose is written down in `CHANGED`.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

import gmvaluator
from frozen.frozen_shapes import public_attributes, public_names
from frozen.frozen_values import RECORDED

NEW_DEFAULTS = ("second_encoder", "rerank", "quality", "weighting", "temperature", "mirror")
"""Settings of a valuator that no longer have the recorded default."""
CHANGED: frozenset[str] = frozenset(
    {
        "GMValuator.made by.null",
        "Valuation.made by",
        *(f"GMValuator.made by.{name}" for name in NEW_DEFAULTS),
    }
)
"""Recorded "Name", "Name.member" or "Name.member.parameter" that is otherwise on purpose.

The class itself as a function is the member `made by`.
"""


@cache
def recorded(file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RECORDED / file).read_text(encoding="utf-8"))
    return content


@cache
def today() -> dict[str, Any]:
    return public_names()


def members(shape: dict[str, Any]) -> dict[str, Any]:
    made_by = {"made by": shape["made by"]} if "made by" in shape else {}
    found: dict[str, Any] = shape["members"] | made_by
    return found


def test_the_recorded_names_are_public() -> None:
    assert len(recorded("public_names.json")) >= 12
    assert set(recorded("public_names.json")) - CHANGED <= set(gmvaluator.__all__)


@pytest.mark.parametrize("name", recorded("public_names.json"))
def test_bases_and_exit_codes_are_the_recorded_ones(name: str) -> None:
    then, now = recorded("public_names.json")[name], today()[name]
    assert set(then["bases"]) <= set(now["bases"])
    assert now.get("exit code") == then.get("exit code")


@pytest.mark.parametrize("name", recorded("public_names.json"))
def test_members_take_the_recorded_parameters(name: str) -> None:
    now = members(today()[name])
    for member, then in members(recorded("public_names.json")[name]).items():
        path = f"{name}.{member}"
        if path in CHANGED:
            continue
        assert member in now, f"{path} is gone"
        if then == "attribute":
            assert now[member] == "attribute", f"{path} is to be called now"
            continue
        assert isinstance(now[member], dict), f"{path} is no longer called"
        kept = {each: kind for each, kind in then.items() if f"{path}.{each}" not in CHANGED}
        assert {each: now[member].get(each) for each in kept} == kept, path
        by_position = [each for each in kept if kept[each][0] == "positional or keyword"]
        assert [each for each in now[member] if each in kept][: len(by_position)] == by_position
        added = {each: now[member][each] for each in now[member] if each not in then}
        wanted = [each for each, (kind, default) in added.items() if default == "required"]
        assert set(wanted) <= {each for each in added if added[each][0].startswith("variadic")}


def test_objects_have_the_recorded_attributes() -> None:
    now = public_attributes()
    for name, then in recorded("public_attributes.json").items():
        kept = {each for each in then if f"{name}.{each}" not in CHANGED}
        assert kept <= set(now[name]), name
