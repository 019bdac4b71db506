"""Settings: what is refused, what fitting reads, what earlier versions recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gmvaluator import GMValuator, InputError
from gmvaluator.settings import (
    DEFAULT_CANDIDATES,
    MOST,
    PRESETS,
    Settings,
    check_settings,
    null_choice,
    preset_settings,
    read_temperature,
    rerank_terms,
    resolve_counts,
)


@pytest.fixture
def settings() -> Settings:
    return GMValuator(encoder="pixels@8", rerank=["pixels@14", "pixels@7"], cache=False).settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k=0 is too small; pass k ≥ 1"),
        ({"k": 5.0}, "k=5.0 is no whole number; pass an int"),
        ({"k": "5"}, "k='5' is no whole number"),
        ({"k": True}, "k=True is no whole number"),
        ({"candidates": 10.5}, "candidates=10.5 is no whole number"),
        ({"seed": -1}, "seed=-1 is too small; pass seed ≥ 0"),
        ({"seed": MOST + 1}, f"seed={MOST + 1} is too large; pass seed ≤ {MOST}"),
        ({"k": 300, "candidates": 200}, "k=300 exceeds the 200 candidates"),
        ({"dedup": "all"}, "unknown dedup 'all'; choose one of none, exact, near"),
        ({"null": "maybe"}, "unknown null 'maybe'; choose one of report, withhold, off"),
        ({"null_level": 1.0}, "null_level=1.0 was given; pass a number between 0 and 1"),
        ({"index": "pqq"}, "unknown index 'pqq'"),
        ({"weighting": "soft"}, "unknown weighting 'soft'"),
        ({"rerank": (), "second_encoder": "l2"}, "pass a rerank that orders the candidates"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: Settings, changes: dict[str, Any], message: str
) -> None:
    check_settings(settings)
    with pytest.raises(InputError) as refused:
        check_settings(replace(settings, **changes))
    assert message in str(refused.value)


def test_a_seed_that_cannot_be_is_refused_before_an_index_is_trained() -> None:
    with pytest.raises(InputError, match="seed=-1"):
        GMValuator(index="pq", seed=-1)


@pytest.mark.parametrize(
    "rerank", [["l2", "pixels"], ["pixels@32", "l2"], {"l2": 1.0, "pixels@32": 2.0}]
)
def test_two_spellings_of_one_distance_are_one_distance(rerank: Any) -> None:
    with pytest.raises(InputError, match="names a distance twice"):
        rerank_terms(rerank)


def test_a_spelling_of_the_same_encoder_fits_alike(settings: Settings) -> None:
    alias = replace(settings, encoder="l2")
    assert alias.fitting() == replace(settings, encoder="pixels@32").fitting()
    assert alias.fitting() != settings.fitting()


@pytest.mark.parametrize("name", ["k", "weighting", "temperature", "mirror", "null", "index"])
def test_settings_of_a_valuation_do_not_decide_a_fit(settings: Settings, name: str) -> None:
    others: dict[str, Any] = {"k": 3, "weighting": "shapley", "temperature": 0.5, "mirror": True}
    others |= {"null": "off", "index": "pq"}
    assert replace(settings, **{name: others[name]}).fitting() == settings.fitting()


def test_candidates_decide_the_scales_of_a_fixed_mixing_only(settings: Settings) -> None:
    assert settings.scale_candidates == DEFAULT_CANDIDATES
    assert replace(settings, k=500).scale_candidates == 500
    assert replace(settings, candidates=20).fitting() == settings.fitting()
    fixed = replace(settings, mixing="fixed")
    assert replace(fixed, candidates=20).fitting() != fixed.fitting() != settings.fitting()
    single = replace(fixed, rerank=(("pixels@14", 1.0),))
    assert replace(single, candidates=20).fitting() == single.fitting()


@pytest.mark.parametrize(
    ("k", "candidates", "n", "expected"),
    [
        (None, None, 1000, (50, 200)),
        (None, None, 30, (30, 30)),
        (300, None, 1000, (300, 300)),
        (None, 20, 1000, (20, 20)),
        (5, 20, 20, (5, 20)),
    ],
)
def test_counts_that_are_not_set_follow_the_training_set(
    settings: Settings, k: int | None, candidates: int | None, n: int, expected: tuple[int, int]
) -> None:
    assert resolve_counts(replace(settings, k=k, candidates=candidates), n).counts == expected


def test_counts_depend_on_a_training_set(settings: Settings) -> None:
    with pytest.raises(ValueError, match="see resolve_counts"):
        settings.counts  # noqa: B018
    with pytest.raises(InputError, match=r"k=9 exceeds the 8 different ones of 10 .* dedup='none'"):
        resolve_counts(replace(settings, k=9), 8, copies=2)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_copy(name: str) -> None:
    preset_settings(name)["encoder"] = "changed"
    assert PRESETS[name].get("encoder") != "changed"


def test_null_by_name_and_by_earlier_flags() -> None:
    recorded = [True, False, None, "report", "withhold", "off"]
    choices = ["withhold", "report", "off", "report", "withhold", "off"]
    assert [null_choice(flag) for flag in recorded] == choices


def test_temperatures_are_read() -> None:
    assert [read_temperature(text) for text in ("auto", "spacing", "0.5")] == [
        "auto",
        "spacing",
        0.5,
    ]
    with pytest.raises(InputError, match="--temperature 'warm' is no number"):
        read_temperature("warm")
