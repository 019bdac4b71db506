"""A new weighting is one file and one line of the table: valued, re-settled, verified with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gmvaluator import GMValuator, InputError, Valuation
from gmvaluator.cli import cli
from gmvaluator.payout.withdrawal import withdraw
from gmvaluator.scoring.weightings import WEIGHTINGS
from image_makers import encode, write_files
from scoring.uniform_weighting import Uniform

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture
def run(tmp_path: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 40 training and 8 generated digits by uniform shares, made by the command line."""
    monkeypatch.setitem(WEIGHTINGS, "uniform", Uniform())
    pngs = [encode(image) for image in digits[0][:48]]
    write_files(tmp_path / "train", {f"{i:02d}.png": png for i, png in enumerate(pngs[:40])})
    write_files(tmp_path / "generated", {f"{j}.png": png for j, png in enumerate(pngs[40:])})
    command = ["value", str(tmp_path / "train"), str(tmp_path / "generated")]
    command += ["--out", str(tmp_path / "run"), "--weighting", "uniform", "--k", "5", "--no-report"]
    command += ["--encoder", "pixels@8", "--rerank", "none", "--quality", "none", "--quiet"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return tmp_path / "run"


def test_values_are_uniform_shares(run: Path) -> None:
    valuation = Valuation.load(run)
    np.testing.assert_allclose(valuation.contributions.scores, 1 / 5)
    np.testing.assert_allclose(valuation.values, valuation.n_supported / 5)


def test_a_withdrawal_shares_among_those_that_remain(run: Path) -> None:
    valuation = Valuation.load(run)
    gone = np.zeros(40, dtype=bool)
    gone[valuation.contributions.rows[0, :2]] = True
    contributions = withdraw(valuation.contributions, gone, weighting="uniform").contributions
    np.testing.assert_allclose(contributions.scores[0], [0, 0, 1 / 3, 1 / 3, 1 / 3])


def test_a_payout_statement_says_what_the_withdrawal_is(run: Path) -> None:
    owners = run.parent / "owners.csv"
    ids = Valuation.load(run).train_ids
    rows = [f"{name},{'ann' if row % 2 else 'bob'}" for row, name in enumerate(ids)]
    owners.write_text("\n".join(["train_id,owner", *rows]) + "\n", encoding="utf-8")
    command = ["payout", str(run), "--owners", str(owners), "--budget", "10"]
    command += ["--withdraw", "ann", "--quiet"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert Uniform.withdrawal in (run / "payout.json").read_text(encoding="utf-8")


def test_verify_and_refit_take_the_run_up(run: Path) -> None:
    done = CliRunner().invoke(cli, ["verify", str(run)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert GMValuator.refit(run, cache=False).settings.weighting == "uniform"


def test_its_conflicts_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match="uniform takes no mirror images"):
        GMValuator(weighting="uniform", mirror=True)
    with pytest.raises(InputError, match=r"temperature=0\.5 has no part in weighting uniform"):
        GMValuator(weighting="uniform", temperature=0.5)
