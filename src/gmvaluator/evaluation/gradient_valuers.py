"""Valuers that look into the generator: VAE-TracIn, TRAK and D-TRAK, bound to its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmvaluator.errors import InputError
from gmvaluator.evaluation.valuers import TRACIN, NamedValuer, Valuer, check_settings
from gmvaluator.files.seals import hash_file
from gmvaluator.generators.files import list_snapshots, read_metadata

if TYPE_CHECKING:
    from gmvaluator.baselines.functionals import Functional

SNAPSHOTS = 5  # of a training, for VAE-TracIn
TRACIN_SETTINGS = ("draws", "antithetic", "loss", "beta", "memory")
TRAK_SETTINGS = ("draws", "projections", "damping", "models", "memory")
_VAES = ("gmvaluator/beta-vae", "gmvaluator/conv-beta-vae")
_WITH_LOSS = (*_VAES, "gmvaluator/ddpm")


def vae_tracin(name: str, settings: Mapping[str, Any]) -> NamedValuer:
    """VAE-TracIn with these arguments, as a study's valuer.

    They are `TRACIN_SETTINGS`. It values what a β-VAE draws whose training kept snapshots.

    Raises:
        InputError: an argument that it does not take here.
    """
    check_settings(name, settings, TRACIN_SETTINGS)
    told = {"valuer": TRACIN, **settings}

    def unbound(k: int, seed: int) -> Valuer:
        raise InputError(
            f"{name} looks into the generator: pass a β-VAE whose training kept snapshots "
            "(gmvaluator train-generator beta-vae … --keep 5)"
        )

    def bind(generator: Path) -> NamedValuer | None:
        if _format(generator) not in _VAES or not (kept := list_snapshots(generator)):
            return None

        def make(k: int, seed: int) -> Valuer:
            from gmvaluator.baselines.vae_tracin import VAETracIn

            return VAETracIn(generator, k=k, seed=seed, **settings)

        return NamedValuer(name, make, told | {"checkpoints": [each.step for each in kept]})

    return NamedValuer(name, unbound, told, bind)


def trak(name: str, settings: Mapping[str, Any], functional: Functional) -> NamedValuer:
    """TRAK (`loss`) or D-TRAK (`square`) with these arguments, as a study's valuer.

    They are `TRAK_SETTINGS`; `models` lists further generator files, trained as the generator is
    with other seeds, whose scores are averaged with its own. It values what a VAE or a ddpm draws.

    Raises:
        InputError: an argument that it does not take here, or `models` that are no files.
    """
    check_settings(name, settings, TRAK_SETTINGS)
    others = _files(name, settings.get("models", ()))
    own = {key: each for key, each in settings.items() if key != "models"}
    told: dict[str, Any] = {"valuer": "trak" if functional == "loss" else "d-trak", **own}
    if others:
        # paths say nothing of what is in the files
        told["models"] = [hash_file(file)[:16] for file in others]

    def unbound(k: int, seed: int) -> Valuer:
        raise InputError(f"{name} looks into the generator: pass a VAE or a ddpm (--generator)")

    def bind(generator: Path) -> NamedValuer | None:
        if _format(generator) not in _WITH_LOSS:
            return None
        if any(_made_as(file) != _made_as(generator) for file in others):
            return None

        def make(k: int, seed: int) -> Valuer:
            from gmvaluator.baselines.trak import TRAK

            models = [generator, *others]
            return TRAK(models, functional=functional, k=k, seed=seed, **own)

        return NamedValuer(name, make, told)

    return NamedValuer(name, unbound, told, bind)


def snapshots_wanted(valuers: Sequence[NamedValuer], family: str) -> int:
    """How many snapshots of a family's training some of the valuers look at."""
    used = any(each.settings.get("valuer") == TRACIN for each in valuers)
    return SNAPSHOTS if used and f"gmvaluator/{family}" in _VAES else 0


def _files(name: str, models: object) -> list[Path]:
    if not isinstance(models, list | tuple) or not all(isinstance(each, str) for each in models):
        raise InputError(f"valuer {name} has models = {models!r}; list generator files")
    files = [Path(each) for each in models]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"valuer {name}: {missing[0]} is no file; list trained generator files")
    return files


def _format(generator: Path) -> str:
    return read_metadata(generator).get("format", "")


def _made_as(generator: Path) -> tuple[str, str]:
    """Family and config, as the file tells them."""
    metadata = read_metadata(generator)
    return metadata.get("format", ""), metadata.get("config", "")
