"""Counterfactual truth as one file: what retraining said, for anyone to judge scores by.

A truth file is an .npz archive without pickles. Its arrays:

| array | type and shape | content |
|---|---|---|
| `record` | uint8 (b,) | JSON in UTF-8; see `TruthFile.record` |
| `images` | uint8 (c,) | a PNG of the m generated images, one below the other |
| `subsets` | uint8 (s, ⌈n / 8⌉) | a bit for each training image, as `numpy.packbits` packs |
| `train_keys` | uint8 (n, 6) | first bytes of `ImageSet.pixel_keys` of the training images |
| `losses.NAME` | float32 (s, r, m) | losses of the model of each subset and training |
| `groups` | int32 (n,) | only of subsets of groups: the group of each training image |
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvaluator.arguments import whole_number
from gmvaluator.errors import InputError, RunError
from gmvaluator.evaluation.metrics import (
    Interval,
    NoiseCeiling,
    linear_datamodeling_score,
    mean_interval,
    noise_ceiling,
    score_by_others,
)
from gmvaluator.evaluation.truth.groups import Groups, by_unit
from gmvaluator.files.atomic import check_place, publish_file
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.images.decoding import decode, encode_png
from gmvaluator.images.pixels import random_subset
from gmvaluator.images.sources.base import why
from gmvaluator.memory import once
from gmvaluator.shown import short_repr

KIND, FORMAT = "gmvaluator truth", 1
SUFFIX = ".npz"
KEY_BYTES = 6
SIZE_LIMIT = 2**30  # bytes of all arrays, unpacked; and of all images
_LOSS = "losses."
_WANTED = "pass a file that gmvaluator evaluate lds --save-truth wrote"


@dataclass(frozen=True, eq=False)
class TruthScore:
    """The LDS of scores by one loss.

    Attributes:
        by_image: (m,) LDS of each generated image; NaN where sums or losses are all the same.
        lds: mean over the generated images, with its 95 % interval.
        by_others: LDS by the scores of other generated images; see `score_by_others`.
        ceiling: the agreement of two trainings, and the attainable LDS.
    """

    by_image: NDArray[np.float64] = field(repr=False)
    lds: Interval
    by_others: float
    ceiling: NoiseCeiling

    @property
    def share(self) -> float:
        """`lds` as a share of what is attainable."""
        return self.ceiling.share(self.lds)


@short_repr
@dataclass(frozen=True, eq=False)
class TruthFile:
    """Losses, at generated images, of models that were trained on subsets of the training images.

    Attributes:
        model: name of the generator.
        train_name: name of the training set in tables.
        train_keys: (n, 6) uint8, the first bytes of `ImageSet.pixel_keys` of the n training images.
        subsets: (s, n) bool, the training images of each subset.
        losses: by name of the loss, (s, r, m) float32, of the model of each subset and training.
        what: a description of each loss, by its name.
        images: the m generated images, (m, H, W) or (m, H, W, 3) uint8.
        image_ids: their ids.
        groups: of subsets of groups of training images; None: of single images.
        record: what else is known, as JSON: `train` (`source`, the seed of the draw of n images),
            `recipe` of every training, `seeds` of the trainings, `subset_seed`, `generator`
            (SHA-256 of the model of all training images), `versions` of packages.
        name: of the file that it was loaded from.
        sha256: of that file.

    Raises:
        InputError: the shapes do not fit, a loss is no finite number, there are fewer than two
            subsets or trainings, or the subsets are of several sizes.
    """

    model: str
    train_name: str
    train_keys: NDArray[np.uint8]
    subsets: NDArray[np.bool_]
    losses: Mapping[str, NDArray[np.float32]]
    what: Mapping[str, str]
    images: NDArray[np.uint8]
    image_ids: tuple[str, ...]
    groups: Groups | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        s, n = _shape("subsets", self.subsets, "bool", 2)
        images = (m, *_) = _shape("images", self.images, "uint8", 3, 4)
        if images[3:] not in ((), (3,)):
            raise InputError(f"images of shape {images}; wanted (m, H, W) or (m, H, W, 3)")
        if 3 * math.prod(images[:3]) > SIZE_LIMIT:
            raise InputError(f"images of shape {images}, more than {SIZE_LIMIT} bytes; pass fewer")
        if _shape("train_keys", self.train_keys, "uint8", 2) != (n, KEY_BYTES):
            raise InputError(
                f"train_keys of shape {self.train_keys.shape}; wanted {(n, KEY_BYTES)}"
            )
        if len(set(self.image_ids)) != m or len(self.image_ids) != m:
            raise InputError(f"{len(self.image_ids)} ids of {m} images; wanted as many, distinct")
        names = () if self.groups is None else self.groups.names
        texts = (self.model, self.train_name, *self.image_ids, *self.what.values(), *names)
        if not all(isinstance(text, str) for text in texts):
            raise InputError("a name or description that is no text; wanted texts")
        if not self.losses or set(self.losses) != set(self.what):
            raise InputError(
                f"losses {', '.join(self.losses) or 'of no name'} with descriptions of "
                f"{', '.join(self.what) or 'none'}; wanted a description of each loss"
            )
        for loss, numbers in self.losses.items():
            shape = _shape(f"losses {loss}", numbers, "float32", 3)
            if (shape[0], shape[2]) != (s, m) or min(shape[:2]) < 2:
                raise InputError(
                    f"losses {loss} of shape {shape}, with {s} subsets and {m} images; wanted "
                    "(subsets, trainings, images), at least 2 subsets and 2 trainings of each"
                )
            if bad := int((~np.isfinite(numbers)).sum()):
                raise InputError(f"{bad} losses {loss} are NaN or infinite; wanted finite numbers")
        if self.groups is not None and self.groups.numbers.shape != (n,):
            raise InputError(f"groups of {len(self.groups.numbers)} images; wanted {n}")
        units = self.subsets if self.groups is None else self.groups.present(self.subsets)
        sizes = np.count_nonzero(units, axis=1)
        if sizes.min() != sizes.max():
            raise InputError(f"subsets of {sizes.min()} to {sizes.max()}; wanted one size")

    @classmethod
    def load(cls, path: str | Path) -> TruthFile:
        """The truth of a file. Nothing in the file is run.

        Raises:
            InputError: the file is missing, is damaged, is of another format, or its content does
                not fit together.
        """
        file = Path(path)
        try:
            return cls._read(file)
        except InputError as error:
            raise InputError(f"{file} is no truth to judge by: {error}; {_WANTED}") from None
        except Exception as error:  # zipfile, zlib and the parsers of headers raise their own kinds
            raise InputError(f"{file} cannot be read as a truth: {why(error)}; {_WANTED}") from None

    def save(self, path: str | Path) -> Path:
        """Write the truth as one .npz file, in the place of an earlier truth. Returns its path.

        Equal truths give equal files.

        Raises:
            InputError: the name does not end with .npz.
            RunError: another file is there, or the file cannot be written.
        """
        file = check_place_of_truth(path)
        arrays: dict[str, Any] = {
            "record": np.frombuffer(json.dumps(self._full_record()).encode(), np.uint8),
            # one picture has one palette of repetitions, and one head
            "images": np.frombuffer(
                encode_png(self.images.reshape(-1, *self.images.shape[2:])), np.uint8
            ),
            "subsets": np.packbits(self.subsets, axis=1),
            "train_keys": self.train_keys,
            **{f"{_LOSS}{loss}": numbers for loss, numbers in self.losses.items()},
        }
        if self.groups is not None:
            arrays["groups"] = self.groups.numbers.astype(np.int32)
        with publish_file(file) as part, part.open("wb") as handle:
            np.savez_compressed(handle, **arrays)
        return file

    @property
    @once
    def ceilings(self) -> dict[str, NoiseCeiling]:
        """The agreement of two trainings and the attainable LDS, by name of the loss."""
        return {
            loss: noise_ceiling(numbers.astype(np.float64)) for loss, numbers in self.losses.items()
        }

    @property
    def generated(self) -> ImageSet:
        """The m generated images."""
        images = ImageSet.open(self.images)
        return images.select(np.arange(len(images)), ids=self.image_ids)

    def training_images(self, train: ImageSource) -> ImageSet:
        """The n training images among `train`, in the order of the truth, known by their pixels.

        Args:
            train: any source of `ImageSet`. It may hold more images.

        Raises:
            InputError: some are not there; the message says which.
        """
        train, n = ImageSet.open(train), len(self.train_keys)
        # the draw of `--n` is looked at first: the whole set may be large
        draw = [random_subset(train, n)] if len(train) > n else []
        for images in (*draw, train):
            rows = _matched(self.train_keys, images)
            missing = np.flatnonzero(rows < 0)
            if not len(missing):
                return images.select(rows)
        places = [
            f"number {row}" + (f" (where TRAIN has {train.ids[row]})" if len(train) == n else "")
            for row in missing[:5].tolist()
        ]
        source = self.record.get("train", {}).get("source") or "its source"
        raise InputError(
            f"{self.name or 'the truth'} is of {n} training images, {self.train_name} ({source}), "
            f"and {len(missing)} of them are not among the {len(train)} of TRAIN: "
            f"{', '.join(places)}{', …' if len(missing) > 5 else ''}; pass the set that the "
            "models were trained on"
        )

    def part(
        self, *, subsets: int | None = None, seeds: int | None = None, m: int | None = None
    ) -> TruthFile:
        """The first subsets, the first trainings of each, and the first images. Default: all.

        Raises:
            InputError: more than there are, or fewer than two subsets or trainings.
        """
        s, r, count = next(iter(self.losses.values())).shape
        least = {"subsets": 2, "seeds": 2, "m": 1}
        most = {"subsets": s, "seeds": r, "m": count}
        for what, number in (("subsets", subsets), ("seeds", seeds), ("m", m)):
            if number is not None and whole_number(what, number, least[what]) > most[what]:
                raise InputError(
                    f"{what}={number}, and {self.name or 'the truth'} has {most[what]}; pass "
                    f"{what} ≤ {most[what]}"
                )
        s, r, count = subsets or s, seeds or r, m or count
        return replace(
            self,
            subsets=self.subsets[:s],
            losses={loss: numbers[:s, :r, :count] for loss, numbers in self.losses.items()},
            images=self.images[:count],
            image_ids=self.image_ids[:count],
        )

    def score(self, scores: ArrayLike) -> dict[str, TruthScore]:
        """The LDS of scores by each loss, with what is attainable.

        Args:
            scores: (n, m) finite numbers: a row for each training image, in the order of
                `training_images`, and a column for each of `images`. Of a truth of groups, the
                scores of each group are summed.

        Raises:
            InputError: another shape, or a score that is no finite number.
        """
        numbers = np.asarray(scores, dtype=np.float64)
        wanted = (self.subsets.shape[1], len(self.images))
        if numbers.shape != wanted or not np.isfinite(numbers).all():
            raise InputError(
                f"scores of shape {numbers.shape}; pass finite numbers of shape {wanted}: training "
                "images, generated images"
            )
        numbers, subsets = by_unit(numbers, self.subsets, self.groups)
        made = {}
        for loss, losses in self.losses.items():
            means = losses.mean(axis=1, dtype=np.float64)
            by_image = linear_datamodeling_score(numbers, subsets, means)
            known, nan = by_image[~np.isnan(by_image)], math.nan
            made[loss] = TruthScore(
                by_image=by_image,
                lds=mean_interval(known) if len(known) else Interval(nan, nan, nan, 0),
                by_others=score_by_others(numbers, subsets, means),
                ceiling=self.ceilings[loss],
            )
        return made

    def _full_record(self) -> dict[str, Any]:
        """Everything but the arrays, with the sizes and ceilings for readers without gmvaluator."""
        s, r, m = next(iter(self.losses.values())).shape
        groups = self.groups
        return {
            "kind": KIND,
            "format": FORMAT,
            "model": self.model,
            "train_name": self.train_name,
            "sizes": {"n": self.subsets.shape[1], "subsets": s, "trainings": r, "m": m},
            "image_ids": list(self.image_ids),
            "groups": None if groups is None else {"by": groups.by, "names": list(groups.names)},
            "losses": {
                loss: {
                    "what": self.what[loss],
                    "agreement": None if math.isnan(mean := ceiling.agreement.mean) else mean,
                    "attainable": ceiling.attainable,
                }
                for loss, ceiling in self.ceilings.items()
            },
            **self.record,
        }

    @classmethod
    def _read(cls, file: Path) -> TruthFile:
        content = file.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            if sum(member.file_size for member in members.infolist()) > SIZE_LIMIT:
                raise InputError(f"its arrays have more than {SIZE_LIMIT} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = dict(archive)
        record = _record(arrays)
        losses = {
            name.removeprefix(_LOSS): a for name, a in arrays.items() if name.startswith(_LOSS)
        }
        ids, described = tuple(record["image_ids"]), record["losses"]
        groups = None
        if record["groups"] is not None:
            numbers = _array(arrays, "groups", np.int32).astype(np.int64)
            groups = Groups(record["groups"]["by"], tuple(record["groups"]["names"]), numbers)
        keys = _array(arrays, "train_keys", np.uint8)
        packed = _array(arrays, "subsets", np.uint8)
        n = len(keys)
        if packed.ndim != 2 or packed.shape[1] != -(-n // 8):
            raise InputError(f"subsets of shape {packed.shape} for {n} training images")
        strip = np.asarray(decode(_array(arrays, "images", np.uint8).tobytes(), SIZE_LIMIT // 3))
        if not ids or len(strip) % len(ids):
            raise InputError(f"a picture of {len(strip)} rows for {len(ids)} images")
        return cls(
            model=record["model"],
            train_name=record["train_name"],
            train_keys=keys,
            subsets=np.unpackbits(packed, axis=1, count=n).astype(bool),
            losses=losses,
            what={loss: entry["what"] for loss, entry in described.items()},
            images=strip.reshape(len(ids), -1, *strip.shape[1:]),
            image_ids=ids,
            groups=groups,
            record={key: value for key, value in record.items() if key not in _OWN},
            name=file.name,
            sha256=hashlib.sha256(content).hexdigest(),
        )


_OWN = (
    *("kind", "format", "model", "train_name", "sizes", "image_ids", "groups", "losses"),
)  # of the record, beside what `TruthFile.record` has


def key_array(images: ImageSet) -> NDArray[np.uint8]:
    """(n, 6) uint8, the first bytes of the pixel key of each image.

    Raises:
        InputError: an image cannot be read.
    """
    keys = list(images.pixel_keys(np.arange(len(images))))
    if unread := [name for name, key in zip(images.ids, keys, strict=True) if key is None]:
        raise InputError(
            f"{len(unread)} training images cannot be read, such as {unread[0]}; leave them out of "
            "the set"
        )
    text = "".join(key[: 2 * KEY_BYTES] for key in keys if key is not None)
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, KEY_BYTES)


def check_place_of_truth(path: str | Path) -> Path:
    """The path, if a truth file can be written there.

    Raises:
        InputError: the name does not end with .npz.
        RunError: a file is there that is no truth, or the folder cannot be written.
    """
    file = Path(path)
    if file.suffix != SUFFIX:
        raise InputError(f"{file} does not end with {SUFFIX}; name a truth file such as truth.npz")
    check_place(file.parent)
    if file.exists():
        try:
            TruthFile.load(file)
        except InputError:
            raise RunError(
                f"{file} is there and is no truth file; move it away, or choose another name"
            ) from None
    return file


def _matched(wanted: NDArray[np.uint8], images: ImageSet) -> NDArray[np.int64]:
    """(n,) rows of the images with these keys, each row once; −1 where there is none."""
    rows: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for row, key in enumerate(images.pixel_keys(np.arange(len(images)))):
        if key is not None:
            rows[bytes.fromhex(key)[:KEY_BYTES]].append(row)
    places = [rows[key.tobytes()] for key in wanted]
    return np.array([place.popleft() if place else -1 for place in places], dtype=np.int64)


def _record(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    record = json.loads(_array(arrays, "record", np.uint8).tobytes())
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise InputError(f"its record is not that of a {KIND}")
    if record.get("format") != FORMAT:
        raise InputError(
            f"its format number is {record.get('format')}, and this gmvaluator reads {FORMAT}"
        )
    if missing := [key for key in _OWN if key not in record]:
        raise InputError(f"its record has no {', '.join(missing)}")
    if not isinstance(record.get("train", {}), dict):
        raise InputError("its record says nothing of where the training images come from")
    return record


def _array(arrays: Mapping[str, NDArray[Any]], name: str, kind: type) -> NDArray[Any]:
    if name not in arrays or arrays[name].dtype != kind:
        raise InputError(f"it has no array {name} of {np.dtype(kind)}")
    return arrays[name]


def _shape(what: str, array: NDArray[Any], kind: str, *dimensions: int) -> tuple[int, ...]:
    """The shape of an array of this type and number of dimensions; InputError of another."""
    if array.dtype != kind or array.ndim not in dimensions or not array.size:
        wanted = " or ".join(map(str, dimensions))
        raise InputError(
            f"{what} of {array.dtype}, shape {array.shape}; wanted {kind} of {wanted} dimensions"
        )
    return array.shape
