"""How a network runs: OpenVINO on the CPU where installed, torch otherwise and on CUDA."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from gmvaluator.encoders._modules import state_file
from gmvaluator.encoders.base import Network, NetworkOfFile
from gmvaluator.encoders.compiled import Compiled, Infer, compile_once
from gmvaluator.errors import InputError, MissingPackageError, either
from gmvaluator.files.store import Store, Table
from gmvaluator.geometry import Metric
from gmvaluator.images import READING_RULES, Preprocessing
from gmvaluator.threads import Lock, ignored
from gmvaluator.weights import WeightFile

BACKENDS = ("auto", "torch", "torch-compile", "openvino")
Backend = Literal["auto", "torch", "torch-compile", "openvino"]
TELEMETRY = "openvino_telemetry"
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
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("device is 'cuda' but torch sees no GPU; pass cpu or auto")
        has_openvino = importlib.util.find_spec("openvino") is not None
        if self.backend == "openvino" and not has_openvino:
            raise MissingPackageError("backend 'openvino' is not installed: pip install openvino")
        if self.backend == "openvino" and device == "cuda":
            raise InputError(
                "backend 'openvino' runs on the cpu here; pass "
                + either("device='cpu'", "--device cpu")
            )
        if self.backend != "auto":
            return device, self.backend
        return device, "openvino" if device == "cpu" and has_openvino else "torch"

    def of_network(self, network: Network) -> tuple[str, str]:
        """(device, backend) that will run a network.

        A network of a file runs in OpenVINO. One without parameters has nothing to compile for it.
        """
        if isinstance(network.module, NetworkOfFile):
            return "cpu", "openvino"
        device, backend = self.resolved()
        if backend == "openvino" and not any(True for _ in network.module.parameters()):
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
    if isinstance(network.module, NetworkOfFile):
        file = network.module
        key = f"{backend}-{device}|{_fingerprint(network)}"
        return compile_once(key, lambda: _compile_file(file))
    module = network.module.to(device).eval()
    if backend == "torch":
        return _run_torch(module, device)
    if not network.weights:  # the fingerprint does not tell what the parameters are
        network = replace(network, weights=(state_file(network.name, module),))
    key = f"{backend}-{device}|{_fingerprint(network)}"
    if backend == "openvino":
        return compile_once(key, lambda: _compile_openvino(network))
    return compile_once(key, lambda: _run_torch(torch.compile(module), device))


def _run_torch(module: Callable[[torch.Tensor], torch.Tensor], device: str) -> Infer:
    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # torch takes another path for a single image, which differs in the last digits
        batch = pixels if len(pixels) > 1 else np.repeat(pixels, 2, axis=0)
        half = torch.autocast("cuda", torch.float16, enabled=device == "cuda")
        with torch.inference_mode(), half:
            vectors = module(torch.from_numpy(batch).to(device))
        result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result[:1] if len(pixels) == 1 and result.ndim else result

    return infer


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


def _compile_openvino(network: Network) -> Infer:
    openvino = import_openvino()
    side = network.preprocessing.size
    example = torch.zeros((2, 3, side, side), dtype=torch.uint8)
    traced = torch.jit.TracerWarning  # type: ignore[attr-defined]
    # the converter traces with torch.jit, which torch announces to retire
    with ignored(Warning, r"torch\.jit\.|openvino"), ignored(traced):
        model = openvino.convert_model(
            network.module.eval(), example_input=example, input=[(-1, 3, side, side)]
        )
    return _compile_model(openvino, model)


def _compile_file(file: NetworkOfFile) -> Infer:
    openvino = import_openvino()
    return _compile_model(openvino, file.openvino_model(openvino))


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
