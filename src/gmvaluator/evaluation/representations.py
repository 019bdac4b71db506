"""Spaces of the study `spaces`, written as text, and the valuers that compare images in them.

A space is one of:
- the name of an encoder;
- principal components of the training images: `pca:64@28` or `pca:64:whitened@28`;
- a layer of the generator: `generator#LAYER` (see `GeneratorEncoder`);
- a mixture of spaces: `pixels@28 + 0.5 * generator#code`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gmvaluator.encoders import parse_name
from gmvaluator.errors import InputError
from gmvaluator.evaluation.named import NamedValuer, Valuer
from gmvaluator.evaluation.valuers import EACH_BY_ITSELF, usable, variant
from gmvaluator.images import ImageSet

if TYPE_CHECKING:
    from gmvaluator.encoders.base import Encoder
    from gmvaluator.files.store import Store

WEIGHTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Eq. 6": {"weighting": "softmax", "temperature": 1.0},
        "Eq. 6, τ auto": {"weighting": "softmax", "temperature": "auto"},
        "global-ridge": {"weighting": "global-ridge"},
    }
)
COMPONENTS = (16, 64, 256)
OWN = "generator#"

_PART = re.compile(r"(?:(?P<weight>\d+(\.\d+)?)\s*\*\s*)?(?P<text>\S+)")
_PCA = re.compile(r"pca:(?P<components>\d+)(?P<whitened>:whitened)?@(?P<size>\d+)")


@dataclass(frozen=True)
class Space:
    """A space.

    Attributes:
        name: the text of the space.
        parts: (text, weight) of each part. Only a mixture has more than one.
    """

    name: str
    parts: tuple[tuple[str, float], ...]

    @staticmethod
    def parse(text: str) -> Space:
        """The space that the text describes.

        Raises:
            InputError: a part is no space.
        """
        parts = []
        for part in text.split("+"):
            match = _PART.fullmatch(part.strip())
            if match is None:
                raise InputError(
                    f"space {text!r} cannot be read; write an encoder's name, pca:64@28, "
                    f"{OWN}code, or a mixture such as pixels@28 + 0.5 * pca:64@28"
                )
            _check(match["text"])
            parts.append((match["text"], float(match["weight"] or 1)))
        if len({part for part, _ in parts}) < len(parts):
            raise InputError(f"space {text!r} names a part twice; give it a weight")
        return Space(text, tuple(parts))

    def suits(self, family: str) -> bool:
        """Whether generators of the family have the layers of the space."""
        from gmvaluator.encoders.generator import LAYERS

        return set(self.layers) <= set(LAYERS.get(family, ()))

    @property
    def layers(self) -> tuple[str, ...]:
        """The generator layers of this space, without their times."""
        owned = [part.removeprefix(OWN) for part, _ in self.parts if part.startswith(OWN)]
        return tuple(layer.partition(":")[0] for layer in owned)

    @property
    def encoders(self) -> tuple[str, ...]:
        """The named encoders of this space."""
        return tuple(
            part for part, _ in self.parts if not part.startswith(OWN) and not _PCA.fullmatch(part)
        )

    def build(self, train: ImageSet, generator: Path | None, store: Store | None) -> Encoder:
        """The encoder of this space. Principal components and mixtures are fitted on `train`.

        Raises:
            InputError: there are more components than images, or the generator lacks a layer.
            MissingPackageError, MissingWeightsError: a package or weights are missing.
        """
        from gmvaluator.encoders.mixture import Mixture

        built = {_build(part, train, generator, store): weight for part, weight in self.parts}
        return Mixture.fit(train, built) if len(built) > 1 else next(iter(built))


def default_spaces(side: int, n: int) -> tuple[str, ...]:
    """The default spaces for n training images of `side` pixels."""
    components = [count for count in COMPONENTS if count < n]
    full = f"pixels@{side}"
    return (
        full,
        f"pixels@{side // 2}",
        f"pixels@{side // 4}",
        *(f"pca:{count}@{side}" for count in components),
        *(f"pca:{count}:whitened@{side}" for count in components),
        f"random-conv:1@{side}",
        f"random-conv:2@{side}",
        *(f"efficientnet-lite0:stage{stage}@96" for stage in (1, 3, 5)),
        "efficientnet-lite0:plain@96",
        "st-lpips:alex@32",
        f"{full} + pixels@{side // 4}",
        f"{full} + random-conv:2@{side}",
        f"{full} + efficientnet-lite0:stage1@96",
        f"{OWN}code",
        f"{OWN}first",
        f"{full} + {OWN}code",
        *(f"{OWN}middle:{time}" for time in (100, 300, 600)),
        f"{full} + {OWN}middle:300",
    )


def at_hand(spaces: Sequence[Space]) -> tuple[list[Space], list[str]]:
    """The spaces whose packages and weights are installed, and a note on each other space."""
    able, notes = [], []
    for space in spaces:
        _, missing = usable(
            [variant(encoder, {"encoder": encoder, "rerank": "none"}) for encoder in space.encoders]
        )
        if missing:
            alone = space.encoders == (space.name,)
            notes += missing if alone else [f"{space.name} is left out. {' '.join(missing)}"]
        else:
            able.append(space)
    return able, notes


def space_valuers(space: Space, train: ImageSet, store: Store | None) -> dict[str, NamedValuer]:
    """One valuer per entry of `WEIGHTINGS`. All of them share one encoder.

    A space with generator layers gives valuers that must be bound to a generator.

    Args:
        space: the space.
        train: the training images on which the valuers will be fitted.
        store: cache of the vectors of named encoders.
    """
    build = cache(lambda generator: space.build(train, generator, store))
    return {
        label: _valuer(space, label, weighting, build) for label, weighting in WEIGHTINGS.items()
    }


def _valuer(
    space: Space,
    label: str,
    weighting: Mapping[str, Any],
    build: Callable[[Path | None], Encoder],
) -> NamedValuer:
    name = f"{space.name}, {label}"
    settings = {"space": space.name, **weighting, **_files_of(space)}

    def make(k: int, seed: int, generator: Path | None = None) -> Valuer:
        from gmvaluator.valuator import GMValuator

        if space.layers and generator is None:
            raise InputError(f"{space.name} looks into the generator; pass one of its file")
        return GMValuator(
            encoder=build(generator),
            rerank="none",
            quality="none",
            k=k,
            seed=seed,
            cache=False,
            null="off",
            **EACH_BY_ITSELF,
            **weighting,
        )

    def bind(generator: Path) -> NamedValuer | None:
        from gmvaluator.encoders.generator import layers_of
        from gmvaluator.files.seals import hash_file

        if not set(space.layers) <= set(layers_of(generator)):
            return None
        bound_settings = {**settings, "generator": hash_file(generator)}
        return NamedValuer(name, lambda k, seed: make(k, seed, generator), bound_settings)

    return NamedValuer(name, make, settings, bind if space.layers else None)


def _files_of(space: Space) -> dict[str, Any]:
    """Hashes of the generator files that a space names. A path does not identify a file."""
    from gmvaluator.files.seals import hash_file

    named = [parse_name(part) for part in space.encoders]
    variants = [encoder.variant or "" for encoder in named if encoder.family == "generator"]
    files = [Path(variant.partition("#")[0]) for variant in variants]
    return {"files": [hash_file(file) for file in files if file.is_file()]} if files else {}


def _check(part: str) -> None:
    from gmvaluator.encoders.generator import LAYERS

    if part.startswith(OWN):
        layers = sorted(
            {layer for layers_of_family in LAYERS.values() for layer in layers_of_family}
        )
        if part.removeprefix(OWN).partition(":")[0] not in layers:
            raise InputError(f"{part} names no layer of a generator; pass {', '.join(layers)}")
    elif part.startswith("pca:"):
        if not _PCA.fullmatch(part):
            raise InputError(f"space {part!r} cannot be read; write pca:64@28, pca:64:whitened@28")
    else:
        parse_name(part)


def _build(part: str, train: ImageSet, generator: Path | None, store: Store | None) -> Encoder:
    from gmvaluator.encoders import load_encoder
    from gmvaluator.encoders.backends import Runtime
    from gmvaluator.encoders.generator import GeneratorEncoder
    from gmvaluator.encoders.principal import PrincipalComponents
    from gmvaluator.weights import Weights

    if part.startswith(OWN):
        if generator is None:
            raise InputError(f"{part} looks into the generator, and there is none")
        return GeneratorEncoder(generator, part.removeprefix(OWN), store=store)
    if match := _PCA.fullmatch(part):
        return PrincipalComponents.fit(
            train,
            int(match["components"]),
            size=int(match["size"]),
            whiten=match["whitened"] is not None,
        )
    return load_encoder(part, Weights(), Runtime(), store)
