"""Training generators: what is learned, the same weights again, kills, snapshots, refusals."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forked import started
from generator_checks import TINY, brighter_half, broken_off, halves, train_tiny, write_halves
from gmvaluator.cli import main
from gmvaluator.errors import InputError, RunError
from gmvaluator.generators import FAMILIES, load_generator
from gmvaluator.generators.data import common_side, ordered_labels, read_training_data
from gmvaluator.generators.files import list_snapshots, read_metadata
from gmvaluator.generators.randomness import batch_rows
from gmvaluator.generators.running import Run
from gmvaluator.generators.training import train_generator
from gmvaluator.images import ImageSet
from gmvaluator.progress import Silent
from gmvaluator.samplers import draw, load_sampler


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def same_weights(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# --- what is learned -----------------------------------------------------------------------------

# Enough to tell left from right, on one core in about a second each.
DDPM = {"batch_size": 24, "sampling_steps": 10}
LEARNING: dict[str, tuple[int, dict[str, Any]]] = {
    "beta-vae": (150, {"learning_rate": 1e-2}),
    "conv-beta-vae": (60, {"learning_rate": 1e-2}),
    "gan": (300, {"learning_rate": 2e-3, "hidden": (32, 32), "critic_hidden": (32,)}),
    "dcgan": (80, {"learning_rate": 2e-3, "ema": 0.9}),
    "ddpm": (150, {"learning_rate": 5e-3, "ema": 0.9, "guidance": 4.0, **DDPM}),
    "biggan": (80, {"learning_rate": 4e-3, "critic_rate": 4e-3, "ema": 0.8, "width": 4}),
}


@pytest.mark.parametrize("name", LEARNING)
def test_conditional_models_draw_the_class_asked_for(name: str, tmp_path: Path) -> None:
    steps, settings = LEARNING[name]
    data = write_halves(tmp_path / "data.npz", 64, TINY[name]["size"], channels=1)
    out = tmp_path / "g.safetensors"
    trained = train_tiny(name, data, out, steps=steps, settings=settings, conditional=True)
    assert trained.label_names == ("left", "right")
    if "loss" in trained.losses[0][1]:
        assert trained.losses[-1][1]["loss"] < 0.5 * trained.losses[0][1]["loss"]
    drawn = load_generator(out).sample(40, [0, 1] * 20, seed=1)
    assert (brighter_half(drawn) == ["left", "right"] * 20).mean() >= 0.9


def test_averaged_weights_are_between_the_first_and_the_last(tmp_path: Path) -> None:
    data = write_halves(tmp_path / "data.npz", 20, 28)
    weights = {}
    for name, steps, ema in (("early", 1, 0.0), ("last", 30, 0.0), ("average", 30, 0.5)):
        out = tmp_path / f"{name}.safetensors"
        train_tiny("gan", data, out, steps=steps, settings={"ema": ema})
        tensors = load_file(out)
        weights[name] = torch.cat([t.flatten() for n, t in tensors.items() if "weight" in n])
    far = torch.linalg.norm(weights["last"] - weights["early"])
    near = torch.linalg.norm(weights["last"] - weights["average"])
    assert 0 < near < far


# --- repeated and resumed ------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_gives_the_same_weights_also_after_an_interruption(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_halves(tmp_path / "data.npz", 20, 28)
    whole, cut, other = (tmp_path / f"{part}.safetensors" for part in ("whole", "cut", "other"))
    train_tiny(name, data, whole, steps=6)
    train_tiny(name, data, other, steps=6, seed=1)
    assert not same_weights(whole, other)

    with broken_off(monkeypatch, 4):
        train_tiny(name, data, cut, steps=6, checkpoint_every=3)
    assert not cut.exists()
    trained = train_tiny(name, data, cut, steps=6, checkpoint_every=3)
    assert (trained.resumed_at, trained.steps) == (3, 6)
    assert [step for step, _ in trained.losses] == [1, 2, 3, 4, 5, 6]
    assert same_weights(whole, cut)
    assert not list(tmp_path.glob("*.checkpoint"))


def slow_steps(arguments: list[str]) -> None:
    take_step = Run._take_step

    def slow_step(self: Run) -> None:
        take_step(self)
        time.sleep(0.02)

    Run._take_step = slow_step  # type: ignore[method-assign]
    sys.argv = ["gmvaluator", *arguments]
    main()


def start(data: Path, out: Path, *options: str) -> BaseProcess:
    settings = ("size=8", "hidden=16", "latent=3", "batch_size=8")
    arguments = ["train-generator", "beta-vae", str(data), "--out", str(out), "--steps", "300"]
    arguments += [word for setting in settings for word in ("--set", setting)]
    arguments += ["--threads", "1", *options]
    return started(slow_steps, arguments, output=out.with_suffix(".log"))


def wait_for(path: Path, process: BaseProcess) -> None:
    for _ in range(3_000):
        if path.exists():
            return
        assert process.is_alive(), path
        time.sleep(0.01)
    raise TimeoutError(str(path))


def test_a_killed_training_goes_on_to_bit_identical_weights(tmp_path: Path) -> None:
    data = write_halves(tmp_path / "data.npz", 20)
    out, whole = tmp_path / "g.safetensors", tmp_path / "whole.safetensors"
    settings = {"size": 8, "hidden": "16", "latent": 3, "batch_size": 8}
    train_generator("beta-vae", data, whole, steps=300, settings=settings, threads=1, keep=3)
    process = start(data, out, "--keep", "3", "--checkpoint-every", "7")
    wait_for(tmp_path / "g.steps" / "100.safetensors", process)
    process.kill()
    process.join()
    assert not out.exists()
    trained = train_generator(
        "beta-vae", data, out, steps=300, settings=settings, threads=1, keep=3
    )
    assert 100 <= trained.resumed_at < 300
    assert same_weights(whole, out)
    for one, two in zip(list_snapshots(whole), list_snapshots(out), strict=True):
        assert same_weights(one.path, two.path)
    # the lock of a killed command keeps nobody out
    assert {p.name for p in tmp_path.iterdir()} - {".g.safetensors.claim.lock"} == {
        "data.npz", "g.log", "g.safetensors", "g.steps", "whole.safetensors", "whole.steps",
    }  # fmt: skip


def test_ctrl_c_leaves_a_checkpoint_and_says_so(tmp_path: Path) -> None:
    data = write_halves(tmp_path / "data.npz", 20)
    out = tmp_path / "g.safetensors"
    process = start(data, out, "--checkpoint-every", "2", "--quiet")
    wait_for(tmp_path / "g.safetensors.checkpoint", process)
    os.kill(process.ident or 0, signal.SIGINT)
    process.join(60)
    err = out.with_suffix(".log").read_text()
    assert process.exitcode in (130, -signal.SIGINT), err
    assert "Stopped after step" in err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "data.npz",
        "g.log",
        "g.safetensors.checkpoint",
    ]


# --- snapshots and checkpoints -------------------------------------------------------------------


def test_snapshots_are_generators_with_their_step_and_rate(tmp_path: Path) -> None:
    data = write_halves(tmp_path / "data.npz")
    out = tmp_path / "g.safetensors"
    train_tiny("beta-vae", data, out, steps=10, keep=4, settings={"learning_rate": 1e-2})
    kept = list_snapshots(out)
    assert [snapshot.step for snapshot in kept] == [2, 5, 8, 10]
    assert kept[0].path == tmp_path / "g.steps" / "2.safetensors"
    rates = [snapshot.learning_rate for snapshot in kept]
    cosine = [0.005 * (1 + np.cos(np.pi * (s.step - 1) / 10)) for s in kept]
    np.testing.assert_allclose(rates, cosine)
    assert same_weights(kept[-1].path, out)
    assert not same_weights(kept[0].path, out)
    assert load_generator(kept[1].path).sample(2).shape == (2, 8, 8, 3)
    training = json.loads(read_metadata(out)["training"])
    assert (training["steps"], training["seed"], training["n_images"]) == (10, 0, 32)


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    data = write_halves(tmp_path / "data.npz")
    out = tmp_path / "g.safetensors"
    train_tiny("gan", data, out, keep=2)
    before = out.read_bytes()
    with pytest.raises(RunError, match=r"exists; pass overwrite=True"):
        train_tiny("gan", "no such data", out)
    assert out.read_bytes() == before
    out.unlink()
    with pytest.raises(RunError, match="snapshots of another training"):
        train_tiny("gan", data, out)
    train_tiny("gan", data, out, overwrite=True)
    assert list_snapshots(out) == ()
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        train_tiny("gan", data, tmp_path / "g.bin")
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(RunError, match="is a folder"):
        train_tiny("gan", data, tmp_path / "d.safetensors")


def test_checkpoints_of_others_are_refused_or_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gmvaluator.generators import checkpoints

    data, out = write_halves(tmp_path / "data.npz"), tmp_path / "g.safetensors"
    checkpoint = tmp_path / "g.safetensors.checkpoint"
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.Checkpoint, "remove", lambda self: None)
        train_tiny("gan", data, out, checkpoint_every=2)
    out.unlink()
    left = checkpoint.read_bytes()
    with pytest.raises(RunError, match=r"another training \(different: settings, seed\)"):
        train_tiny("gan", data, out, seed=4, settings={"latent": 6})
    assert checkpoint.read_bytes() == left
    assert train_tiny("gan", data, out, seed=4, overwrite=True).resumed_at == 0
    assert not checkpoint.exists()
    out.unlink()

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    for content in (b"", left[:200], b"nonsense"):
        checkpoint.write_bytes(content)
        with pytest.raises(RunError, match="no readable checkpoint"):
            train_tiny("gan", data, out)
    torch.save(Bomb(), checkpoint)
    with pytest.raises(RunError, match="no readable checkpoint"):
        train_tiny("gan", data, out)
    assert not (tmp_path / "exploded").exists()
    assert train_tiny("gan", data, out, overwrite=True).resumed_at == 0


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    data, out = write_halves(tmp_path / "data.npz"), tmp_path / "g.safetensors"
    with pytest.raises(RunError, match=r"loss 'loss' became (nan|inf).*lower learning_rate"):
        train_tiny("beta-vae", data, out, steps=50, settings={"learning_rate": 1e9})
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


# --- data ----------------------------------------------------------------------------------------


def test_sets_are_read_grey_or_in_colour_with_labels(tmp_path: Path) -> None:
    images, _ = halves(6, 8)
    grey = images[..., :1].repeat(3, axis=3)
    folder = tmp_path / "set"
    from image_makers import encode, write_files

    files = {f"{label}/{i}.png": encode(grey[i]) for i, label in enumerate(["10", "9"] * 3)}
    write_files(folder, {**files, "9/broken.png": encode(grey[0])[:60]})
    read = read_training_data(folder, 8, Silent(), conditional=True)
    assert read.images.shape == (6, 1, 8, 8)
    assert read.label_names == ("9", "10")
    assert read.labels is not None
    assert read.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert [skip.id for skip in read.skipped] == ["9/broken.png"]
    np.testing.assert_array_equal(read.images[0, 0], grey[0, ..., 0])
    mixed = read_training_data([*grey, images[0]], 8, Silent(), conditional=False)
    assert mixed.images.shape == (7, 3, 8, 8)
    assert mixed.labels is None
    assert mixed.fingerprint != read.fingerprint
    trained = train_tiny("gan", folder, tmp_path / "g.safetensors", conditional=True)
    assert (trained.n_images, len(trained.skipped)) == (6, 1)
    assert "1 images were skipped (9/broken.png" in trained.as_text()


def test_labels_are_needed_where_classes_are_learned(tmp_path: Path) -> None:
    images, _ = halves(6, 8)
    out = tmp_path / "g.safetensors"
    with pytest.raises(InputError, match="has no labels"):
        train_tiny("ddpm", images, out)
    with pytest.raises(InputError, match="has no labels"):
        train_tiny("gan", images, out, conditional=True)
    with pytest.raises(InputError, match="always learns classes"):
        train_tiny("biggan", images, out, conditional=False)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("words")
    with pytest.raises(InputError, match="none of the 1 images can be read"):
        train_tiny("gan", tmp_path / "bad", out)
    for options in ({"steps": 0}, {"keep": 9}, {"threads": 0}, {"checkpoint_every": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            train_tiny("gan", images, out, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_trains_in_one_thread(tmp_path: Path) -> None:
    process = started(train_in_threads, tmp_path, output=tmp_path / "log")
    process.join(60)
    log = (tmp_path / "log").read_text()
    assert "InputError: threads=2 in a forked process, where torch has one; pass" in log
    assert (tmp_path / "one.safetensors").exists()


def train_in_threads(folder: Path) -> None:
    images, _ = halves(10, 28, channels=1)
    train_tiny("gan", images, folder / "one.safetensors", steps=1)
    train_tiny("gan", images, folder / "two.safetensors", steps=1, threads=2)


def test_sizes_follow_the_images_where_they_can(tmp_path: Path) -> None:
    for side, wanted in ((28, 28), (32, 32), (20, 28)):
        images, _ = halves(10, side, channels=1)
        assert common_side(images) == side
        out = tmp_path / f"{side}.safetensors"
        train_generator("dcgan", images, out, steps=1, settings={"width": 2, "batch_size": 4})
        assert load_generator(out).sample(1).shape == (1, wanted, wanted)
    assert common_side([images[0], images[0][:10]]) is None


def test_label_order() -> None:
    assert ordered_labels(["10", "9", "9", "-1"]) == ("-1", "9", "10")
    assert ordered_labels(["b", "10", "9"]) == ("10", "9", "b")


def test_every_image_is_seen_equally_often() -> None:
    rows = np.concatenate([batch_rows(5, step, 7, 4) for step in range(14)])
    for epoch in range(8):
        assert sorted(rows[epoch * 7 : epoch * 7 + 7]) == list(range(7))
    assert batch_rows(5, 3, 7, 20).shape == (20,)
    assert rows[:7].tolist() != rows[7:14].tolist()


# --- from the command line to images -------------------------------------------------------------


def test_trained_files_draw_into_folders_named_by_label(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    data, out = write_halves(tmp_path / "data.npz", 16, 28), tmp_path / "g.safetensors"
    settings = ("--set", "width=8", "--set", "batch_size=4", "--steps", 2, "--threads", 1)
    status, *said = call("train-generator", "ddpm", data, "--out", out, *settings, "--json")
    assert status == 0, said
    assert json.loads("".join(said))["label_names"] == ["left", "right"]
    faster = ("--steps", 2, "--guidance", 2)
    status, *said = call("sample", out, "-m", 3, "--out", tmp_path / "drawn", *faster, "--quiet")
    assert status == 0, said
    drawn = ImageSet.open(tmp_path / "drawn")
    assert drawn.labels == ("left", "left", "right")
    request = json.loads((tmp_path / "drawn" / ".sample.json").read_text())
    assert request["sampler"].endswith("sampling_steps=2, guidance=2")
    one = ("sample", out, "-m", 2, "--out", tmp_path / "one", *faster)
    assert call(*one, "--label", "right")[0] == 0
    assert {p.parent.name for p in (tmp_path / "one").rglob("*.png")} == {"right"}
    status, _, err = call(*one[:-4], "--label", "up", "--overwrite")
    assert status == 2
    assert "'up' is not one of the classes 0 to 1 (left, right)" in err
    *_, err = call(*one, "--truncation", 1)
    assert "ddpm has no sampling setting truncation; it has: sampling_steps, guidance" in err
    *_, err = call("train-generator", "ddpm", data, "--out", out, "--set", "width")
    assert "write --set KEY=VALUE" in err


def test_names_come_before_numbers(tmp_path: Path) -> None:
    images, _ = halves(8, 8)
    np.savez(tmp_path / "data.npz", images=images, labels=["1", "2"] * 4)
    out = tmp_path / "g.safetensors"
    train_tiny("gan", tmp_path / "data.npz", out, conditional=True)
    drawn = draw(load_sampler(out), 3, tmp_path / "drawn", labels=["1", 1, "0"])
    assert drawn.labels == ("1", "2", "1")
    assert (tmp_path / "drawn" / "2" / "000001.png").is_file()
