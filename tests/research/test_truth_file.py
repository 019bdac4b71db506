"""Counterfactual truth as a file: what is written is read, and judges as the trained truth does."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from gmvaluator import ImageSet
from gmvaluator.cli import cli
from gmvaluator.errors import GMValuatorError, InputError, RunError
from gmvaluator.evaluation.metrics import linear_datamodeling_score, noise_ceiling, score_by_others
from gmvaluator.evaluation.studies.lds import lds_of_truths
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects import recipes
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.ground_truth import random_subsets
from gmvaluator.evaluation.truth.groups import Groups, groups_of
from gmvaluator.evaluation.truth.truth_file import TruthFile, key_array
from gmvaluator.evaluation.valuers import named_valuer
from gmvaluator.files.pieces import Workspace
from image_makers import encode, random_images

TINY = Recipe("beta-vae", 4, {"hidden": "8", "latent": 2, "size": 28, "batch_size": 8})
N, S, R, M = 40, 6, 2, 5
SIDE = 8


def pictures(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def made(**changes: Any) -> TruthFile:
    """A truth of random losses of 40 training images."""
    rng = np.random.default_rng(1)
    fields: dict[str, Any] = {
        "model": "toy",
        "train_name": "noise",
        "train_keys": key_array(ImageSet.open(pictures(N))),
        "subsets": random_subsets(N, S),
        "losses": {"elbo": rng.normal(size=(S, R, M)).astype(np.float32)},
        "what": {"elbo": "a loss"},
        "images": pictures(M, seed=2),
        "image_ids": tuple(f"{row:06d}.png" for row in range(M)),
        "record": {"train": {"source": "noise.npz", "draw_seed": 0}, "recipe": {"family": "x"}},
    }
    return TruthFile(**{**fields, **changes})


def four_groups() -> Groups:
    return Groups("owner", ("a", "b", "c", "d"), np.arange(N) % 4)


# ---- the file


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("groups", [None, four_groups()])
def test_what_is_saved_is_loaded(tmp_path: Path, grey: bool, groups: Groups | None) -> None:
    truth = made()
    if grey:
        truth = replace(truth, images=truth.images[..., 0])
    if groups is not None:
        truth = replace(truth, groups=groups, subsets=groups.subsets(S))
    file = truth.save(tmp_path / "truth.npz")
    again = TruthFile.load(file)
    for name in ("train_keys", "subsets", "images"):
        np.testing.assert_array_equal(getattr(again, name), getattr(truth, name))
    np.testing.assert_array_equal(again.losses["elbo"], truth.losses["elbo"])
    for name in ("model", "train_name", "what", "image_ids", "record"):
        assert getattr(again, name) == getattr(truth, name)
    if groups is not None:
        assert again.groups is not None
        assert (again.groups.by, again.groups.names) == ("owner", ("a", "b", "c", "d"))
        np.testing.assert_array_equal(again.groups.numbers, groups.numbers)
    first = file.read_bytes()
    assert again.name == "truth.npz"
    # equal truths are equal files, and a truth may take the place of a truth
    again.save(file)
    assert file.read_bytes() == first


def test_everything_but_the_images_takes_little_room(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = made(
        train_keys=rng.integers(0, 256, (5000, 6), dtype=np.uint8),
        subsets=random_subsets(5000, 64),
        losses={"elbo": rng.normal(size=(64, 3, 100)).astype(np.float32)},
        images=np.zeros((100, 32, 32, 3), np.uint8),
        image_ids=tuple(map(str, range(100))),
    )
    assert truth.save(tmp_path / "truth.npz").stat().st_size < 150_000


def test_the_record_is_json_that_tells_the_ceiling(tmp_path: Path) -> None:
    truth = made()
    with np.load(truth.save(tmp_path / "truth.npz"), allow_pickle=False) as archive:
        record = json.loads(archive["record"].tobytes())
    ceiling = noise_ceiling(truth.losses["elbo"].astype(np.float64))
    assert record["format"] == 1
    assert record["sizes"] == {"n": N, "subsets": S, "trainings": R, "m": M}
    assert record["losses"]["elbo"] == {
        "what": "a loss",
        "agreement": pytest.approx(ceiling.agreement.mean),
        "attainable": pytest.approx(ceiling.attainable),
    }


def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    other = tmp_path / "images.npz"
    np.savez(other, images=pictures(3))
    with pytest.raises(RunError, match=r"images\.npz is there and is no truth file"):
        made().save(other)
    with pytest.raises(InputError, match=r"truth\.bin does not end with \.npz"):
        made().save(tmp_path / "truth.bin")


def changed(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the arrays of a file; `record` is a dictionary meanwhile."""
    with np.load(file) as archive:
        arrays: dict[str, Any] = dict(archive)
    arrays["record"] = json.loads(arrays["record"].tobytes())
    change(arrays)
    if isinstance(arrays.get("record"), dict):
        arrays["record"] = np.frombuffer(json.dumps(arrays["record"]).encode(), np.uint8)
    np.savez(file, **arrays)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-700])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def pickled(file: Path) -> None:
    file.write_bytes(pickle.dumps({"losses": 1}))


def member(file: Path) -> None:
    """An array of objects, as NumPy pickles it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("more.npy", buffer.getvalue())


def with_arrays(**arrays: Any) -> Callable[[Path], None]:
    return lambda file: changed(file, lambda held: held.update(arrays))


def with_record(**entries: Any) -> Callable[[Path], None]:
    return lambda file: changed(file, lambda held: held["record"].update(entries))


def without(name: str) -> Callable[[Path], None]:
    return lambda file: changed(file, lambda held: held.pop(name))


NAN = np.full((S, R, M), np.nan, np.float32)
LOSSES = np.zeros((S, R, M), np.float32)
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "No such file"),
    "empty": (lambda file: file.write_bytes(b""), "not a zip file"),
    "truncated": (cut, "not a zip file"),
    "bit": (flip, "cannot be read as a truth"),
    "pickle": (pickled, "not a zip file"),
    "objects": (member, "allow_pickle=False"),
    "other archive": (without("record"), "no array record of uint8"),
    "other record": (with_record(kind="run"), "not that of a gmvaluator truth"),
    "no json": (with_arrays(record=np.frombuffer(b"{", np.uint8)), "cannot be read as a truth"),
    "later format": (with_record(format=2), "format number is 2, and this gmvaluator reads 1"),
    "poor record": (
        lambda file: changed(file, lambda held: held["record"].pop("image_ids")),
        "has no image_ids",
    ),
    "no name": (with_record(model=3), "a name or description that is no text"),
    "no source": (with_record(train=3), "nothing of where the training images come from"),
    "no losses": (without("losses.elbo"), "losses of no name with descriptions of elbo"),
    "NaN": (with_arrays(**{"losses.elbo": NAN}), "60 losses elbo are NaN or infinite"),
    "doubles": (with_arrays(**{"losses.elbo": LOSSES.astype(float)}), "wanted float32"),
    "few subsets": (with_arrays(**{"losses.elbo": LOSSES[:4]}), "losses elbo of shape (4, 2, 5)"),
    "one training": (with_arrays(**{"losses.elbo": LOSSES[:, :1]}), "at least 2 subsets and 2"),
    "few keys": (with_arrays(train_keys=np.zeros((9, 6), np.uint8)), "subsets of shape (6, 5)"),
    "short keys": (with_arrays(train_keys=np.zeros((N, 4), np.uint8)), "wanted (40, 6)"),
    "no picture": (with_arrays(images=np.zeros(9, np.uint8)), "not an image file"),
    "few images": (with_record(image_ids=["a", "b"]), "losses elbo of shape (6, 2, 5)"),
    "sizes": (
        with_arrays(subsets=np.packbits(np.eye(S, N, dtype=bool) | (np.arange(N) < 3), axis=1)),
        "wanted one size",
    ),
    "few groups": (
        lambda file: changed(
            file,
            lambda held: (
                held.update(groups=np.zeros(N, np.int32)),
                held["record"].update(groups={"by": "owner", "names": ["a"]}),
            ),
        ),
        "column owner has 1 group",
    ),
    "parted groups": (
        lambda file: changed(
            file,
            lambda held: (
                held.update(groups=(np.arange(N) % 4).astype(np.int32)),
                held["record"].update(groups={"by": "owner", "names": list("abcd")}),
            ),
        ),
        "holds part of a group",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    spoil, message = BAD[kind]
    file = made().save(tmp_path / "truth.npz")
    spoil(file)
    with pytest.raises(InputError) as error:
        TruthFile.load(file)
    text = str(error.value)
    assert text.startswith(str(file))
    assert message in text
    assert "\n" not in text
    assert text.endswith("pass a file that gmvaluator evaluate lds --save-truth wrote")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made().save(tmp_path / "truth.npz")
    monkeypatch.setattr("gmvaluator.evaluation.truth.truth_file.SIZE_LIMIT", 1000)
    with pytest.raises(InputError, match="its arrays have more than 1000 bytes"):
        TruthFile.load(file)


# ---- the training images


def test_training_images_are_known_by_their_pixels_in_any_order(tmp_path: Path) -> None:
    truth = made()
    order = np.random.default_rng(3).permutation(N + 30)
    images = np.concatenate([pictures(N), pictures(30, seed=9)])[order]
    for row, image in enumerate(images):
        (tmp_path / f"{row:03d}.png").write_bytes(encode(image))
    found = truth.training_images(tmp_path)
    np.testing.assert_array_equal(np.stack(list(found)), pictures(N))


def test_copies_among_the_training_images_are_different_rows() -> None:
    images = pictures(N)
    images[7] = images[3]
    truth = made(train_keys=key_array(ImageSet.open(images)))
    assert truth.training_images(ImageSet.open(images)).ids == tuple(map(str, range(N)))
    single = np.delete(images, 7, axis=0)
    with pytest.raises(InputError, match="1 of them are not among the 39 of TRAIN: number 7;"):
        truth.training_images(ImageSet.open(single))


def test_missing_training_images_are_named() -> None:
    images = pictures(N)
    images[[2, 31]] = 0
    wanted = (
        r"40 training images, noise \(noise\.npz\), and 2 of them are not among the 40 of TRAIN: "
        r"number 2 \(where TRAIN has 2\), number 31 \(where TRAIN has 31\)"
    )
    with pytest.raises(InputError, match=wanted):
        made().training_images(ImageSet.open(images))


def test_unreadable_training_images_cannot_be_of_a_truth(tmp_path: Path) -> None:
    for row in range(3):
        (tmp_path / f"{row}.png").write_bytes(encode(random_images(1, 8, seed=row)[0]))
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=r"1 training images cannot be read, such as 1\.png"):
        key_array(ImageSet.open(tmp_path))


# ---- scores


def test_scores_are_judged_in_one_call() -> None:
    truth, scores = made(), np.random.default_rng(5).normal(size=(N, M))
    losses = truth.losses["elbo"].astype(np.float64)
    judged = truth.score(scores)["elbo"]
    by_image = linear_datamodeling_score(scores, truth.subsets, losses.mean(axis=1))
    np.testing.assert_allclose(judged.by_image, by_image)
    assert judged.lds.mean == pytest.approx(by_image.mean())
    others = score_by_others(scores, truth.subsets, losses.mean(axis=1))
    assert judged.by_others == pytest.approx(others)
    assert judged.ceiling == noise_ceiling(losses)
    assert np.isnan(truth.score(np.zeros((N, M)))["elbo"].lds.mean)
    for wrong in (scores.T, np.where(scores > 2, np.inf, scores)):
        with pytest.raises(InputError, match=r"pass finite numbers of shape \(40, 5\)"):
            truth.score(wrong)


def test_a_part_is_of_the_first() -> None:
    truth = made()
    part = truth.part(subsets=4, m=3)
    np.testing.assert_array_equal(part.losses["elbo"], truth.losses["elbo"][:4, :, :3])
    np.testing.assert_array_equal(part.subsets, truth.subsets[:4])
    assert part.generated.ids == truth.image_ids[:3]
    assert truth.part().losses["elbo"].shape == (S, R, M)
    for wrong, message in (
        ({"subsets": S + 1}, "subsets=7, and the truth has 6"),
        ({"seeds": 1}, "seeds=1 is too small"),
        ({"m": 0}, "m=0 is too small"),
    ):
        with pytest.raises(InputError, match=message):
            truth.part(**wrong)


# ---- groups


def test_halves_of_groups_are_whole_and_different() -> None:
    groups = Groups(
        "owner", tuple("abcdef"), np.random.default_rng(0).permutation(np.arange(N) % 6)
    )
    subsets = groups.subsets(20)
    present = groups.present(subsets)
    assert (present.sum(axis=1) == 3).all()
    assert len({row.tobytes() for row in present}) == 20
    np.testing.assert_array_equal(subsets, present[:, groups.numbers])
    np.testing.assert_array_equal(groups.subsets(7), subsets[:7])
    with pytest.raises(InputError, match=r"subsets=21 of 6 groups, which have 20 different halves"):
        groups.subsets(21)
    with pytest.raises(InputError, match="holds part of a group"):
        groups.present(random_subsets(N, 3))


def test_scores_of_a_group_are_summed() -> None:
    # groups of 4, 5, 6 … images: the halves of images differ in size, those of groups do not
    sizes = np.arange(4, 9)
    groups = Groups("owner", tuple("abcde"), np.repeat(np.arange(5), sizes))
    subsets = groups.subsets(8)
    scores = np.random.default_rng(0).normal(size=(30, M))
    sums = np.stack([scores[groups.numbers == group].sum(axis=0) for group in range(5)])
    np.testing.assert_allclose(groups.sums(scores), sums)
    losses = -np.repeat((groups.present(subsets) @ sums)[:, None], 2, axis=1).astype(np.float32)
    truth = made(
        groups=groups,
        subsets=subsets,
        losses={"elbo": losses},
        train_keys=np.zeros((30, 6), np.uint8),
    )
    np.testing.assert_allclose(truth.score(scores)["elbo"].by_image, 1)


def manifest(folder: Path, train: ImageSet, groups: Sequence[str]) -> Path:
    """The images as PNG files, and a table with the column owner."""
    lines = ["path,owner"]
    for row, group in enumerate(groups):
        (folder / f"{row:03d}.png").write_bytes(encode(train[row]))
        lines.append(f"{row:03d}.png,{group}")
    file = folder / "train.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("column", "groups", "message"),
    [
        ("maker", "abcd" * 3, "have no column maker; there are: owner"),
        ("owner", "abc" * 4, "column owner has 3 groups"),
        ("owner", ["a", "", "b", "c", "d", ""], r"names no group for 2 of the 6 .*001\.png, 005"),
    ],
)
def test_columns_that_group_badly_are_refused(
    column: str, groups: Sequence[str], message: str, train: ImageSet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        groups_of(ImageSet.open(manifest(tmp_path, train, groups)), column)


def test_labels_are_groups_too() -> None:
    images = ImageSet.open([*pictures(8)])
    with pytest.raises(InputError, match="have no column label; there are: none"):
        groups_of(images, "label")


# ---- the study


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", "lds", *map(str, words), "--quiet"])


def result_of(*words: object) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(tasks: Sequence[Any], *_: Any) -> None:
        assert not tasks, "a training began"

    for module in ("subjects.recipes", "truth.retraining", "truth.snapshots"):
        monkeypatch.setattr(f"gmvaluator.evaluation.{module}.side_by_side", refused)


def scores_of(result: dict[str, Any]) -> list[Any]:
    """The tables without seconds."""
    return [row[:4] for table in result["tables"] for row in table["rows"]]


SIZES = ("--seeds", 2, "--m", 6, "--k", 10)
VALUERS = ("--valuer", "nearest-pixel", "--valuer", "random")


@pytest.mark.usefixtures("in_this_process")
def test_a_saved_truth_judges_as_the_trained_one(
    train: ImageSet, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "QUICK_RECIPES", {"beta-vae": TINY})
    pixels = np.stack([train[row][:, :, 0] for row in range(len(train))])
    np.savez("digits.npz", images=pixels)
    np.savez("turned.npz", images=pixels[::-1])
    asked = ("digits.npz", "--generator", "beta-vae", "--work", work, *SIZES, *VALUERS)
    trained = result_of(*asked, "--subsets", 5, "--save-truth", "truth.npz")
    nothing_is_trained(monkeypatch)
    # whole subsets of a working folder are saved, and nothing is trained for them
    first = result_of(*asked, "--subsets", 4, "--save-truth", "first.npz")

    judged = ("turned.npz", *VALUERS, "--k", 10)
    from_file = result_of(*judged, "--truth", "truth.npz")
    assert scores_of(from_file) == scores_of(trained)
    assert scores_of(result_of(*judged, "--truth", "first.npz")) == scores_of(first)
    assert scores_of(result_of(*judged, "--truth", "truth.npz", "--subsets", 4)) == scores_of(first)
    assert [table["title"] for table in from_file["tables"]] == ["digits, beta-vae, elbo"]
    parameters, earlier = from_file["parameters"], trained["parameters"]
    saved = earlier.pop("saved_truth")
    assert parameters.pop("truths") == {"beta-vae": {**saved, "train": "digits"}}
    assert saved["file"] == "truth.npz"
    assert parameters == earlier
    assert "The truth of beta-vae is that of truth.npz; nothing was trained." in from_file["notes"]

    # two truths of one model are told apart by their files
    both = result_of(*judged, "--truth", "truth.npz", "--truth", "first.npz")
    assert [table["title"] for table in both["tables"]] == [
        "digits, beta-vae (truth.npz), elbo",
        "digits, beta-vae (first.npz), elbo",
    ]
    assert both["parameters"]["subsets"] == [5, 4]

    # a method that reads the model is judged with the model at hand
    (model,) = (work / "generators").glob("beta-vae-*-seed0.safetensors")
    reading = ("--valuer", "trak", "--k", 10)
    by_hand = result_of(*asked[:-4], *reading, "--subsets", 5)
    with_model = ("turned.npz", "--truth", "truth.npz", "--generator", model, *reading)
    assert scores_of(result_of(*with_model)) == scores_of(by_hand)
    cannot_read = run(*with_model, "--valuer", "vae-tracin").exception
    assert "vae-tracin looks into the generator: pass a β-VAE whose training kept" in str(
        cannot_read
    )

    # scores of another program, in the order of the truth, whatever the order of TRAIN
    truth = TruthFile.load("truth.npz")
    scores = np.random.default_rng(0).random((40, 6))
    np.savez("own.npz", scores=scores, generated_ids=truth.image_ids)
    own = result_of("turned.npz", "--truth", "truth.npz", "--valuer", "own.npz", "--k", 10)
    assert own["tables"][0]["rows"][0][1]["mean"] == pytest.approx(
        truth.score(scores)["elbo"].lds.mean
    )


@pytest.mark.usefixtures("in_this_process")
def test_halves_of_groups_are_trained_saved_and_judged(
    train: ImageSet, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "QUICK_RECIPES", {"beta-vae": TINY})
    groups = [*"aaab" * 5, *"cdec" * 5]
    table = manifest(tmp_path, train, groups)
    asked = (table, "--train-name", "digits", "--generator", "beta-vae", "--work", work, *SIZES)
    trained = result_of(
        *asked, *VALUERS, "--subsets", 4, "--by", "owner", "--save-truth", "truth.npz"
    )
    assert (trained["parameters"]["by"], trained["parameters"]["groups"]) == ("owner", 5)
    assert any("A group has 5 to 15 images" in note for note in trained["notes"])
    nothing_is_trained(monkeypatch)
    judged = result_of(table, "--truth", "truth.npz", *VALUERS, "--k", 10)
    assert scores_of(judged) == scores_of(trained)

    truth = TruthFile.load("truth.npz")
    assert truth.groups is not None
    assert [truth.groups.names[number] for number in truth.groups.numbers] == groups
    assert (truth.groups.present(truth.subsets).sum(axis=1) == 2).all()
    valuer = named_valuer("nearest-pixel").make(10, 0)
    valuer.fit(ImageSet.open(table))
    scores = valuer.value(truth.generated).score_matrix()
    shown = trained["tables"][0]["rows"][0][1]["mean"]
    assert shown == pytest.approx(truth.score(scores)["elbo"].lds.mean)
    again = run(*asked, "--subsets", 11, "--by", "owner")
    assert "subsets=11 of 5 groups, which have 10 different halves" in str(again.exception)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with truths and their training images."""
    monkeypatch.chdir(tmp_path)
    np.savez("noise.npz", images=pictures(N))
    made().save("truth.npz")
    made(model="other").save("other.npz")
    made(train_keys=np.zeros((N, 6), np.uint8), model="third").save("third.npz")
    np.save("few.npy", np.zeros((N, M - 1)))
    np.save("scores.npy", np.zeros((N, M)))
    Path("broken.npz").write_bytes(b"PK")
    Path("model.safetensors").write_bytes(b"another model")

    def works(*_: Any, **__: Any) -> None:
        raise AssertionError("the study began to work")

    monkeypatch.setattr(Workspace, "piece", works)
    return tmp_path


TRUTH = "--truth truth.npz"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            f"{TRUTH} --generator gan",
            "gan is a family to train; pass the file of the truth's model",
        ),
        (
            f"{TRUTH} --generator model.safetensors",
            "drew the images of no truth given (its SHA-256",
        ),
        (f"{TRUTH} --conditional", "lds does not take --conditional"),
        (f"{TRUTH} --generated real=noise.npz", "lds does not take --generated"),
        (f"{TRUTH} --by label", "lds does not take --by"),
        (f"{TRUTH} --save-truth new.npz", "lds does not take --save-truth"),
        (f"{TRUTH} --subsets 7", "subsets=7, and truth.npz has 6; pass subsets ≤ 6"),
        (f"{TRUTH} --seeds 3", "seeds=3, and truth.npz has 2"),
        (f"{TRUTH} --m 6", "m=6, and truth.npz has 5"),
        (f"{TRUTH} --n 39", "1 of them are not among the 39 of TRAIN"),
        (f"{TRUTH} --valuer trak", "trak looks into the generator, and a truth file has its"),
        (f"{TRUTH} --valuer vae-tracin", "vae-tracin looks into the generator"),
        (f"{TRUTH} --valuer same-class", "same-class goes by labels"),
        (f"{TRUTH} --valuer few.npy", "pass an array of (40, 5)"),
        (f"{TRUTH} --truth other.npz --valuer scores.npy", "pass one --truth"),
        (f"{TRUTH} --truth third.npz", "truth.npz and third.npz are of different training images"),
        (f"{TRUTH} {TRUTH}", "toy (truth.npz) is given twice"),
        (f"{TRUTH} --k 41", "k=41 exceeds the 40 training images"),
        ("--truth third.npz", "40 of them are not among the 40 of TRAIN"),
        ("--truth gone.npz", "gone.npz cannot be read as a truth: No such file"),
        ("--truth broken.npz", "broken.npz cannot be read as a truth"),
        ("--truth noise.npz", "noise.npz is no truth to judge by: it has no array record"),
    ],
)
def test_wrong_requests_fail_before_any_work(saved: Path, words: str, message: str) -> None:
    error = run("noise.npz", "--k", 5, *words.split()).exception
    assert isinstance(error, GMValuatorError), error
    assert message in str(error)


def test_a_right_request_begins_to_work(saved: Path) -> None:
    error = run("noise.npz", "--k", 5, *TRUTH.split(), "--valuer", "random").exception
    assert str(error) == "the study began to work"


def test_a_truth_in_memory_has_no_hash_to_keep_results_by(tmp_path: Path) -> None:
    context = Context(
        train=ImageSet.open(pictures(N)),
        subjects=(),
        valuers=[named_valuer("random")],
        seeds=2,
        m=M,
        work=Workspace(tmp_path),
        train_name="noise",
    )
    with pytest.raises(InputError, match="the truth of toy is of no file; save it"):
        lds_of_truths(context, [made()], k=5)
    with pytest.raises(InputError, match="no truth was given"):
        lds_of_truths(context, [], k=5)


COMMITTED = Path(__file__).parents[2] / "benchmarks" / "truths"


def test_committed_truths_are_listed_whole_and_small() -> None:
    files = sorted(COMMITTED.glob("*.npz"))
    listed = (COMMITTED / "README.md").read_text(encoding="utf-8")
    assert files
    for file in files:
        assert f"`{file.name}`" in listed
        assert file.stat().st_size <= 400_000
        truth = TruthFile.load(file)
        assert truth.subsets.shape[1] == 5_000
        assert len(truth.generated) == 100
        for ceiling in truth.ceilings.values():
            assert ceiling.agreement.low > 0
