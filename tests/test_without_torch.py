"""The default path runs where torch is not installed, and what needs torch says so in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import ImageSet

BLOCKED = ("torch", "torchvision", "timm")
HIDE = f"""
import sys
from importlib.machinery import PathFinder
class Finder:
    def find_spec(name, path=None, target=None):
        hidden = name.partition(".")[0] in {BLOCKED!r}
        return None if hidden else PathFinder.find_spec(name, path, target)
sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
"""
SCRIPT = f"""{HIDE}
import json
from gmvaluator.cli.app import main
codes = []
for words in json.load(sys.stdin):
    sys.argv = ["gmvaluator", *words]
    try:
        main()
    except SystemExit as done:
        codes.append(done.code)
print(codes, file=sys.stderr)
"""


def run(folder: Path, *commands: str) -> tuple[list[int], str]:
    """Exit codes of commands of one process without torch, and its standard error."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([command.split() for command in commands]),
        cwd=folder,
        env=os.environ | {"GMVALUATOR_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, codes = done.stderr.strip().splitlines()
    return json.loads(codes), "\n".join(lines)


@pytest.fixture
def folder(tmp_path: Path, digits: tuple[NDArray[np.uint8], Any]) -> Path:
    images = digits[0][::100][:40]
    np.savez(tmp_path / "train.npz", images=images)
    np.savez(tmp_path / "generated.npz", images=np.concatenate([images[:3], images[20:23] // 2]))
    np.savez(tmp_path / "picture.npz", images=images[:1])
    ids = ImageSet.open(images).ids
    owners = [f"{name},{'ab'[number % 2]}" for number, name in enumerate(ids)]
    (tmp_path / "owners.csv").write_text("\n".join(["train_id,owner", *owners]) + "\n")
    return tmp_path


def test_the_verbs_of_the_product_run_without_torch(folder: Path) -> None:
    commands = (
        "value train.npz generated.npz --out run --dedup near --k 5 --candidates 20 --quiet",
        "embed train.npz --out train.index --quiet",
        "match train.index picture.npz --quiet",
        "report run --quiet",
        "audit run --quiet",
        "payout run --owners owners.csv --budget 100",
        "curate run --out look --lowest 5% --quiet",
        "reweigh run --temperature 0.5 --out again --quiet",
        "verify run --quiet",
        "sample demo -m 2 --out drawn --quiet",
        "extend run drawn --quiet",
        "doctor",
        "value train.npz generated.npz --out robust --preset robust --quiet",
        "value train.npz generated.npz --out next --preset offline-1 --quiet",
        "diff robust robust",
    )
    codes, errors = run(folder, *commands)
    failed = [command for command, code in zip(commands, codes, strict=True) if code]
    assert not failed, errors


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("value train.npz generated.npz --out run --encoder lpips", "encoder 'lpips'"),
        ("value train.npz generated.npz --out run --encoder timm:resnet18", "encoder 'timm:resn"),
        ("value train.npz generated.npz --out run --backend torch", "backend 'torch'"),
        ("value train.npz generated.npz --out run --device cuda", "device 'cuda'"),
        ("train-generator beta-vae train.npz --out net.safetensors", "this command"),
        ("evaluate lds train.npz --generator beta-vae --out results", "this command"),
    ],
)
def test_what_needs_torch_says_so_in_one_line(command: str, what: str, folder: Path) -> None:
    codes, errors = run(folder, command)
    assert codes == [3], errors
    (line,) = [line for line in errors.splitlines() if line.startswith("Error")]
    assert f"Error: {what}" in line
    assert "runs on torch, which is not installed: pip install" in line
    assert "Traceback" not in errors


def test_a_function_is_an_encoder_without_torch() -> None:
    code = (
        f"{HIDE}\nimport numpy as np; from gmvaluator import GMValuator;"
        "from gmvaluator.encoders.custom import wrap;"
        "mean = wrap(lambda pixels: pixels.mean(axis=(2, 3)), name='mean');"
        "images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8);"
        "valuator = GMValuator(encoder=mean, rerank='none', quality='none', cache=False);"
        "print(valuator.fit(images[:6]).value(images[6:]).values.sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(3)
