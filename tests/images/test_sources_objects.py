"""Python objects as sources: lists, torch and Hugging Face data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gmvaluator.errors import InputError
from gmvaluator.images import ImageSet, Preprocessing, Skip
from image_checks import IMAGES, PNGS, check_pixels
from image_makers import encode, random_images, write_files


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists(kind: type) -> None:
    check_pixels(ImageSet.open(kind(IMAGES)))
    images = ImageSet.open(kind(Image.fromarray(image) for image in IMAGES))
    assert images.location is None
    check_pixels(images)


def test_list_with_bad_items() -> None:
    images = ImageSet.open([IMAGES[0], "x", np.zeros((2, 2), np.int64), np.zeros((0, 3))])
    (batch,) = images.batches(Preprocessing(8))
    assert batch.rows.tolist() == [0]
    assert [row for row, _ in batch.skipped] == [1, 2, 3]
    assert "int64" in batch.skipped[1][1].reason


def test_list_is_copied() -> None:
    items = list(IMAGES)
    images = ImageSet.open(items)
    items.clear()
    check_pixels(images)


def test_lazily_opened_pil_images(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": PNGS[0], "cut.png": encode(random_images(1, 64)[0])[:5000]})
    with Image.open(tmp_path / "a.png") as good, Image.open(tmp_path / "cut.png") as bad:
        images = ImageSet.open([good, bad])
        (batch,) = images.batches(Preprocessing(8))
        assert batch.rows.tolist() == [0]
        assert "truncated" in batch.skipped[0][1].reason


def test_pil_image_that_cannot_be_converted_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(mode: str) -> Image.Image:
        raise ValueError("conversion not supported")

    broken = Image.new("CMYK", (8, 8))
    monkeypatch.setattr(broken, "convert", refuse)
    (batch,) = ImageSet.open([Image.fromarray(IMAGES[0]), broken]).batches(Preprocessing(8))
    assert batch.rows.tolist() == [0]
    assert batch.skipped == ((1, Skip("1", "damaged PIL image: conversion not supported")),)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "NoneType was given"),
        (5, "int was given"),
        ([], "holds no images"),
        ((), "holds no images"),
        (["a.png"], "manifest"),
        ([1, 2], "list of int"),
        ({"train": []}, r"dataset\['train'\]"),
        (iter([]), "map style"),
    ],
)
def test_unknown_objects(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSet.open(source)


class Pairs:
    """A map-style data set of (image, label); counts what is asked of it."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        self.asked.append(row)
        return self.items[row]


@pytest.mark.parametrize("form", ["pil", "float", "uint8", "hwc", "dict"])
def test_torch_data_set(form: str) -> None:
    import torch

    def item(image: NDArray[np.uint8], label: int) -> Any:
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
        if form == "dict":
            return {"image": tensor, "label": label}
        made = {
            "pil": Image.fromarray(image),
            "float": tensor.float() / 255,
            "uint8": tensor,
            "hwc": image,
        }[form]
        return made, torch.tensor(label) if form == "float" else label

    data = Pairs([item(image, row % 2) for row, image in enumerate(IMAGES)])
    images = ImageSet.open(data)
    assert data.asked == []
    check_pixels(images)
    data.asked.clear()
    subset = images.select([1, 2])
    assert data.asked == []
    assert subset.labels == ("1", "0")
    assert images.labels == ("0", "1") * 3
    assert data.asked == list(range(6))


def of_every_kind() -> dict[str, Any]:
    """IMAGES[0] as a tensor of every precision and layout; coarse enough for eight bits."""
    import torch

    unit = torch.from_numpy(IMAGES[0] // 128).permute(2, 0, 1).float()
    return {
        "bfloat16": unit.bfloat16(),
        "float16": unit.half(),
        "float64": unit.double(),
        "float8": unit.to(torch.float8_e4m3fn),
        "sparse": unit.to_sparse(),
        "needs gradients": unit.requires_grad_(),
    }


@pytest.mark.parametrize("kind", of_every_kind())
def test_tensors_of_every_precision_and_layout(kind: str) -> None:
    images = ImageSet.open([of_every_kind()[kind]])
    np.testing.assert_array_equal(images[0], IMAGES[0] // 128 * 255)


def test_items_that_are_no_numbers_are_skipped() -> None:
    class Odd:
        def __array__(self, *_: object, **__: object) -> NDArray[Any]:
            raise RuntimeError("no array today")

    data = Pairs([(IMAGES[0], 0), ([[1, 2], [3]], 0), (Odd(), 0), ({"a": 1}, 0), (None, 0)])
    (batch,) = ImageSet.open(data).batches(Preprocessing(8))
    assert batch.rows.tolist() == [0]
    reasons = [skip.reason for _, skip in batch.skipped]
    assert reasons[0].startswith("list cannot be read as numbers (setting an array")
    assert reasons[1] == "Odd cannot be read as numbers (no array today)"


def test_torch_targets_and_classes_are_used() -> None:
    data: Any = Pairs([(image, 0) for image in IMAGES])
    data.targets, data.classes = [0, 1, 0, 1, 0, 1], ["cat", "dog"]
    assert ImageSet.open(data).labels == ("cat", "dog") * 3
    assert data.asked == []


def test_torch_tensor_data_set_without_labels() -> None:
    import torch
    from torch.utils.data import TensorDataset

    images = ImageSet.open(TensorDataset(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)))
    assert images.labels is None
    check_pixels(images)


def test_failing_data_set_items_are_skipped() -> None:
    class Failing(Pairs):
        def __getitem__(self, row: int) -> Any:
            if row == 1:
                raise KeyError("lost")
            return super().__getitem__(row)

    import torch

    bad = torch.full((3, 8, 8), -2.0)
    images = ImageSet.open(Failing([(IMAGES[0], "a"), None, (bad, "b"), (IMAGES[1], None)]))
    (batch,) = images.batches(Preprocessing(8))
    assert batch.rows.tolist() == [0, 3]
    assert "KeyError" in batch.skipped[0][1].reason
    assert "Normalize" in batch.skipped[1][1].reason
    assert images.labels == ("a", None, "b", None)


class FakeFeature:
    """Feature types of the `datasets` package, as far as they are looked at."""

    def __init__(self, dtype: str = "int64", names: list[str] | None = None) -> None:
        self.dtype, self.names = dtype, names


class FakeHuggingFace:
    """A `datasets.Dataset`: columns by name, rows by number; decoding is counted."""

    def __init__(self, table: dict[str, list[Any]], features: dict[str, Any]) -> None:
        self.table, self.features = table, features
        self.decoded = 0

    @property
    def column_names(self) -> list[str]:
        return list(self.table)

    def __len__(self) -> int:
        return len(next(iter(self.table.values())))

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return list(self.table[key])
        self.decoded += 1
        return {name: values[key] for name, values in self.table.items()}


class HuggingFaceImage:
    """Renamed below: sources look for a feature class called Image."""

    def __init__(self, decode: bool = True) -> None:
        self.decode, self.dtype = decode, "PIL.Image.Image"


HuggingFaceImage.__name__ = "Image"


class Casting(FakeHuggingFace):
    def cast_column(self, name: str, feature: HuggingFaceImage) -> FakeHuggingFace:
        assert not feature.decode
        cells = [{"bytes": encode(picture), "path": None} for picture in self.table[name]]
        return FakeHuggingFace(self.table | {name: cells}, self.features)


@pytest.mark.parametrize("kind", [FakeHuggingFace, Casting])
def test_hugging_face_data_set(kind: type[FakeHuggingFace]) -> None:
    table: dict[str, list[Any]] = {
        "picture": [Image.fromarray(image) for image in IMAGES],
        "label": [0, 1, 0, 1, 0, -1],
        "year": list(range(6)),
        "boxes": [[1, 2]] * 6,
    }
    features = {
        "picture": HuggingFaceImage(),
        "label": FakeFeature(names=["cat", "dog"]),
        "year": FakeFeature(),
        "boxes": FakeFeature("list"),
    }
    data = kind(table, features)
    images = ImageSet.open(data)
    assert images.labels == ("cat", "dog", "cat", "dog", "cat", None)
    assert images.metadata == {"year": tuple(range(6))}
    assert data.decoded == 0
    check_pixels(images)
    if kind is Casting:
        assert data.decoded == 0
        assert images.read_bytes(0) == PNGS[0]


def test_hugging_face_without_images() -> None:
    with pytest.raises(InputError, match="cast_column"):
        ImageSet.open(FakeHuggingFace({"text": ["a"]}, {"text": FakeFeature("string")}))
