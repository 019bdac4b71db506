"""How a network runs: OpenVINO on the CPU where installed, torch otherwise and on CUDA.

torch is imported for networks that are torch modules, and where a GPU may be.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from gmvaluator.encoders.base import Described, Network, NetworkOfFile
from gmvaluator.encoders.compiled import Compiled, Infer, compile_once
from gmvaluator.errors import InputError, MissingPackageError, either
from gmvaluator.files.store import Store, Table
from gmvaluator.geometry import Metric
from gmvaluator.images import READING_RULES, Preprocessing
from gmvaluator.threads import BUILDING, Lock, ignored
from gmvaluator.versions import needs_torch
from gmvaluator.weights import WeightFile

if TYPE_CHECKING:
    import torch

BACKENDS = ("auto", "torch", "torch-compile", "openvino")
Backend = Literal["auto", "torch", "torch-compile", "openvino"]
TELEMETRY = "openvino_telemetry"
DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
"""Library of the driver that CUDA needs, by system."""
AMD_DRIVER = Path("/dev/kfd")
_importing = Lock()


@dataclass(frozen=True)
class Runtime:
    """The device and the library that run networks.

    Attributes:
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        backend: `auto` (OpenVINO on the CPU where installed, torch otherwise), or one by name;
            `torch-compile` spends a minute on compiling and pays on long CUDA runs.
    """

    device: str = "auto"
    backend: Backend = "auto"

    def resolved(self) -> tuple[str, str]:
        """(device, backend) that will be used.

        Raises:
            InputError: unknown device or backend, or one this machine lacks.
        """
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"unknown device {self.device!r}; choose auto, cpu or cuda")
        if self.backend not in BACKENDS:
            raise InputError(
                f"unknown backend {self.backend!r}; choose one of {', '.join(BACKENDS)}"
            )
        has_openvino, has_torch = _is_installed("openvino"), _is_installed("torch")
        if self.device == "cuda" and not has_torch:
            raise MissingPackageError(needs_torch("device 'cuda'"))
        if self.device == "cuda" and not _sees_gpu():
            raise InputError("device is 'cuda' but torch sees no GPU; pass cpu or auto")
        gpu = self.device == "cuda" or (self.device == "auto" and has_torch and _sees_gpu())
        device = "cuda" if gpu else "cpu"
        if self.backend == "openvino" and not has_openvino:
            raise MissingPackageError("backend 'openvino' is not installed: pip install openvino")
        if self.backend == "openvino" and device == "cuda":
            raise InputError(
                "backend 'openvino' runs on the cpu here; pass "
                + either("device='cpu'", "--device cpu")
            )
        backend = self.backend
        if backend == "auto":
            backend = "openvino" if device == "cpu" and has_openvino else "torch"
        if backend != "openvino" and not has_torch:
            raise MissingPackageError(needs_torch(f"backend {backend!r}"))
        return device, backend

    def of_network(self, network: Network) -> tuple[str, str]:
        """(device, backend) that will run a network.

        A function of arrays runs by itself, a network of a file in OpenVINO. A module without
        parameters has nothing to compile for OpenVINO.
        """
        if isinstance(network.module, FunctionType):
            return "cpu", "numpy"
        if isinstance(network.module, NetworkOfFile):
            return "cpu", "openvino"
        device, backend = self.resolved()
        if backend == "openvino" and not isinstance(network.module, Described):
            if not _is_installed("torch"):
                raise MissingPackageError(needs_torch(f"encoder {network.name!r}"))
            if not any(True for _ in cast("torch.nn.Module", network.module).parameters()):
                return device, "torch"
        return device, backend


class NetworkEncoder:
    """An `Encoder` made of a network and a runtime; compiled at the first batch.

    `table` holds the vectors it has computed before, for networks that a `store` is given for.
    """

    def __init__(self, network: Network, runtime: Runtime, store: Store | None = None) -> None:
        self._network = network
        self._runtime = runtime
        self._infer: Infer | None = None
        self._fingerprint = _fingerprint(network)
        self.table: Table | None = None
        # without weights there is no network to save a pass through
        if store is not None and network.kept and network.weights:
            rules = f"{self._fingerprint}|{self.arithmetic}|read {READING_RULES}"
            self.table = store.table(network.name, rules)

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without the compiled network, which the process that unpickles makes itself."""
        return self.__dict__ | {"_infer": None}

    @property
    def name(self) -> str:
        return self._network.name

    @property
    def metric(self) -> Metric:
        return self._network.metric

    @property
    def preprocessing(self) -> Preprocessing:
        return self._network.preprocessing

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def arithmetic(self) -> str:
        """What may change the last digits of a vector; vectors are cached apart by it."""
        device, backend = self._runtime.of_network(self._network)
        return f"{backend}-{device}-{'float16' if device == 'cuda' else 'float32'}"

    @property
    def weights(self) -> tuple[WeightFile, ...]:
        return self._network.weights

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, 3, H, W) uint8 RGB → (B, dim) float32."""
        return self._compiled()(pixels)

    def prepare(self) -> None:
        """Compile the network, once."""
        self._compiled()

    def _compiled(self) -> Infer:
        infer = self._infer
        if infer is None or (isinstance(infer, Compiled) and not infer.usable):
            self._infer = infer = compile_network(self._network, self._runtime)
        return infer


def compile_network(network: Network, runtime: Runtime) -> Infer:
    """Prepare a network to run; both backends agree within 1e-3 relative.

    Networks that are compiled are shared; see `compile_once`.
    """
    device, backend = runtime.of_network(network)
    if backend == "numpy":
        return cast("Infer", network.module)
    built = network.module
    if backend == "openvino" and isinstance(built, Described | NetworkOfFile):
        key = f"{backend}-{device}|{_fingerprint(network)}"
        return compile_once(key, lambda: _compile_described(built))
    with BUILDING:
        module = torch_module(network).to(device).eval()
    if backend == "torch":
        return _run_torch(module, device)
    if not network.weights:  # the fingerprint does not tell what the parameters are
        from gmvaluator.encoders._modules import state_file

        network = replace(network, weights=(state_file(network.name, module),))
    key = f"{backend}-{device}|{_fingerprint(network)}"
    if backend == "openvino":
        return compile_once(key, lambda: _compile_module(module, network.preprocessing.size))
    import torch

    return compile_once(key, lambda: _run_torch(torch.compile(module), device))


def torch_module(network: Network) -> torch.nn.Module:
    """A network as a module of torch; for a function of arrays there is none."""
    built = network.module
    return cast("torch.nn.Module", built.torch_module() if isinstance(built, Described) else built)


def _run_torch(module: Callable[[torch.Tensor], torch.Tensor], device: str) -> Infer:
    import torch

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # torch takes another path for a single image, which differs in the last digits
        batch = pixels if len(pixels) > 1 else np.repeat(pixels, 2, axis=0)
        half = torch.autocast("cuda", torch.float16, enabled=device == "cuda")
        with torch.inference_mode(), half:
            vectors = module(torch.from_numpy(batch).to(device))
        result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result[:1] if len(pixels) == 1 and result.ndim else result

    return infer


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _sees_gpu() -> bool:
    """Whether torch, which is installed, sees a GPU; not imported where there is no driver."""
    if sys.modules.get("torch") is None and not _has_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_driver() -> bool:
    with suppress(KeyError, OSError):
        ctypes.CDLL(DRIVERS[sys.platform])
        return True
    return AMD_DRIVER.exists()


def import_openvino() -> Any:
    """OpenVINO without `openvino_telemetry`, which would report every conversion over the network.

    Without that package OpenVINO takes a stub of its own, which sends nothing. If OpenVINO was
    imported before, it stays as it is.
    """
    with _importing:
        if "openvino" in sys.modules:
            return importlib.import_module("openvino")
        telemetry = sys.modules.get(TELEMETRY)
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[TELEMETRY]
            if telemetry is not None:
                sys.modules[TELEMETRY] = telemetry


def _compile_module(module: torch.nn.Module, side: int) -> Infer:
    import torch

    openvino = import_openvino()
    example = torch.zeros((2, 3, side, side), dtype=torch.uint8)
    traced = torch.jit.TracerWarning  # type: ignore[attr-defined]
    # the converter traces with torch.jit, which torch announces to retire
    with ignored(Warning, r"torch\.jit\.|openvino"), ignored(traced):
        model = openvino.convert_model(module, example_input=example, input=[(-1, 3, side, side)])
    return _compile_model(openvino, model)


def _compile_described(network: Described | NetworkOfFile) -> Infer:
    openvino = import_openvino()
    return _compile_model(openvino, network.openvino_model(openvino))


def _compile_model(openvino: Any, model: Any) -> Infer:
    # f32 by name: on processors with bfloat16 units OpenVINO would otherwise round to it
    compiled = openvino.Core().compile_model(
        model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    )

    one_by_one = model.input().partial_shape[0].is_static

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # copies: the output buffer belongs to the request and is overwritten by the next batch
        if not one_by_one:
            return np.array(compiled(pixels)[0], dtype=np.float32)
        alone = [np.array(compiled(image[None])[0], dtype=np.float32) for image in pixels]
        return np.concatenate(alone)

    return infer


def _fingerprint(network: Network) -> str:
    described = "|".join(
        [
            network.name,
            repr(network.preprocessing),
            "float32",
            *(f"{file.name}={file.sha256}" for file in network.weights),
        ]
    )
    return hashlib.sha256(described.encode()).hexdigest()
