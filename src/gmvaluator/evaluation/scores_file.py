"""A file of scores as a study's valuer: `--valuer scores.npy`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gmvaluator.baselines.assembling import assemble
from gmvaluator.baselines.checks import fitted
from gmvaluator.errors import InputError
from gmvaluator.evaluation.named import SCORES, NamedValuer, check_settings
from gmvaluator.files.seals import hash_file
from gmvaluator.images import ImageSet, ImageSource
from gmvaluator.runs.own_scores import contributions_of
from gmvaluator.runs.valuation import Valuation

SUFFIXES = (".npy", ".npz")


@dataclass
class ScoresValuer:
    """Gives the scores of a file for the images that it was made for.

    Attributes:
        file: of the scores.
        scores: (n, m) finite numbers; a row is a training image.
        train_ids, generated_ids: n and m ids that the file lists; None: it lists none.
        k: least number of contributors to list for a generated image.
    """

    file: Path
    scores: NDArray[np.float64]
    train_ids: tuple[str, ...] | None
    generated_ids: tuple[str, ...] | None
    k: int
    train: ImageSet | None = None

    def check(self, train: ImageSet, m: int, generated_ids: Sequence[str] | None = None) -> None:
        """Raise InputError unless the scores are of these images, in their order.

        Args:
            train: the n training images.
            m: number of generated images.
            generated_ids: their ids; None: not known yet.
        """
        wanted = (len(train), m)
        if self.scores.shape != wanted:
            raise InputError(
                f"{self.file} has scores of shape {self.scores.shape}, and the study has "
                f"{wanted[0]} training and {wanted[1]} generated images; pass an array of {wanted}"
            )
        for kind, listed, ids in (
            ("training", self.train_ids, train.ids),
            ("generated", self.generated_ids, generated_ids),
        ):
            if listed is None or ids is None or tuple(listed) == tuple(ids):
                continue
            pairs = enumerate(zip(listed, ids, strict=True))
            at = next(row for row, (mine, theirs) in pairs if mine != theirs)
            raise InputError(
                f"{self.file} has {kind} image {listed[at]!r} at place {at}, where the study has "
                f"{ids[at]!r}; put its rows and columns in the study's order"
            )

    def fit(self, train: ImageSource) -> Self:
        self.train = ImageSet.open(train)
        return self

    def value(self, generated: ImageSource) -> Valuation:
        """The scores of these generated images. Raises InputError as `check` does."""
        train, images = fitted(self.train), ImageSet.open(generated)
        start = time.perf_counter()
        self.check(train, len(images), images.ids)
        contributions = contributions_of(self.scores, len(train), len(images), least=self.k)
        return assemble(
            train,
            images,
            contributions,
            settings={"valuer": SCORES, "signed": True, "k": contributions.rows.shape[1]},
            seed=0,
            seconds={"values": time.perf_counter() - start},
        )


def scores_valuer(name: str, settings: Mapping[str, Any]) -> NamedValuer:
    """A file of scores as a study's valuer. All its scores count, whatever the study's k is.

    Args:
        name: name of the valuer.
        settings: `file`, an .npy file of an (n, m) array, or an .npz file with the array `scores`
            and, where their order is to be checked, `train_ids` and `generated_ids`.

    Raises:
        InputError: another setting, or a file that holds no such scores.
    """
    check_settings(name, settings, ("file",))
    if "file" not in settings:
        raise InputError(f'valuer {name} names no file; write file = "scores.npy"')
    file = Path(settings["file"])
    scores, train_ids, generated_ids = _read(file)

    def make(k: int, seed: int) -> ScoresValuer:
        del seed
        return ScoresValuer(file, scores, train_ids, generated_ids, k)

    # a hash identifies the scores, a path does not
    return NamedValuer(name, make, {"valuer": SCORES, "sha256": hash_file(file)[:16]})


def _read(
    file: Path,
) -> tuple[NDArray[np.float64], tuple[str, ...] | None, tuple[str, ...] | None]:
    """The scores and the ids of a file."""
    wanted = (
        "pass an .npy file of an array (training images, generated images), or an .npz file with "
        "the array scores, and train_ids and generated_ids where the order is to be checked"
    )
    if file.suffix not in SUFFIXES:
        raise InputError(f"{file} is no file of scores; {wanted}")
    try:
        content = np.load(file, allow_pickle=False)
        arrays = {"scores": content} if file.suffix == ".npy" else dict(content)
        scores = np.asarray(arrays["scores"], dtype=np.float64)
    except KeyError:
        raise InputError(f"{file} has no array scores; {wanted}") from None
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InputError(f"{file} cannot be read as scores ({error}); {wanted}") from None
    if scores.ndim != 2:
        raise InputError(f"{file} has an array of shape {scores.shape}; {wanted}")
    if bad := int((~np.isfinite(scores)).sum()):
        raise InputError(f"{file} has {bad} scores that are NaN or infinite; pass finite scores")
    ids = []
    for key, count in zip(("train_ids", "generated_ids"), scores.shape, strict=True):
        listed = tuple(map(str, arrays[key])) if key in arrays else None
        if listed is not None and len(listed) != count:
            raise InputError(f"{file} has {len(listed)} {key} for scores of {scores.shape}")
        ids.append(listed)
    return scores, ids[0], ids[1]
