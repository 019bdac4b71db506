"""`sh small` blocks: the lines of a page on stand-ins for its data, with small numbers.

Placeholders (MNIST-TRAIN, DATA, emoji/emoji.csv, …) become sets of a hundred images, options that
count are lowered, and trainings end after a few steps. What is checked is that each
line ends well.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from numpy.typing import NDArray
from test_vae_tracin import write_official

from doc_blocks import NOT_RUN, Block, command_lines
from doc_given import network_file
from doc_running import check_line, run_command
from doc_scripts import run_script
from gmvaluator.cli import cli
from image_makers import encode, write_parquet

# the test images hold a null sample of 399 and some to test
N, M = 120, 410
# what a count is lowered to, where a line or a command's default has more
LOWERED = {
    "--n": 100,
    "--m": 6,
    "--k": 20,
    "--seeds": 2,  # the least of some studies
    "--subsets": 3,
    "--images": 2,
    "--innocents": 20,
    "--remove": 10,
    "--noised": 5,
    "--half": 20,
    "--size": 60,
    "-m": 10,
}
# where a command's default is two dozen networks
ADDED = {"spaces": ["--space", "pixels@14", "--space", "pca:8@28"]}
STEPS = 5  # as many as the most snapshots that are kept, which must not change a training
SMALL: dict[str, dict[str, Any]] = {
    "beta-vae": {"hidden": "32", "latent": 8},
    "conv-beta-vae": {"width": 4, "latent": 8},
    "gan": {"hidden": "32,32,32", "critic_hidden": "32,32"},
    "dcgan": {"width": 4},
    "ddpm": {"width": 8, "sampling_steps": 2},
    "biggan": {"width": 2, "latent": 8, "shared": 4},
}
# of the studies that `evaluate all` runs, and of studies with sizes of their own
STUDY_SIZES: dict[str, dict[str, Any]] = {
    "gmvaluator.evaluation.subjects.subject": {"LEAST_EPOCHS": 1, "LEAST_SEEN": 0},
    "gmvaluator.evaluation.reproduction": {
        "MANY": 12, "SOME": 12, "FEW": 12, "CANDIDATES": 100, "NOISED_KS": (5, 20), "HALF": 30,
        "N_NOISED": 5,
    },
}  # fmt: skip


def stand_ins(folder: Path, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    """A folder of the names that blocks give to data: what each of them needs, a hundred images."""
    images, labels = digits[0][: N + M], digits[1][: N + M]
    hues = np.random.default_rng(0).uniform(0.3, 1, (10, 3))
    drawn = (images[..., None] * hues[labels, None, None]).astype(np.uint8)
    colours = np.random.default_rng(1).integers(0, 60, (N + M, 32, 32, 3), dtype=np.uint8)
    colours[:, 2:30, 2:30] = np.maximum(colours[:, 2:30, 2:30], drawn)
    names = {"mnist": [str(i) for i in range(10)]}
    names["cifar10"] = ["airplane", *(f"class {i}" for i in range(1, 10))]
    for data, pixels in (("mnist", images), ("cifar10", colours)):
        for part, rows in (("train", slice(0, N)), ("test", slice(N, N + M))):
            _write_set(folder, data, part, pixels[rows], labels[rows], names[data])
    for part, rows in (("train", slice(0, N)), ("test", slice(N, N + M))):
        for row, (image, label) in enumerate(zip(images[rows], labels[rows], strict=True)):
            file = folder / part / str(label) / f"{row:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(image))
    write_official(folder / "DATA/vae_tracin_cifar_airplane", ("300",))
    _write_emoji(folder / "package")
    script = ["scripts/make_emoji_manifest.py", str(folder / "package"), "--size", "32"]
    run_script([*script, "--out", str(folder / "emoji"), "--hold-out", "0.2"])
    return folder


def _write_set(
    folder: Path,
    data: str,
    part: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    names: Sequence[str],
) -> None:
    """One part of a data set, by each of the names that blocks have for it."""
    file = write_parquet(
        folder / data / f"{part}.parquet",
        [encode(image) for image in images],
        columns={"label": labels.tolist()},
        class_names=names,
    )
    places = [f"DATA/{data}/{part}.parquet"]
    places += [f"{name}-{part.upper()}/0.parquet" for name in (data, data.upper())]
    if (data, part) == ("mnist", "train"):
        places.append("TRAIN/0.parquet")
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(file.read_bytes())


def _write_emoji(folder: Path) -> None:
    """What scripts/make_emoji_manifest.py reads of the npm package: 12 designs, 3 × 5 variants."""
    import json

    from make_emoji_manifest import SKIN

    pictures = folder / "img/twitter/64"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries = []
    for design in range(12):
        kind = ("person-role", "person-gesture")[design % 2]
        for sign in ("", "-200D-2640", "-200D-2642"):
            code = f"1F{600 + design}{sign}"
            tones = {}
            for tone in SKIN:
                image = f"{code}-{tone}.png".lower()
                pixels = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
                (pictures / image).write_bytes(encode(pixels))
                tones[tone] = {"image": image, "has_img_twitter": True}
            entries.append(
                {
                    "unified": code, "name": f"DESIGN {design}", "short_name": f"design{design}",
                    "category": "People & Body", "subcategory": kind, "image": "none.png",
                    "has_img_twitter": False, "skin_variations": tones,
                }
            )  # fmt: skip
    (folder / "emoji.json").write_text(json.dumps(entries), encoding="utf-8")


@contextmanager
def small_sizes() -> Iterator[None]:
    """Trainings of a few steps in this process, and studies with small numbers of their own."""
    from gmvaluator.baselines.gan_steps import GANRecipe
    from gmvaluator.evaluation import traced_gan
    from gmvaluator.evaluation.subjects import attributes, classifier, recipes
    from gmvaluator.evaluation.truth import retraining, snapshots
    from gmvaluator.generators import training

    train, read = training.train_generator, classifier.train_classifier

    def quick(family: str, *args: Any, **options: Any) -> Any:
        settings = {**(options.get("settings") or {}), **SMALL[family]}
        if "mlp" in settings.values():
            settings = {**settings, "hidden": "32,32,32"}
        return train(family, *args, **{**options, "settings": settings, "steps": STEPS})

    def glanced(*args: Any, **options: Any) -> Any:
        return read(*args, **{**options, "epochs": 1})

    def one_by_one(tasks: Sequence[Any], *_: object) -> None:
        for task in tasks:
            task()

    with pytest.MonkeyPatch.context() as patch:
        for module in (training, recipes):
            patch.setattr(module, "train_generator", quick)
        for module in (recipes, retraining, snapshots):
            patch.setattr(module, "side_by_side", one_by_one)
        patch.setattr(attributes, "train_classifier", glanced)
        patch.setattr(traced_gan, "RECIPE", GANRecipe(batch_size=20, epochs=2))
        for name, sizes in STUDY_SIZES.items():
            for constant, size in sizes.items():
                patch.setattr(importlib.import_module(name), constant, size)
        yield


def run_small(block: Block) -> None:
    """Run the lines of a block in the current folder, which holds the stand-ins."""
    with small_sizes():
        for words in command_lines(block):
            if words[0] == "gmvaluator":
                _make_networks(words)
                small = lowered(words[1:])
                _make_scores(small)
                run_command(block, small, 0)
            elif words[0] == "python" and not words[1].startswith("-"):
                _make_networks(words)
                run_script(words[1:])
            else:
                assert words[0] in NOT_RUN, f"{block}: {words[0]}"
                check_line(block, words)


def lowered(words: Sequence[str]) -> list[str]:
    """The words with each count of LOWERED made small, those that are not given added."""
    found = list(words)
    for word in words[:2]:
        found += ADDED.get(word, [])
    for at, word in enumerate(words[:-1]):
        if word in LOWERED and words[at + 1].isdigit():
            found[at + 1] = str(min(LOWERED[word], int(words[at + 1])))
    for option in _options(words):
        name = next((flag for flag in option.opts if flag in LOWERED), None)
        default = option.default
        largest = max(default) if isinstance(default, tuple) and default else default
        if "--quiet" in option.opts:
            found.append("--quiet")
        if name and name not in words and isinstance(largest, int) and largest > LOWERED[name]:
            found += [name, str(LOWERED[name])]
    return found


def _make_scores(words: Sequence[str]) -> None:
    """The files of scores that a line names, of as many images as its study has."""
    counts = dict(itertools.pairwise(words))
    shape = int(counts.get("--n", N)), int(counts.get("--m", M))
    for word in words:
        if word.endswith(".npy"):
            np.save(word, np.random.default_rng(0).normal(size=shape))


def _options(words: Sequence[str]) -> list[click.Parameter]:
    command: click.Command = cli
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.commands[word]
    return [each for each in command.params if isinstance(each, click.Option)]


def _make_networks(words: Sequence[str]) -> None:
    """The generator files that a line reads and no line before has written."""
    from gmvaluator.generators.training import train_generator

    out = words[words.index("--out") + 1] if "--out" in words else None
    for word in words:
        file = Path(word)
        if word == out or file.exists():
            continue
        if file.suffix == ".pt2":
            network_file(file)
        elif file.suffix == ".safetensors" or word == "WORK/generators/FILE":
            family = {"mlp-ddpm": "ddpm", "vae": "beta-vae", "FILE": "gan"}
            named = family.get(file.stem, file.stem)
            train = "cifar10/train.parquet" if named == "biggan" else "mnist/train.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            model = file.with_name(f"{file.stem}.safetensors")
            keep = 5 if file.stem == "vae" else 0
            train_generator(named, train, model, keep=keep, conditional=named == "biggan" or None)
            model.replace(file)
