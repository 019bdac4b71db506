"""A run that is killed resumes: the cheap form of benchmarks/kill_resume.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from gmvaluator.files import store


def load_benchmark() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "kill_resume.py"
    spec = importlib.util.spec_from_file_location("kill_resume", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("quick_mnist")
def test_a_killed_run_resumes_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark()
    # the forked processes take over the smaller shards
    for module in (store, benchmark):
        monkeypatch.setattr(module, "SHARD_ROWS", 128)
    result = benchmark.trial(tmp_path, kills=1, seed=1, n=600, after=200)
    # a shard of 128 images was kept when the run was killed
    assert 128 <= result["attempts"][-1]["encoded"] < result["images"]
    assert result["encoded_in_all"] < result["images"] + result["attempts"][-1]["encoded"]
    assert result["values_identical"]
    assert result["half_written_runs"] == 0
    # the killed process may have been writing a shard; its scratch file goes after a day
    assert result["files_left"] <= 1
    assert result["encoded_in_all"] <= result["encoded_at_most_allowed"]
    assert result["passed"]
