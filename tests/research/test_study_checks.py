"""A study that must fail fails before it works: a table of wrong requests over all studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gmvaluator import ImageSet
from gmvaluator.cli import cli
from gmvaluator.errors import GMValuatorError, InputError, MissingPackageError
from gmvaluator.evaluation.checks import CHECKS
from gmvaluator.evaluation.reproduction import reproduce
from gmvaluator.evaluation.setup import Setup
from gmvaluator.evaluation.studies import STUDIES
from gmvaluator.files.pieces import Workspace
from image_makers import encode, random_images

N, M = 40, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of 8 × 8 pixels, and files that are right or wrong in one way each."""
    folder = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)

    def write(name: str, n: int, **columns: Any) -> None:
        images = rng.integers(0, 256, (n, 8, 8), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images, **columns)

    write("train", N, labels=np.arange(N) % 2)
    write("one", N, labels=np.zeros(N, dtype=int))
    write("bare", N)
    write("real", M, labels=np.arange(M) % 2)
    write("unlabelled", M)
    write("held", 30, labels=np.arange(30) % 2)
    for name, n in (("faces", N), ("new", M)):
        lines = ["path,label,tone,hair"]
        for row in range(n):
            file = folder / f"{name}{row}.png"
            file.write_bytes(encode(random_images(1, 8, seed=row)[0]))
            lines.append(f"{file.name},{row % 2},{row % 3},{row % 5}")
        (folder / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    np.save(folder / "scores.npy", rng.random((N, M)))
    np.save(folder / "turned.npy", rng.random((M, N)))
    broken = rng.random((N, M))
    broken[3, 4] = np.nan
    np.save(folder / "broken.npy", broken)
    train_ids = np.array(ImageSet.open(folder / "train.npz").ids)
    np.savez(folder / "listed.npz", scores=rng.random((N, M)), train_ids=train_ids[::-1])
    (folder / "file").write_text("no folder", encoding="utf-8")
    (folder / "damaged.safetensors").write_bytes(b"no weights")
    plain = '[mine]\nencoder = "pixels@4"\nrerank = "none"\nquality = "none"\n'
    (folder / "valuers.toml").write_text(f"{plain}wrong = 1\n", encoding="utf-8")
    (folder / "shapley.toml").write_text(f'{plain}weighting = "shapley"\n', encoding="utf-8")
    return folder


@pytest.fixture
def sets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder holds the sets; a study that begins to work is an error."""
    monkeypatch.chdir(folder)

    def works(*_: Any, **__: Any) -> None:
        raise AssertionError("the study began to work")

    monkeypatch.setattr(Workspace, "piece", works)
    monkeypatch.setattr("gmvaluator.evaluation.valuers.usable", works)
    for module in ("subjects.recipes", "truth.retraining"):
        monkeypatch.setattr(f"gmvaluator.evaluation.{module}.side_by_side", works)
    monkeypatch.setattr("gmvaluator.evaluation.planted.noise.load_pixels", works)
    monkeypatch.setattr("gmvaluator.evaluation.planted.known_sources.Pool.read", works)
    monkeypatch.setattr("gmvaluator.evaluation.studies.counterfactual_model._reference", works)
    monkeypatch.setattr("gmvaluator.valuator.GMValuator.fit", works)
    return folder


def run(words: str) -> Exception | None:
    """The error of a command line after `gmvaluator evaluate`."""
    done = CliRunner().invoke(cli, ["evaluate", *words.split(), "--quiet"])
    return done.exception  # type: ignore[return-value]


# what every study is given; a wrong request adds to it
PIXELS = "--valuer nearest-pixel"
SET = f"train.npz --generated real=real.npz --m {M} {PIXELS}"
GIVEN = {
    "c1": f"c1 {SET} --k 5",
    "c2": f"c2 faces.csv --generated real=new.csv --m {M} {PIXELS} --k 5 --attribute tone",
    "c3": f"c3 {SET} --k 5 --noised 4",
    "c4": f"c4 {SET} --k 5",
    "encoders": f"encoders train.npz --generated real=real.npz --m {M} --k 5",
    "distances": f"distances train.npz --generated real=real.npz --m {M} --k 5",
    "two-subsets": f"two-subsets train.npz --generator beta-vae {PIXELS} --half 20 --k 5",
    "images-needed": f"images-needed {SET} --k 5",
    "calibration": f"calibration {SET} --k 5 --noised 4",
    "temperature": f"temperature {SET} --k 5 --noised 4",
    "growth": f"growth {SET} --k 5",
    "pq": f"pq {SET} --k 5",
    "lds": f"lds bare.npz --generator beta-vae {PIXELS} --m {M} --k 5",
    "spaces": "spaces bare.npz --generator beta-vae --k 5 --space pixels@4",
    "counterfactual": f"counterfactual bare.npz --generator beta-vae {PIXELS} --m {M} --k 5 "
    "--remove 5",
    "planted": f"planted bare.npz {PIXELS} --m 10 --k 10",
    "audit": "audit bare.npz --held-out held.npz --innocents 20 --m 20",
    "strangers": f"strangers bare.npz --held-out held.npz --generated x=unlabelled.npz {PIXELS} "
    "--level 0.5",
}
SETS = ("c1", "c3", "c4", "encoders", "distances", "images-needed", "calibration", "temperature",
        "growth", "pq")  # fmt: skip
SAMPLED = (*SETS, "two-subsets", "lds", "spaces", "counterfactual", "planted", "audit")
WRONG: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (tuple(GIVEN), "--out file", "file is a file; choose a folder"),
    (tuple(GIVEN), "--name a/b", "--name a/b is no file name"),
    (tuple(GIVEN), "--seeds 0", "seeds=0; pass seeds ≥ 1"),
    (tuple(GIVEN), "--m 0", "m=0; pass m ≥ 1"),
    (tuple(GIVEN), "--n 41", "n=41 of 40 training images"),
    (("lds", "spaces", "images-needed"), "--seeds 1", "seeds=1; pass at least 2"),
    (("lds", "spaces"), "--subsets 1", "subsets=1; pass at least 2 random halves"),
    (tuple(set(SAMPLED) - {"audit"}), "--k 500", "k=500"),
    (SETS, f"--m {M + 1}", f"m={M + 1} exceeds the {M} images of real"),
    (SETS, "--generated bare=unlabelled.npz", "20 of the 20 images of bare have no label"),
    (SETS, "--held-out unlabelled.npz", "20 of the 20 held-out images have no label"),
    (SETS, "--generator damaged.safetensors", "damaged.safetensors"),
    (SETS, "--generator wgan", "wgan is neither a generator file nor a family"),
    (tuple(set(GIVEN) - {"encoders", "distances", "spaces", "audit"}), "--valuer nobody",
     "unknown valuer 'nobody'"),
    (tuple(set(GIVEN) - {"encoders", "distances", "spaces", "audit"}), "--valuers valuers.toml",
     "valuer mine has unknown settings wrong"),
    (tuple(set(GIVEN) - {"encoders", "distances", "spaces", "audit"}), "--valuers gone.toml",
     "gone.toml cannot be read as TOML"),
    (("c1", "c4", "two-subsets", "growth"), "--valuer dreamsim", "the weights 'dreamsim"),
    (("c1", "c3", "c4", "images-needed"), "--valuer vae-tracin",
     "vae-tracin looks into the generator"),
    (("c1", "growth"), "--generator beta-vae --valuer vae-tracin", "kept snapshots"),
    (("c1",), "--generator gan --valuer trak", "trak looks into the generator: pass a VAE"),
    (("c1",), "--valuer same-class --k 21", "same-class draws 21 images of a class"),
    (("c1",), "--valuer if4gan", "pass --held-out"),
    (("c2",), "--attribute size", "have no column size"),
    (("c2",), "--combination tone+hair", "combination ['tone', 'hair']"),
    (("c3", "calibration", "temperature"), "--noised 41", "41 noised of 40 images"),
    (("c3", "calibration", "temperature"), "--sigma 0", "sigma=0.0 adds no noise"),
    (("calibration",), "--share 1", "a share of 1.0 noised images"),
    (("calibration", "temperature"), "--valuer nda", "valuer nda has no"),
    (("calibration", "temperature"), "--valuers shapley.toml", "has the weighting shapley"),
    (("two-subsets",), "--half 21", "two subsets of 21 out of 40 images"),
    (("two-subsets",), "--steps 0", "steps=0"),
    (("lds", "counterfactual", "spaces"), "--conditional", "beta-vae is conditional"),
    (("lds", "counterfactual", "spaces"), "--generator biggan", "biggan learns classes"),
    (("lds", "counterfactual"), "--valuer same-class", "same-class goes by labels"),
    (("images-needed",), "--at 21", "numbers [21]; pass ascending ones from 1 to 20"),
    (("growth",), "--size 41", "sizes [41]; pass ascending ones from 1 to 40"),
    (("growth",), "--size 4", "k=5 exceeds the 4 training images"),
    (("pq",), "--index exact", "indexes ['exact']; pass at least two"),
    (("pq",), "--index exact --index nobody", "nobody"),
    (("pq", "strangers"), "--valuer random", "valuer random has no"),
    (("spaces",), "--space pca:nine", "space 'pca:nine' cannot be read"),
    (("counterfactual",), "--remove 40", "[5, 40] of 40 images removed"),
    (("counterfactual",), "--share 1", "shares [1.0] of 40 training images"),
    (("counterfactual",), "--m 3", "pass more than 3 of each"),
    (("planted",), "--owners 1", "owners=1 of 40 images"),
    (("planted",), "--m 21", "m=21 mixtures are of 42 training images"),
    (("planted",), "--k 9", "recall@10 needs k ≥ 10"),
    (("audit",), "--innocents 31", "innocents=31 of 30 held-out images"),
    (("audit",), "--false-alarms 0.3", "false alarms 0.3; this study keeps"),
    (("audit",), "--m 41", "m=41 copies are made of 40 training images"),
    (("strangers",), "--level 0.02", "30 held-out images; pass at least"),
    (("strangers",), "--level 1.5", "level=1.5; pass a number between 0 and 1"),
    (("lds",), "--by tone", "the training images have no column tone; there are: none"),
    (("lds",), "--save-truth truth.bin", "truth.bin does not end with .npz"),
    (("lds",), "--save-truth train.npz", "train.npz is there and is no truth file"),
    (("lds",), "--save-truth file/truth.npz", "file is a file; choose a folder"),
    (("lds",), "--save-truth truth.npz --generator gan", "there are 2 generators; pass one"),
    (("lds",), "--truth gone.npz", "gone.npz cannot be read as a truth"),
    # files of scores
    (("c1", "c2", "images-needed"), "--valuer turned.npy", "scores of shape (20, 40)"),
    (("c1", "c2", "images-needed"), "--valuer broken.npy", "1 scores that are NaN or infinite"),
    (("c1", "lds"), "--valuer listed.npz", "at place 0, where the study has"),
    (("c1", "lds"), "--valuer gone.npy", "gone.npy cannot be read as scores"),
    (("c1",), f"--m {M - 1} --valuer scores.npy", f"pass --m {M}"),
    (("c1",), "--generator beta-vae --valuer scores.npy", "no --generator"),
    (("lds",), "--m 6 --valuer scores.npy", "the study has 40 training and 6 generated images"),
    (("lds",), "--generator gan --valuer scores.npy", "pass one --generator"),
    (("c3", "c4", "two-subsets", "growth", "counterfactual", "planted"), "--valuer scores.npy",
     "scores"),
)  # fmt: skip
CASES = [(study, words, message) for of, words, message in WRONG for study in sorted(of)]


def test_every_study_has_its_checks_and_is_in_the_table() -> None:
    assert set(CHECKS) == set(GIVEN) == set(STUDIES)
    assert {study for study, _, _ in CASES} == set(STUDIES)


@pytest.mark.parametrize("study", sorted(GIVEN))
def test_a_right_request_begins_to_work(sets: Path, study: str) -> None:
    error = run(GIVEN[study])
    assert isinstance(error, AssertionError), error
    assert str(error) == "the study began to work"


@pytest.mark.parametrize(("study", "words", "message"), CASES)
def test_a_wrong_request_fails_before_any_work(
    sets: Path, study: str, words: str, message: str
) -> None:
    error = run(f"{GIVEN[study]} {words}")
    assert isinstance(error, GMValuatorError), error
    assert message in str(error)
    assert not any(Path().glob("evaluation/*"))


@pytest.mark.parametrize(("train", "message"), [
    ("one.npz", "of one class"), ("bare.npz", "40 of the 40 training images have no label")
])  # fmt: skip
@pytest.mark.parametrize("study", SETS)
def test_classes_are_wanted(sets: Path, study: str, train: str, message: str) -> None:
    error = run(GIVEN[study].replace("train.npz", train))
    assert isinstance(error, InputError)
    assert message in str(error)


def test_two_subsets_wants_the_package_of_its_picture(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = run(GIVEN["two-subsets"])
    assert isinstance(error, MissingPackageError)
    assert "pip install" in str(error)


def test_all_studies_are_checked_before_the_first(sets: Path) -> None:
    setup = Setup.open(train="train.npz", generated={"real": "real.npz"}, work="work", m=M)
    with pytest.raises(InputError, match="k=100 exceeds the 40 training images"):
        next(reproduce(setup))
    with pytest.raises(InputError, match="two subsets of 300 out of 40"):
        next(reproduce(setup, ["two_subsets"]))
