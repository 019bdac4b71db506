"""Valuers that read the generator's weights: VAE-TracIn, TRAK and D-TRAK, bound to its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmvaluator.errors import InputError
from gmvaluator.evaluation.named import TRACIN, NamedValuer, Valuer, check_settings
from gmvaluator.files.seals import hash_file
from gmvaluator.generators.files import list_snapshots, read_metadata

if TYPE_CHECKING:
    from gmvaluator.baselines.functionals import Functional

SNAPSHOTS = 5  # per training, for VAE-TracIn
TRACIN_SETTINGS = ("draws", "antithetic", "loss", "beta", "memory")
TRAK_SETTINGS = ("draws", "projections", "damping", "models", "memory")
_VAES = ("beta-vae", "conv-beta-vae")
_WITH_LOSS = (*_VAES, "ddpm")


def vae_tracin(name: str, settings: Mapping[str, Any]) -> NamedValuer:
    """VAE-TracIn as a study's valuer. It values images of a β-VAE whose training kept snapshots.

    Args:
        name: name of the valuer.
        settings: arguments of `VAETracIn`, from `TRACIN_SETTINGS`.

    Raises:
        InputError: a setting outside `TRACIN_SETTINGS`.
    """
    check_settings(name, settings, TRACIN_SETTINGS)
    record = {"valuer": TRACIN, **settings}

    def unbound(k: int, seed: int) -> Valuer:
        raise InputError(
            f"{name} looks into the generator: pass a β-VAE whose training kept snapshots "
            "(gmvaluator train-generator beta-vae … --keep 5)"
        )

    def bind(generator: Path) -> NamedValuer | None:
        if _family(generator) not in _VAES or not (snapshots := list_snapshots(generator)):
            return None

        def make(k: int, seed: int) -> Valuer:
            from gmvaluator.baselines.vae_tracin import VAETracIn

            return VAETracIn(generator, k=k, seed=seed, **settings)

        return NamedValuer(
            name, make, record | {"checkpoints": [snapshot.step for snapshot in snapshots]}
        )

    return NamedValuer(name, unbound, record, bind, _VAES, by_snapshots=True)


def trak(name: str, settings: Mapping[str, Any], functional: Functional) -> NamedValuer:
    """TRAK or D-TRAK as a study's valuer. It values images of a VAE or a ddpm.

    Args:
        name: name of the valuer.
        settings: arguments of `TRAK`, from `TRAK_SETTINGS`. `models` lists further generator
            files, trained like the generator with other seeds. The scores of all of them are
            averaged.
        functional: `loss` for TRAK, `square` for D-TRAK.

    Raises:
        InputError: a setting outside `TRAK_SETTINGS`, or a model that is no file.
    """
    check_settings(name, settings, TRAK_SETTINGS)
    others = _files(name, settings.get("models", ()))
    arguments = {key: value for key, value in settings.items() if key != "models"}
    record: dict[str, Any] = {"valuer": "trak" if functional == "loss" else "d-trak", **arguments}
    if others:
        # a hash identifies the weights, a path does not
        record["models"] = [hash_file(file)[:16] for file in others]

    def unbound(k: int, seed: int) -> Valuer:
        raise InputError(f"{name} looks into the generator: pass a VAE or a ddpm (--generator)")

    def bind(generator: Path) -> NamedValuer | None:
        if _family(generator) not in _WITH_LOSS:
            return None
        if any(_made_as(file) != _made_as(generator) for file in others):
            return None

        def make(k: int, seed: int) -> Valuer:
            from gmvaluator.baselines.trak import TRAK

            models = [generator, *others]
            return TRAK(models, functional=functional, k=k, seed=seed, **arguments)

        return NamedValuer(name, make, record)

    return NamedValuer(name, unbound, record, bind, _WITH_LOSS)


def snapshots_wanted(valuers: Sequence[NamedValuer], family: str) -> int:
    """Number of snapshots of a family's training that the valuers need."""
    used = any(valuer.settings.get("valuer") == TRACIN for valuer in valuers)
    return SNAPSHOTS if used and family in _VAES else 0


def _files(name: str, models: object) -> list[Path]:
    if not isinstance(models, list | tuple) or not all(isinstance(model, str) for model in models):
        raise InputError(f"valuer {name} has models = {models!r}; list generator files")
    files = [Path(model) for model in models]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"valuer {name}: {missing[0]} is no file; list trained generator files")
    return files


def _family(generator: Path) -> str:
    """The family of a file of this package, else another text."""
    return read_metadata(generator).get("format", "").removeprefix("gmvaluator/")


def _made_as(generator: Path) -> tuple[str, str]:
    """(family, config) in the file's metadata."""
    metadata = read_metadata(generator)
    return metadata.get("format", ""), metadata.get("config", "")
