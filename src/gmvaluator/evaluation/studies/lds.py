"""Counterfactual truth: do summed scores foretell the losses of retrained models (LDS)?

Ilyas et al. 2022 (arXiv 2202.00622), Park et al. 2023 (arXiv 2303.14186). The tables show the noise
ceiling beside every LDS: two models of the same subset differ by their random start and order, and
no score can foretell this difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gmvaluator.certainty.tables import StudyResult
from gmvaluator.errors import InputError
from gmvaluator.evaluation.named import NamedValuer
from gmvaluator.evaluation.study import Context
from gmvaluator.evaluation.subjects.recipes import Recipe
from gmvaluator.evaluation.truth.datamodeling import (
    ATTAINABLE_NOTE,
    AXES_NOTE,
    OTHERS_NOTE,
    SUBSETS,
    K,
    measured,
    parameters,
    truths_of,
)
from gmvaluator.evaluation.truth.ground_truth import GroundTruth, as_data, loaded
from gmvaluator.evaluation.truth.groups import Groups, groups_of
from gmvaluator.evaluation.truth.truth_file import TruthFile, check_place_of_truth
from gmvaluator.evaluation.valuers import IF4GAN
from gmvaluator.files.seals import hash_file
from gmvaluator.images import ImageSet

_NO_IF4GAN = (
    "if4gan is left out: it scores a training image for all that is drawn together, by FID, not "
    "for single images, and it can trace plain gradient descent only. The GAN of this study is "
    "trained by Adam, with batch normalisation and averaged weights; one that IF4GAN can trace "
    "would be another model than those retrained here."
)


def lds(
    context: Context,
    recipes: Mapping[str, Recipe],
    subsets: int = SUBSETS,
    k: int = K,
    *,
    by: str | None = None,
    save_truth: str | Path | None = None,
    name: str = "lds",
) -> StudyResult:
    """LDS of every valuer for every generator, with the noise ceiling.

    Args:
        context: `seeds` is the number of trainings per subset, `m` the number of generated images.
            Its subjects are not used.
        recipes: recipes of unconditional generators by name.
        subsets: number of random halves of the training images.
        k: number of contributors per generated image.
        by: column of the training images' metadata. Its groups of images stay in a training or
            leave together, and halves are of the groups. Default: each image by itself.
        save_truth: file to write the truth of the only generator to; see `TruthFile`.
        name: name of the result.

    Raises:
        InputError: a recipe is conditional, there are fewer than two subsets or seeds, the column
            groups the images badly, or a truth of several generators is to be saved.
        RunError: the truth cannot be written.
    """
    groups = None if by is None else groups_of(context.train, by)
    if save_truth is not None:
        check_saving(save_truth, recipes)
    truths = truths_of(context, recipes, subsets, groups)
    settings, notes = parameters(context, recipes, subsets, k), []
    if groups is not None:
        settings |= {"by": by, "groups": len(groups.names)}
    if save_truth is not None:
        ((generator, truth),) = truths.items()
        data = as_data(truth, recipes[generator], context.train, context.train_name)
        file = data.save(save_truth)
        settings["saved_truth"] = {"file": file.name, "sha256": hash_file(file)}
        notes = [f"The truth is saved in {file.name}, {file.stat().st_size:,} bytes."]
    return _judged(context, truths, k, settings, notes, name)


def lds_of_truths(
    context: Context,
    files: Sequence[TruthFile],
    k: int = K,
    *,
    models: Sequence[Path] = (),
    name: str = "lds",
) -> StudyResult:
    """LDS of every valuer for truths of files. Nothing is trained.

    Args:
        context: its training images hold those of the truths. Its seeds, m and subjects are not
            used.
        files: loaded truths, all of the same training images.
        k: number of contributors per generated image.
        models: files of the truths' models, for valuers that read the generator.
        name: name of the result.

    Raises:
        InputError: a training image of a truth is missing, truths are of different training images,
            one is given twice, a model is of no truth, or a valuer reads the generator and can read
            no model.
    """
    train = training_images_of(files, context.train)
    check_readers(context.valuers, models)
    labels, model_of = labels_of(files), models_of(files, models)
    truths = {
        label: loaded(file, model_of.get(label)) for label, file in zip(labels, files, strict=True)
    }
    sizes = [next(iter(file.losses.values())).shape for file in files]
    context = replace(context, train=train)
    settings = context.parameters() | {
        "m": _common([m for _, _, m in sizes]),
        "seeds": _common([list(range(trainings)) for _, trainings, _ in sizes]),
        "subsets": _common([s for s, _, _ in sizes]),
        "trainings_of_each": _common([trainings for _, trainings, _ in sizes]),
        "k": k,
        "recipes": {
            label: file.record.get("recipe") for label, file in zip(labels, files, strict=True)
        },
        "truths": {
            label: {"file": file.name, "sha256": file.sha256, "train": file.train_name}
            for label, file in zip(labels, files, strict=True)
        },
    }
    notes = [
        f"The truth of {label} is that of {file.name}; nothing was trained."
        for label, file in zip(labels, files, strict=True)
    ]
    return _judged(context, truths, k, settings, notes, name)


def check_saving(path: str | Path, recipes: Mapping[str, Recipe]) -> None:
    """Raise an error unless the truth of the only generator can be written to the path."""
    if len(recipes) != 1:
        raise InputError(
            f"{path} is to hold one truth, and there are {len(recipes)} generators; pass one "
            "--generator"
        )
    check_place_of_truth(path)


def check_readers(valuers: Sequence[NamedValuer], models: Sequence[Path]) -> None:
    """Raise InputError where a valuer reads the generator, and none that it can read is at hand."""
    for valuer in valuers:
        if valuer.bind is None:
            continue
        if not models:
            raise InputError(
                f"{valuer.name} looks into the generator, and a truth file has its images alone; "
                "leave it out, or pass the file of the truth's model (--generator FILE)"
            )
        if not any(valuer.suited(model) for model in models):
            valuer.make(1, 0)  # raises an error that names the right generators


def models_of(files: Sequence[TruthFile], models: Sequence[Path]) -> dict[str, Path]:
    """The file of the model of each truth that has one among `models`, by the truth's label.

    Raises:
        InputError: a file is missing, or is the model of no truth.
    """
    by_hash: dict[object, Path] = {}
    known = {file.record.get("generator") for file in files}
    for model in models:
        if not model.is_file():
            raise InputError(
                f"{model} is no file; beside --truth, --generator takes the file of the truth's "
                "model, and no family"
            )
        if (digest := hash_file(model)) not in known:
            raise InputError(
                f"{model} drew the images of no truth given (its SHA-256 is {digest[:12]}…, and "
                f"theirs {', '.join(f'{text:.12}…' for text in map(str, known))}); pass the file "
                "of the model that was trained on all training images"
            )
        by_hash[digest] = model
    return {
        label: by_hash[wanted]
        for label, file in zip(labels_of(files), files, strict=True)
        if (wanted := file.record.get("generator")) in by_hash
    }


def training_images_of(files: Sequence[TruthFile], train: ImageSet) -> ImageSet:
    """The training images of truths, in their order.

    Raises:
        InputError: one is missing, or truths are of different training images.
    """
    if not files:
        raise InputError("no truth was given; pass one (--truth FILE)")
    first, *others = files
    for file in others:
        if not np.array_equal(file.train_keys, first.train_keys):
            raise InputError(
                f"{first.name} and {file.name} are of different training images "
                f"({len(first.train_keys)} of {first.train_name}, {len(file.train_keys)} of "
                f"{file.train_name}); evaluate one after the other"
            )
    return first.training_images(train)


def labels_of(files: Sequence[TruthFile]) -> list[str]:
    """A name for each truth: of its model, and of its file where two models have one name.

    Raises:
        InputError: two truths have one name even so.
    """
    count = Counter(file.model for file in files)
    labels = [
        file.model if count[file.model] == 1 else f"{file.model} ({file.name})" for file in files
    ]
    if len(set(labels)) < len(labels):
        raise InputError(f"{Counter(labels).most_common(1)[0][0]} is given twice; drop one")
    return labels


def _judged(
    context: Context,
    truths: Mapping[str, GroundTruth],
    k: int,
    settings: dict[str, Any],
    notes: Sequence[str],
    name: str,
) -> StudyResult:
    valuers = [valuer for valuer in context.valuers if valuer.settings.get("valuer") != IF4GAN]
    lds_of = measured(context, truths, valuers, k, kind="lds", fresh=True)
    titles = {valuer.name: {"valuer": valuer.name} for valuer in valuers}
    return StudyResult(
        name=name,
        title="Counterfactual truth: linear datamodeling score (LDS)",
        tables=lds_of.tables(context.train_name, titles, seconds=True),
        parameters=settings,
        notes=(
            *lds_of.notes(),
            *(
                _groups_note(generator, truth.groups)
                for generator, truth in truths.items()
                if truth.groups is not None
            ),
            AXES_NOTE,
            OTHERS_NOTE,
            f"{ATTAINABLE_NOTE} Seconds: fitting and valuing, everything computed anew.",
            *(
                f"{valuer} cannot look into {generator}: left out there."
                for valuer, generator in lds_of.unsuited
            ),
            *([] if valuers == list(context.valuers) else [_NO_IF4GAN]),
            *notes,
        ),
        details=lds_of.details(titles, seconds=True),
        plots={"bars": lambda fig: lds_of.draw_bars(fig, {name: {"LDS": name} for name in titles})},
    )


def _groups_note(generator: str, groups: Groups) -> str:
    sizes = np.bincount(groups.numbers)
    note = (
        f"Halves of {generator} are {groups.half} of {len(groups.names)} groups of training images "
        f"by {groups.by}, and the scores of a group are summed."
    )
    if sizes.min() == sizes.max():
        return note
    return (
        f"{note} A group has {sizes.min()} to {sizes.max()} images, so that halves differ in size: "
        "scores without any knowledge, such as those of random, then foretell a part of the losses."
    )


def _common(entries: Sequence[Any]) -> Any:
    """The entry that all truths share, or a list of one for each truth."""
    return entries[0] if all(entry == entries[0] for entry in entries) else list(entries)
