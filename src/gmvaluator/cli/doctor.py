"""What this machine has: packages, devices, weights, and which presets can run."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gmvaluator import versions
from gmvaluator.encoders import FAMILIES
from gmvaluator.errors import GMValuatorError, MissingPackageError
from gmvaluator.images.batching import processors
from gmvaluator.settings import PRESETS
from gmvaluator.weights import Weights
from gmvaluator.weights.registry import REGISTRY

OPTIONAL = {
    "torch": "other encoders, CUDA, generators, research",
    "timm": "encoder timm, and efficientnet-lite0 on CUDA",
    "torchvision": "alexnet, densenet121",
    "matplotlib": "plots",
    **{family.optional: name for name, family in FAMILIES.items() if family.optional},
    "pyiqa": "maniqa (licensed for non-commercial use)",
    "diffusers": "sample from diffusers pipelines",
    "mlxtend": "demo",
}


@dataclass(frozen=True)
class WeightStatus:
    """A registered weight: where it is on this machine (None: not here) and its licence."""

    path: str | None
    licence: str


@dataclass(frozen=True)
class Diagnosis:
    """The packages, devices, weights and presets of this machine.

    Attributes:
        versions: installed packages.
        missing: optional packages that are not installed, and what they are for.
        devices: where networks can run, with what.
        cores: processors this process may use.
        cache: folder of downloaded weights.
        weights: by registered name.
        presets: None where a preset can run here, else what it lacks.
    """

    versions: dict[str, str]
    missing: dict[str, str]
    devices: dict[str, str]
    cores: int
    cache: str
    weights: dict[str, WeightStatus]
    presets: dict[str, str | None]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """For a terminal: packages, devices, weights and presets, with what is missing."""
        lines = ["packages"]
        lines += [f"  {name:<18} {version}" for name, version in self.versions.items()]
        lines += [f"  {name:<18} missing: {use}" for name, use in self.missing.items()]
        lines.append(f"devices ({self.cores} cores)")
        lines += [f"  {name:<18} {backend}" for name, backend in self.devices.items()]
        lines.append(f"weights (downloads go to {self.cache})")
        for name, status in self.weights.items():
            where = "here" if status.path else "not here"
            lines.append(f"  {name:<26} {where:<9} {status.licence}")
        lines.append("presets")
        for name, lack in self.presets.items():
            lines.append(f"  {name:<18} {'can run' if lack is None else f'cannot run: {lack}'}")
        return "\n".join(lines)


def diagnose(cache: Path | None = None) -> Diagnosis:
    """Look at this machine; nothing is downloaded and no network is opened."""
    weights = Weights(cache_dir=cache / "weights" if cache else None, offline=True)
    paths = {name: weights.locate(name) for name in REGISTRY}
    return Diagnosis(
        versions=versions.installed(),
        missing={
            name: use for name, use in OPTIONAL.items() if importlib.util.find_spec(name) is None
        },
        devices=_devices(),
        cores=processors(),
        cache=str(weights.cache_dir),
        weights={
            name: WeightStatus(str(path) if path else None, REGISTRY[name].licence)
            for name, path in paths.items()
        },
        presets={name: _lack(name, weights) for name in PRESETS},
    )


def _devices() -> dict[str, str]:
    """What runs networks on each device of this machine."""
    from gmvaluator.encoders.backends import Runtime

    try:
        devices = {"cpu": Runtime("cpu").resolved()[1]}
        if Runtime().resolved()[0] == "cuda":
            import torch

            devices["cuda"] = f"torch on {torch.cuda.get_device_name()}"
    except MissingPackageError as error:
        return {"cpu": f"nothing: {error}"}
    return devices


def _lack(preset: str, weights: Weights) -> str | None:
    """Why a preset cannot run here; None where it can. The preset is built as for a run."""
    from gmvaluator.valuator import GMValuator

    try:
        GMValuator.preset(preset, weights=weights).require()
    except GMValuatorError as error:
        return str(error)
    return None
