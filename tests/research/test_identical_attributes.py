"""C2: contributors that share attributes, and the emoji manifests it is measured on."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvaluator import ImageSet, InputError, Valuation
from gmvaluator.baselines.assembling import assemble
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.studies.identical_attributes import (
    agreement,
    attribute_groups,
    identical_attributes,
)
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.attributes import (
    AttributeReaders,
    carried_attributes,
    chance_agreement,
    known_attributes,
)
from gmvaluator.evaluation.subjects.subject import SetSubject
from gmvaluator.files.pieces import Workspace
from gmvaluator.scoring.scores import Contributions

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_emoji_manifest.py"

HAT = ("yes", "yes", "no", "no", "no", "yes")
SEX = ("woman", "man", "woman", "man", "woman", "woman")


def manifest(folder: Path, columns: Mapping[str, Sequence[str]], name: str = "set") -> ImageSet:
    """Small images of random colours with these columns."""
    folder.mkdir(parents=True, exist_ok=True)
    n = len(next(iter(columns.values())))
    colours = np.random.default_rng(0).integers(0, 256, (n, 3), dtype=np.uint8)
    for row in range(n):
        picture = np.broadcast_to(colours[row], (8, 8, 3))
        Image.fromarray(picture).save(folder / f"{name}-{row}.png")
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", *columns))
        writer.writerows(
            (f"{name}-{row}.png", *values)
            for row, values in enumerate(zip(*columns.values(), strict=True))
        )
    return ImageSet.open(folder / f"{name}.csv")


def valuation_of(train: ImageSet, generated: ImageSet, rows: list[list[int]]) -> Valuation:
    """These contributors with equal scores."""
    chosen = np.asarray(rows, dtype=np.int64)
    contributions = Contributions(
        rows=chosen,
        distances=np.zeros(chosen.shape, dtype=np.float32),
        scores=np.full(chosen.shape, 1 / chosen.shape[1]),
        n_train=len(train),
    )
    return assemble(
        train, generated, contributions, settings={"valuer": "made"}, seed=0, seconds={}
    )


class MadeValuer:
    """The same contributors for every generated image, best first."""

    def fit(self, train: ImageSet, /) -> None:
        self._train = train

    def value(self, generated: ImageSet, /) -> Valuation:
        return valuation_of(self._train, generated, [[0, 5, 4, 1]] * len(generated))


@pytest.fixture
def train(tmp_path: Path) -> ImageSet:
    return manifest(tmp_path / "train", {"label": "abcdef", "hat": HAT, "sex": SEX})


def context(train: ImageSet, generated: ImageSet, work: Path, seeds: int = 2) -> Context:
    return Context(
        train=train,
        subjects=[SetSubject("made", generated)],
        valuers=[NamedValuer("made", lambda k, seed: MadeValuer(), {"valuer": "made"})],
        seeds=seeds,
        m=2,
        work=Workspace(work),
        train_name="faces",
    )


def test_ratios_equal_those_counted_by_hand(tmp_path: Path, train: ImageSet) -> None:
    generated = manifest(tmp_path / "drawn", {"hat": ("yes", "no"), "sex": ("woman", "man")})
    valuation = valuation_of(train, generated, [[0, 1, 2], [3, 4, 1]])
    attributes = ("hat", "sex")
    found = agreement(
        valuation,
        known_attributes(train, attributes, "training images"),
        known_attributes(generated, attributes, "generated images"),
        attribute_groups(attributes),
        (1, 3),
    )
    # contributors (hat, sex): yes woman, yes man, no woman | no man, no woman, yes man
    assert found["ratio"] == {
        "hat": {"1": 1.0, "3": pytest.approx(2 / 3)},
        "sex": {"1": 1.0, "3": pytest.approx(2 / 3)},
        "hat + sex": {"1": 1.0, "3": pytest.approx(1 / 3)},
    }
    # enough for k = 3 but of women with a hat (2) and men without one (1)
    assert found["possible"] == {
        "hat": {"1": 1.0, "3": 1.0},
        "sex": {"1": 1.0, "3": pytest.approx((1 + 2 / 3) / 2)},
        "hat + sex": {"1": 1.0, "3": pytest.approx((2 / 3 + 1 / 3) / 2)},
    }
    # of 6: hat 3 yes and 3 no; 4 women and 2 men; 2 women with a hat and 1 man without
    assert found["chance"] == {
        "hat": pytest.approx(1 / 2),
        "sex": pytest.approx((4 / 6 + 2 / 6) / 2),
        "hat + sex": pytest.approx((2 / 6 + 1 / 6) / 2),
    }


def test_a_combination_is_never_above_its_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)

    def columns(n: int) -> dict[str, list[str]]:
        return {name: [str(v) for v in rng.integers(0, 3, n)] for name in "abc"}

    train = manifest(tmp_path / "train", columns(20))
    drawn = manifest(tmp_path / "drawn", columns(8))
    rows = [rng.choice(20, 5, replace=False).tolist() for _ in range(8)]
    groups = attribute_groups("abc")
    found = agreement(
        valuation_of(train, drawn, rows),
        known_attributes(train, "abc", "training images"),
        known_attributes(drawn, "abc", "generated images"),
        groups,
        (1, 5),
    )
    for group in groups:
        whole = " + ".join(group)
        for part in group:
            assert found["chance"][whole] <= found["chance"][part]
            for k in ("1", "5"):
                assert found["ratio"][whole][k] <= found["ratio"][part][k]
                assert found["ratio"][whole][k] <= found["possible"][whole][k]


def test_chance_is_what_every_training_image_would_give() -> None:
    rng = np.random.default_rng(2)
    train = [rng.choice(["x", "y", "z"], 30).astype(object) for _ in range(2)]
    drawn = [rng.choice(["x", "y", "w"], 9).astype(object) for _ in range(2)]
    both = np.logical_and(*(a[:, None] == b[None] for a, b in zip(drawn, train, strict=True)))
    assert chance_agreement(train, drawn) == pytest.approx(both.mean())


def test_joined_values_are_not_confused() -> None:
    first = [np.asarray(["a"], dtype=object), np.asarray(["bc"], dtype=object)]
    second = [np.asarray(["ab"], dtype=object), np.asarray(["c"], dtype=object)]
    assert chance_agreement(first, second) == 0.0


def test_the_study_tells_every_k_and_group_beside_chance(tmp_path: Path, train: ImageSet) -> None:
    generated = manifest(
        tmp_path / "drawn", {"label": "ab", "hat": ("yes", "yes"), "sex": ("man", "man")}
    )
    ask = context(train, generated, tmp_path / "work")
    result = identical_attributes(ask, ("hat", "sex"), ks=(1, 4), readers=False)
    (table,) = result.tables
    assert table.columns == ("valuer", "k", "hat", "sex", "hat + sex")
    assert table.rows[0][:2] == ("chance", None)
    assert list(table.rows[0][2:]) == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    cells = {row[1]: [cell.mean for cell in row[2:]] for row in table.rows if row[0] == "made"}  # type: ignore[union-attr]
    # contributors: yes woman, yes woman, no woman, yes man
    assert cells == {1: [1.0, 0.0, 0.0], 4: [3 / 4, 1 / 4, 1 / 4]}
    assert json.loads((result.save(tmp_path / "out"))[0].read_text())["parameters"]["k"] == [1, 4]


def test_readers_tell_how_often_images_show_what_they_should(
    tmp_path: Path, train: ImageSet
) -> None:
    generated = manifest(tmp_path / "drawn", {"hat": ("yes", "no"), "sex": ("woman", "man")})
    attributes = {"hat": known_attributes(train, ("hat",), "training images")["hat"]}
    work = Workspace(tmp_path / "work")
    shares = []
    for _ in range(2):  # trained, then read from its file
        readers = AttributeReaders(train, attributes, work, tag="faces", size=8, steps=5)
        of_generated = known_attributes(generated, ("hat",), "generated images")
        shares.append(readers.agreement(generated, of_generated)["hat"])
        assert 0 <= readers.accuracy()["hat"] <= 1
    assert shares[0] == shares[1]
    assert shares[0] in (0.0, 0.5, 1.0)


def test_labels_tell_the_attributes_of_drawn_images(tmp_path: Path) -> None:
    labels = ("hat_man", "hat_woman", "bare_man")
    columns = {"label": labels, "hat": ("yes", "yes", "no"), "sex": ("man", "woman", "man")}
    train = manifest(tmp_path / "train", columns)
    drawn = manifest(tmp_path / "drawn", {"label": ("bare_man", "hat_woman")})
    carried = carried_attributes(drawn, train, ("hat", "sex"))
    assert {name: values.tolist() for name, values in carried.items()} == {
        "hat": ["no", "yes"],
        "sex": ["man", "woman"],
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ("b", "c")}, "no training image has the label 'c'"),
        ({"label": ("a", "b")}, "label 'a' does not decide sex"),
        ({"hat": ("yes", "no")}, "neither labels nor the columns"),
    ],
)
def test_attributes_that_cannot_be_known(
    tmp_path: Path, columns: dict[str, tuple[str, ...]], message: str
) -> None:
    train = manifest(
        tmp_path / "train",
        {"label": ("a", "a", "b"), "hat": ("yes", "yes", "no"), "sex": ("man", "woman", "man")},
    )
    drawn = manifest(tmp_path / "drawn", columns)
    with pytest.raises(InputError, match=message):
        carried_attributes(drawn, train, ("hat",) if "label 'c'" in message else ("hat", "sex"))


def test_missing_columns_are_told_with_those_there_are(tmp_path: Path, train: ImageSet) -> None:
    ask = context(train, train, tmp_path / "work")
    with pytest.raises(InputError, match=r"no column glasses; there are: hat, sex"):
        identical_attributes(ask, ("hat", "glasses"), readers=False)
    holes = manifest(tmp_path / "holes", {"hat": ("yes", "", "no")})
    with pytest.raises(InputError, match=r"column hat is empty for 1 of the 3"):
        known_attributes(holes, ("hat",), "training images")


@pytest.mark.parametrize(
    ("attributes", "combinations"),
    [((), None), (("a", "a"), None), (("a", "b"), [("a",)]), (("a", "b"), [("a", "c")])],
)
def test_groups_that_make_no_sense(
    attributes: tuple[str, ...], combinations: list[tuple[str, ...]] | None
) -> None:
    with pytest.raises(InputError, match="pass"):
        attribute_groups(attributes, combinations)


def test_groups() -> None:
    assert attribute_groups(("a",)) == [("a",)]
    assert attribute_groups(("a", "b")) == [("a",), ("b",), ("a", "b")]
    assert len(attribute_groups(("a", "b", "c"))) == 3 + 3 + 1
    assert attribute_groups("ab", [("b", "a")]) == [("a",), ("b",), ("b", "a")]


def entry(code: str, name: str, *tones: str, category: str = "People & Body") -> dict[str, Any]:
    """As emoji.json has it."""

    def variant(own: str) -> dict[str, Any]:
        return {"unified": own, "image": f"{own.lower()}.png", "has_img_twitter": True}

    return {
        **variant(code),
        "name": name,
        "short_name": name.lower().replace(" ", "_"),
        "category": category,
        "subcategory": "person-role",
        "skin_variations": {tone: variant(f"{code}-{tone}") for tone in tones},
    }


ENTRIES = [
    entry("1F9D1-200D-1F33E", "FARMER", "1F3FB"),
    entry("1F468-200D-1F33E", "MAN FARMER", "1F3FB", "1F3FF"),
    entry("1F469-200D-1F9B0", "WOMAN: RED HAIR", "1F3FD"),
    entry("1F473", "MAN WITH TURBAN"),
    entry("1F473-200D-2640-FE0F", "WOMAN WEARING TURBAN"),
    entry("1F46B", "MAN AND WOMAN HOLDING HANDS", "1F3FC-1F3FE", "1F3FC-1F3FC"),
    entry("1F478", "PRINCESS"),
    entry("1F452", "WOMAN HAT", category="Objects"),
]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_emoji_manifest", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_emoji_attributes_follow_from_names_and_sequences(script: ModuleType) -> None:
    emoji = script.read_emoji(ENTRIES)
    assert [(each.name, each.skin, each.gender, each.hair) for each in emoji] == [
        ("farmer", "none", "none", "none"),
        ("farmer", "light", "none", "none"),
        ("man_farmer", "none", "man", "none"),
        ("man_farmer", "light", "man", "none"),
        ("man_farmer", "dark", "man", "none"),
        ("woman:_red_hair", "none", "woman", "red"),
        ("woman:_red_hair", "medium", "woman", "red"),
        ("man_with_turban", "none", "none", "none"),  # stands for either: it has a woman's form
        ("woman_wearing_turban", "none", "woman", "none"),
        ("man_and_woman_holding_hands", "none", "mixed", "none"),
        ("man_and_woman_holding_hands", "mixed", "mixed", "none"),
        ("man_and_woman_holding_hands", "medium-light", "mixed", "none"),
        ("princess", "none", "woman", "none"),
        ("woman_hat", "none", "none", "none"),  # no person
    ]
    assert emoji[0].design == emoji[4].design == "1f9d1-1f33e"
    assert emoji[7].design == emoji[8].design
    assert emoji[4].label(("subcategory", "skin", "gender")) == "person-role_dark_man"


def test_emoji_without_a_picture_are_left_out(script: ModuleType) -> None:
    absent = entry("1F478", "PRINCESS") | {"has_img_twitter": False}
    assert script.read_emoji([absent]) == []


def test_held_out_emoji_are_not_trained_on(script: ModuleType) -> None:
    emoji = script.read_emoji(
        [entry(f"1F9D1-200D-{i:X}", "FARMER", *script.SKIN) for i in range(20)]
    )
    parts = script.split(emoji, 0.1, seed=0)
    files = {name: {each.file for each in part} for name, part in parts.items()}
    designs = {name: {each.design for each in part} for name, part in parts.items()}
    assert sum(map(len, files.values())) == len(set.union(*files.values())) == len(emoji)
    assert len(designs["designs"]) == 2
    assert not designs["designs"] & designs["emoji"]
    assert designs["variants"] <= designs["emoji"]
    assert len(parts["variants"]) == round(0.1 * 18 * 6)
    assert script.split(emoji, 0.1, seed=0) == parts
    assert set(map(len, script.split(emoji, 0.0, seed=0).values())) == {0, len(emoji)}


def test_rare_combinations_and_other_kinds_are_left_out(script: ModuleType) -> None:
    emoji = script.read_emoji(ENTRIES)
    assert script.choose(emoji, (), ("gender",), 3) == [
        each for each in emoji if each.gender in ("none", "man", "woman", "mixed")
    ]
    assert {each.gender for each in script.choose(emoji, (), ("gender",), 4)} == {"none", "woman"}
    assert script.choose(emoji, ("person-sport",), ("gender",), 1) == []


def test_the_manifest_opens_and_shared_pictures_are_left_out(tmp_path: Path) -> None:
    package = tmp_path / "package"
    pictures = package / "img" / "twitter" / "64"
    pictures.mkdir(parents=True)
    entries = [each for each in ENTRIES if each["category"] == "People & Body"]
    (package / "emoji.json").write_text(json.dumps(entries))
    files = [each["image"] for each in entries]
    files += [own["image"] for each in entries for own in each["skin_variations"].values()]
    for number, file in enumerate(files):
        colour = (7 * max(number, 1), 0, 0, 255 if number else 254)
        Image.new("RGBA", (64, 64), colour).save(pictures / file)
    Image.open(pictures / files[2]).save(pictures / files[3])
    Image.new("RGBA", (64, 64), (200, 0, 0, 0)).save(pictures / files[1])
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), str(package), "--out", str(out), "--size", "32"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    images = ImageSet.open(out / "emoji.csv")
    assert f"{len(files) - 2} pictures" in done.stdout
    assert len(images) == len(files) - 2
    assert {"category", "skin", "gender", "hair", "design"} <= set(images.metadata)
    clear = images[images.ids.index(f"pictures-32/{files[1]}")]
    assert clear.shape == (32, 32, 3)
    assert clear.min() == 255  # transparent is white
    again = subprocess.run([*command[:2], str(out), *command[3:]], capture_output=True, text=True)
    assert again.returncode == 2
    assert "npm package emoji-datasource-twitter" in again.stderr
