"""Both inference backends compute the same vectors, and say what they cannot do."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmvaluator.encoders import efficientnet, stlpips
from gmvaluator.encoders.backends import NetworkEncoder, Runtime, compile_network, torch_module
from gmvaluator.encoders.base import Encoder, Network
from gmvaluator.errors import GMValuatorError, InputError, MissingPackageError
from gmvaluator.images import ImageSet, Preprocessing
from gmvaluator.weights import WeightFile, Weights

OFFLINE = Weights(offline=True)
TORCH, OPENVINO = Runtime("cpu", "torch"), Runtime("cpu", "openvino")


@pytest.fixture(scope="module", params=["efficientnet-lite0:root@96", "st-lpips:alex@32"])
def network(request: pytest.FixtureRequest) -> Network:
    if request.param.startswith("efficientnet"):
        return efficientnet.build(None, 96, OFFLINE)
    if OFFLINE.locate("st-lpips:alex") is None:
        pytest.skip("stlpips_pytorch is not installed")
    return stlpips.build("alex", 32, OFFLINE)


@pytest.fixture(scope="module")
def encoders(network: Network) -> dict[str, Encoder]:
    return {
        "torch": NetworkEncoder(network, TORCH),
        "openvino": NetworkEncoder(network, OPENVINO),
    }


@pytest.fixture(scope="module")
def pixels(network: Network, digits: tuple[NDArray[np.uint8], Any]) -> NDArray[np.uint8]:
    """24 real digits as the network wants them."""
    (batch,) = ImageSet.open(digits[0][:24]).batches(network.preprocessing, batch_size=24)
    return batch.pixels


@pytest.fixture(scope="module")
def vectors(
    encoders: dict[str, Encoder], pixels: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """Their vectors by backend, all 24 in one batch."""
    return {name: encoder.encode(pixels) for name, encoder in encoders.items()}


class Flat(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().flatten(1)


def relative_error(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Largest distance between two vectors of an image, relative to their length."""
    lengths = np.linalg.norm(wanted, axis=1)
    assert (lengths > 0).all()
    return float((np.linalg.norm(given - wanted, axis=1) / lengths).max())


# --- what both compute


def test_openvino_computes_what_torch_does(vectors: dict[str, NDArray[np.float32]]) -> None:
    given, wanted = vectors["openvino"], vectors["torch"]
    assert given.shape == wanted.shape
    assert given.dtype == wanted.dtype == np.float32
    assert relative_error(given, wanted) < 1e-3
    # what is compared are distances: rounding must be small beside how far digits lie apart
    difference = np.linalg.norm(given - wanted, axis=1).max()
    assert difference < 1e-3 * np.linalg.norm(wanted[1:] - wanted[0], axis=1).min()


@pytest.mark.parametrize("form", ["root", "plain", "stage1", "stage4", "stage7"])
@pytest.mark.parametrize("side", [33, 64])
def test_efficientnet_by_operators_is_timms_network(form: str, side: int) -> None:
    """In vectors; the root of a small entry enlarges its rounding. Odd sides pad unevenly."""
    network = efficientnet.build(form, side, OFFLINE)
    noise = np.random.default_rng(0).integers(0, 256, (3, 3, side, side), np.uint8)
    given = NetworkEncoder(network, OPENVINO).encode(noise)
    wanted = NetworkEncoder(network, TORCH).encode(noise)
    assert relative_error(given, wanted) < 1e-5


def test_efficientnet_by_operators_is_timms_converted_network_to_the_bit() -> None:
    """So vectors that the cache holds from versions that converted it stay valid."""
    network = efficientnet.build("root", 96, OFFLINE)
    converted = replace(network, module=torch_module(network), name="converted")
    noise = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96), np.uint8)
    given, wanted = (NetworkEncoder(each, OPENVINO).encode(noise) for each in (network, converted))
    np.testing.assert_array_equal(given, wanted)


def test_converting_reports_nothing_to_anyone() -> None:
    layers = torch.nn.Sequential(Flat(), torch.nn.Linear(48, 1))
    compile_network(Network("small", layers, Preprocessing(4), "cosine"), OPENVINO)
    convert_impl = sys.modules["openvino.tools.ovc.convert_impl"]
    assert convert_impl.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
    # the package stays usable by others
    assert sys.modules.get("openvino_telemetry", 0) is not None


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize(("batch_size", "n"), [(1, 4), (5, 10)])
def test_the_batch_size_does_not_show(
    backend: str,
    batch_size: int,
    n: int,
    encoders: dict[str, Encoder],
    pixels: NDArray[np.uint8],
    vectors: dict[str, NDArray[np.float32]],
) -> None:
    parts = [pixels[at : at + batch_size] for at in range(0, n, batch_size)]
    pieces = np.concatenate([encoders[backend].encode(part) for part in parts])
    assert relative_error(pieces, vectors[backend][:n]) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_the_same_images_give_the_same_vectors(
    backend: str, encoders: dict[str, Encoder], pixels: NDArray[np.uint8]
) -> None:
    encoder = encoders[backend]
    first = encoder.encode(pixels[:9])
    kept = first.copy()
    encoder.encode(pixels[9:18])
    # results must not share the buffer that the next batch is written to
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(encoder.encode(pixels[:9]), kept)


def test_a_network_without_parameters_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    network = Network("flat", torch.nn.Flatten(), Preprocessing(4), "euclidean")
    monkeypatch.setattr(Runtime, "resolved", lambda self: ("cpu", "openvino"))
    values = np.arange(48, dtype=np.uint8).reshape(1, 3, 4, 4)
    given = compile_network(network, Runtime())(values)
    np.testing.assert_array_equal(given, np.arange(48, dtype=np.float32)[None])


def test_prepare_compiles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from gmvaluator.encoders import backends

    compiled: list[Runtime] = []

    def count(network: Network, runtime: Runtime) -> Any:
        compiled.append(runtime)
        return lambda pixels: pixels.reshape(len(pixels), -1).astype(np.float32)

    monkeypatch.setattr(backends, "compile_network", count)
    encoder = NetworkEncoder(described(), TORCH)
    assert compiled == []
    encoder.prepare()
    encoder.prepare()
    encoder.encode(np.zeros((1, 3, 4, 4), np.uint8))
    assert compiled == [TORCH]


# --- where it runs


def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "openvino" else find(name, package),
    )


@pytest.mark.parametrize(
    ("machine", "runtime", "resolved"),
    [
        ((without_gpu,), Runtime(), ("cpu", "openvino")),
        ((without_gpu, without_openvino), Runtime(), ("cpu", "torch")),
        ((with_gpu,), Runtime(), ("cuda", "torch")),
        ((with_gpu,), Runtime("cpu"), ("cpu", "openvino")),
        ((with_gpu,), Runtime("cuda"), ("cuda", "torch")),
        ((without_gpu,), TORCH, ("cpu", "torch")),
        ((without_gpu,), Runtime("auto", "openvino"), ("cpu", "openvino")),
    ],
)
def test_auto_takes_what_the_machine_has(
    machine: Any, runtime: Runtime, resolved: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in machine:
        part(monkeypatch)
    assert runtime.resolved() == resolved


@pytest.mark.parametrize(
    ("machine", "device", "backend", "error", "message"),
    [
        (without_gpu, "gpu", "auto", InputError, "unknown device 'gpu'; choose auto, cpu or cuda"),
        (
            without_gpu,
            "cpu",
            "onnx",
            InputError,
            "unknown backend 'onnx'; choose one of auto, torch",
        ),
        (without_gpu, "cuda", "auto", InputError, "torch sees no GPU; pass cpu or auto"),
        (with_gpu, "cuda", "openvino", InputError, "runs on the cpu here; pass device='cpu'"),
        (without_openvino, "cpu", "openvino", MissingPackageError, "pip install openvino"),
    ],
)
def test_what_the_machine_lacks_is_said(
    machine: Any,
    device: str,
    backend: Any,
    error: type[GMValuatorError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch)
    with pytest.raises(error, match=message):
        Runtime(device, backend).resolved()


# --- fingerprints


def described() -> Network:
    file = WeightFile("w", Path("w.pth"), 64 * "0")
    return Network("net@4", torch.nn.Flatten(), Preprocessing(4), "euclidean", (file,))


def fingerprint(network: Network, runtime: Runtime = TORCH) -> str:
    return NetworkEncoder(network, runtime).fingerprint


def test_fingerprint_follows_whatever_changes_the_vectors() -> None:
    network = described()
    changed = [
        replace(network, name="net@5"),
        replace(network, preprocessing=Preprocessing(5)),
        replace(network, preprocessing=Preprocessing(4, "crop")),
        replace(network, preprocessing=Preprocessing(4, interpolation="box")),
        replace(network, weights=(WeightFile("w", Path("w.pth"), 64 * "1"),)),
        replace(network, weights=()),
    ]
    prints = [fingerprint(each) for each in (network, *changed)]
    assert len(set(prints)) == len(prints)


def test_fingerprint_ignores_what_does_not() -> None:
    network = described()
    (file,) = network.weights
    moved = replace(network, weights=(replace(file, path=Path("elsewhere/w.pth")),))
    assert fingerprint(network) == fingerprint(moved)
    assert fingerprint(network) == fingerprint(network, OPENVINO) == fingerprint(network, Runtime())


def test_an_encoder_shows_what_it_was_built_of() -> None:
    network = described()
    encoder = NetworkEncoder(network, TORCH)
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.metric) == ("net@4", "euclidean")
    assert (encoder.preprocessing, encoder.weights) == (network.preprocessing, network.weights)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_torch_gives_the_same_vectors() -> None:
    class Small(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return (pixels.float() / 255).flatten(1).cumsum(dim=1)

    network = Network("small", Small(), Preprocessing(4), "euclidean")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 4), dtype=np.uint8)
    plain, compiled = (
        NetworkEncoder(network, Runtime("cpu", backend)).encode(pixels)
        for backend in ("torch", "torch-compile")
    )
    np.testing.assert_allclose(compiled, plain, rtol=1e-6)


def test_one_image_alone_gives_the_vector_it_gives_in_a_batch(
    encoders: dict[str, Encoder], pixels: NDArray[np.uint8], vectors: dict[str, NDArray[np.float32]]
) -> None:
    """What a resumed run computes must not depend on how its images fall into batches.

    With OpenVINO, which runs by default, not at all; torch with one thread multiplies matrices of
    other sizes in other blocks.
    """
    for size in (1, 2, 7):
        alone = np.ascontiguousarray(pixels[-size:])
        found = {name: encoder.encode(alone) for name, encoder in encoders.items()}
        np.testing.assert_array_equal(found["openvino"], vectors["openvino"][-size:])
        assert relative_error(found["torch"], vectors["torch"][-size:]) < 1e-3
