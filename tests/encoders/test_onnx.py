"""Networks of ONNX and OpenVINO files as encoders."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gmvaluator import GMValuator
from gmvaluator.cli.options import distance_terms
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import NetworkEncoder, Runtime, import_openvino
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.onnx_format import read_facts
from gmvaluator.errors import InputError
from gmvaluator.files.store import Store
from gmvaluator.images import Preprocessing
from gmvaluator.weights import Weights
from image_makers import random_images
from onnx_makers import INT64, UINT8, model, node, pooling, tensor, value_info

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
PIXELS = random_images(5, 8).transpose(0, 3, 1, 2).copy()
IMAGE = ("N", 3, 8, 8)


def load(name: str, store: Store | None = None) -> Encoder:
    return load_encoder(name, Weights(offline=True), Runtime("cpu"), store)


def expected(
    mean: Any = 0.0, std: Any = 1.0, low: float = 0.0, high: float = 1.0, pixels: Any = PIXELS
) -> NDArray[np.float32]:
    """Vectors of `pooling` by the obvious arithmetic."""
    scaled = low + pixels.astype(np.float64) * (high - low) / 255
    channels = ((scaled.transpose(0, 2, 3, 1) - mean) / std).mean(axis=(1, 2))
    return np.asarray(channels @ WEIGHTS, dtype=np.float32)


def write(path: Path, *arguments: Any, **options: Any) -> Path:
    path.write_bytes(model(*arguments, **options))
    return path


# --- how images go in


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("range=0..1", {}),
        ("range=-1..1", {"low": -1.0}),
        ("range=0..255", {"high": 255.0}),
        ("mean=0.5&std=0.25", {"mean": 0.5, "std": 0.25}),
        ("mean=0.1,0.2,0.3", {"mean": [0.1, 0.2, 0.3]}),
        ("mean=imagenet", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
        ("mean=10,20,30&std=2&range=0..255", {"mean": [10, 20, 30], "std": 2, "high": 255.0}),
    ],
)
def test_pixels_are_normalised_as_the_name_says(
    tmp_path: Path, query: str, wanted: dict[str, Any]
) -> None:
    encoder = load(f"onnx:{pooling(tmp_path / 'net.onnx')}?size=8&{query}")
    vectors = encoder.encode(PIXELS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected(**wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"Image.NominalPixelRange": "Normalized_1_1"}, {"low": -1.0}),
        ({"Image.NominalPixelRange": "NominalRange_0_255"}, {"high": 255.0}),
        (
            {"Image.NominalPixelRange": "Normalized_0_1", "Image.BitmapPixelFormat": "Bgr8"},
            {"pixels": PIXELS[:, ::-1]},
        ),
    ],
)
def test_pixels_are_normalised_as_an_onnx_file_says(
    tmp_path: Path, metadata: dict[str, str], wanted: dict[str, Any]
) -> None:
    file = pooling(tmp_path / "net.onnx", IMAGE, metadata=metadata)
    vectors = load(f"onnx:{file}").encode(PIXELS)
    np.testing.assert_allclose(vectors, expected(**wanted), rtol=1e-5, atol=1e-5)


def test_the_name_wins_over_the_file(tmp_path: Path) -> None:
    metadata = {"Image.NominalPixelRange": "NominalRange_0_255"}
    file = pooling(tmp_path / "net.onnx", IMAGE, metadata=metadata)
    vectors = load(f"onnx:{file}?mean=0.5&std=0.5").encode(PIXELS)
    np.testing.assert_allclose(vectors, expected(0.5, 0.5), rtol=1e-5, atol=1e-5)


def test_a_network_of_bytes_normalises_by_itself(tmp_path: Path) -> None:
    file = pooling(tmp_path / "net.onnx", IMAGE, kind=UINT8)
    vectors = load(f"onnx:{file}").encode(PIXELS)
    np.testing.assert_allclose(vectors, expected(high=255.0), rtol=1e-5)


@pytest.mark.parametrize("image", [("N", 8, 8, 3), (1, 8, 8, 3), ("N", "H", "W", 3)])
def test_channels_may_come_last(tmp_path: Path, image: Any) -> None:
    file = pooling(tmp_path / "net.onnx", image)
    vectors = load(f"onnx:{file}?size=8&range=0..1").encode(PIXELS)
    np.testing.assert_allclose(vectors, expected(), rtol=1e-5, atol=1e-5)


def test_a_network_of_one_image_takes_them_one_by_one(tmp_path: Path) -> None:
    """Its shapes are baked in: the vectors of a batch would run together."""
    steps = [
        node("ReduceMean", ["image"], "means", {"axes": (2, 3), "keepdims": 0}),
        node("Reshape", ["means", "shape"], "vector"),
    ]
    shape = tensor("shape", np.asarray([1, -1], np.int64))
    inputs, outputs = [value_info("image", (1, 3, 8, 8))], [value_info("vector", (1, 3))]
    file = write(tmp_path / "net.onnx", steps, inputs, outputs, [shape])
    vectors = load(f"onnx:{file}?range=0..255").encode(PIXELS)
    np.testing.assert_allclose(vectors, PIXELS.mean(axis=(2, 3)), rtol=1e-5)


def test_size_may_be_given_either_way_and_decides_the_preprocessing(tmp_path: Path) -> None:
    file = pooling(tmp_path / "net.onnx")
    first, second = load(f"onnx:{file}?size=12&range=0..1"), load(f"onnx:{file}?range=0..1@12")
    assert first.preprocessing == second.preprocessing == Preprocessing(12)
    assert first.fingerprint == second.fingerprint
    cropped = load(f"onnx:{file}?size=12&range=0..1&fit=crop&metric=cosine")
    assert cropped.preprocessing == Preprocessing(12, "crop")
    assert cropped.metric == "cosine"


# --- how the vector comes out


def tokens(path: Path) -> Path:
    """Outputs `tokens`, (N, 3, 64), and `vector`, (N, 3)."""
    steps = [
        node("Reshape", ["image", "shape"], "tokens"),
        node("ReduceMax", ["tokens"], "vector", {"axes": (2,), "keepdims": 0}),
    ]
    outputs = [value_info("tokens", ("N", 3, 64)), value_info("vector", ("N", 3))]
    shape = tensor("shape", np.asarray([-1, 3, 64], np.int64))
    return write(path, steps, [value_info("image", IMAGE)], outputs, [shape])


def test_an_output_is_chosen_and_pooled(tmp_path: Path) -> None:
    name = f"onnx:{tokens(tmp_path / 'net.onnx')}?range=0..255"
    flat = PIXELS.reshape(5, 3, 64).astype(np.float32)
    wanted = {
        "&output=vector": flat.max(axis=2),
        "&output=tokens&pool=first": flat[:, 0],
        "&output=tokens&pool=mean": flat.mean(axis=1),
    }
    for query, vectors in wanted.items():
        np.testing.assert_allclose(load(name + query).encode(PIXELS), vectors, rtol=1e-5)


def test_a_layer_inside_the_network_may_be_the_vector(tmp_path: Path) -> None:
    file = pooling(tmp_path / "net.onnx", IMAGE)
    vectors = load(f"onnx:{file}?range=0..255&output=means").encode(PIXELS)
    np.testing.assert_allclose(vectors, PIXELS.mean(axis=(2, 3)), rtol=1e-5)


def test_feature_maps_are_averaged(tmp_path: Path) -> None:
    outputs = [value_info("maps", IMAGE)]
    file = write(
        tmp_path / "net.onnx",
        [node("Abs", ["image"], "maps")],
        [value_info("image", IMAGE)],
        outputs,
    )
    vectors = load(f"onnx:{file}?range=0..255&pool=mean").encode(PIXELS)
    np.testing.assert_allclose(vectors, PIXELS.mean(axis=(2, 3)), rtol=1e-5)


def two_towers(path: Path) -> Path:
    """As CLIP: `picture` needs the image, `words` the text, `both` the two."""
    steps = [
        node("ReduceMean", ["image"], "picture", {"axes": (2, 3), "keepdims": 0}),
        node("Cast", ["text"], "words", {"to": 1}),
        node("MatMul", ["picture", "words"], "both"),
    ]
    inputs = [value_info("image", IMAGE), value_info("text", (3, 4), INT64)]
    outputs = [
        value_info("picture", ("N", 3)),
        value_info("words", (3, 4)),
        value_info("both", ("N", 4)),
    ]
    return write(path, steps, inputs, outputs)


def test_inputs_that_the_chosen_output_does_not_need_are_left_out(tmp_path: Path) -> None:
    file = two_towers(tmp_path / "net.onnx")
    vectors = load(f"onnx:{file}?range=0..255&output=picture").encode(PIXELS)
    np.testing.assert_allclose(vectors, PIXELS.mean(axis=(2, 3)), rtol=1e-5)
    with pytest.raises(InputError, match=r"wants 2 inputs \(image, text\).*one image"):
        load(f"onnx:{file}?range=0..255&output=both")


# --- OpenVINO's own format


def test_a_file_of_openvino_with_its_normalisation(tmp_path: Path) -> None:
    openvino = import_openvino()
    network = openvino.Core().read_model(pooling(tmp_path / "net.onnx", IMAGE))
    network.set_rt_info("10 20 30", ["model_info", "mean_values"])
    network.set_rt_info("2 2 2", ["model_info", "scale_values"])
    network.set_rt_info("YES", ["model_info", "reverse_input_channels"])
    openvino.save_model(network, tmp_path / "net.xml", compress_to_fp16=False)
    vectors = load(f"onnx:{tmp_path / 'net.xml'}").encode(PIXELS)
    wanted = expected([10, 20, 30], 2, high=255.0, pixels=PIXELS[:, ::-1])
    np.testing.assert_allclose(vectors, wanted, rtol=1e-5, atol=1e-4)
    (tmp_path / "net.bin").unlink()
    with pytest.raises(InputError, match=r"net\.bin is missing"):
        load(f"onnx:{tmp_path / 'net.xml'}")


# --- fingerprints and the cache


def test_the_fingerprint_follows_what_decides_the_vectors(tmp_path: Path) -> None:
    first = pooling(tmp_path / "a.onnx")
    (tmp_path / "b").mkdir()
    same = tmp_path / "b" / "a.onnx"
    same.write_bytes(first.read_bytes())
    other = pooling(tmp_path / "other.onnx", metadata={"author": "another"})
    names = [
        f"onnx:{file}?size={size}&{rest}"
        for file, size, rest in (
            (first, 8, "mean=0.5"),
            (same, 8, "mean=0.5"),
            (other, 8, "mean=0.5"),
            (first, 9, "mean=0.5"),
            (first, 8, "mean=0.4"),
            (first, 8, "mean=0.5&channels=bgr"),
            (first, 8, "mean=0.5&fit=crop"),
            (first, 8, "mean=0.5&output=means"),
        )
    ]
    fingerprints = [load(name).fingerprint for name in names]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == len(names) - 1


def test_weights_beside_the_file_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    file = pooling(tmp_path / "net.onnx", IMAGE, location="net.data")
    name = f"onnx:{file}?range=0..1"
    before = load(name)
    np.testing.assert_allclose(before.encode(PIXELS), expected(), rtol=1e-5, atol=1e-5)
    (tmp_path / "net.data").write_bytes((WEIGHTS + 1).tobytes())
    assert load(name).fingerprint != before.fingerprint


def test_vectors_are_kept_and_the_encoder_can_be_pickled(tmp_path: Path) -> None:
    name = f"onnx:{pooling(tmp_path / 'net.onnx')}?size=8&range=0..1"
    encoder = load(name, Store(tmp_path / "cache"))
    assert isinstance(encoder, NetworkEncoder)
    assert encoder.table is not None
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.encode(PIXELS), encoder.encode(PIXELS))


def test_networks_of_files_in_every_place_of_a_valuation(tmp_path: Path) -> None:
    images = random_images(24, 12)
    file = pooling(tmp_path / "net.onnx")
    first, second = f"onnx:{file}?size=8&range=0..1", f"onnx:{file}?size=12&mean=imagenet"
    settings: dict[str, Any] = {"encoder": first, "second_encoder": second, "k": 3}
    settings |= {"rerank": {first: 1.0, second: 2.0}, "mixing": "decisive", "null": "off"}
    settings |= {"quality": "none", "cache": tmp_path / "cache"}
    valuation = GMValuator(**settings).fit(images).value(images[:4])
    assert [valuation.contributors(j).ids[0] for j in range(4)] == list(valuation.train_ids[:4])
    assert valuation.record.settings["encoder"] == first
    again = GMValuator(**settings).fit(images).value(images[:4])
    np.testing.assert_array_equal(again.values, valuation.values)
    assert not again.info["images"]["train"]["encoded"]


def test_a_weight_of_the_command_line_comes_after_the_query() -> None:
    parts = ("l2=2", "onnx:a.onnx?size=8&mean=clip", "onnx:b.onnx?size=8=3", "onnx:c.onnx=4")
    assert distance_terms(parts, "--rerank NAME=WEIGHT") == {
        "l2": 2.0,
        "onnx:a.onnx?size=8&mean=clip": 1.0,
        "onnx:b.onnx?size=8": 3.0,
        "onnx:c.onnx": 4.0,
    }


# --- bad input: one line, before any image is read


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("size=8", "does not say how pixels are normalised; write onnx:.*mean=imagenet"),
        ("mean=imagenet", r"leaves the size of its images open.*\?size=224"),
        ("mean=imagenet&size=0", "size=0; pass a side in pixels from 1"),
        ("mean=imagenet&size=big", "size=big; pass a side"),
        ("mean=a,b&size=8", "mean=a,b; pass one number or three"),
        ("mean=1,2&size=8", "mean=1,2; pass one number or three"),
        ("mean=nan&size=8", "mean=nan; pass one number or three"),
        ("mean=0&std=0&size=8", "std=0; pass one number or three, one a channel above 0"),
        ("mean=imagenet&std=1&size=8", "comes with its own std"),
        ("mean=imagenet&range=0..255&size=8", "comes with its own std and range"),
        ("range=0..2&size=8", r"range=0\.\.2; choose 0\.\.1 or -1\.\.1 or 0\.\.255"),
        ("layout=CHWN&range=0..1&size=8", "layout=CHWN; choose NCHW or NHWC"),
        ("metric=hamming&range=0..1&size=8", "metric=hamming; choose euclidean"),
        ("sise=8", r"cannot be read; write \?KEY=VALUE.*size, mean"),
        ("size=8&size=9", "at most once"),
        ("size&range=0..1", "cannot be read"),
        ("size=8&range=0..1&output=nothing", "has no output 'nothing'; its outputs are vector"),
        ("size=8&range=0..1@9", "asks for 8 px and for 9 px"),
        ("size=8&layout=NHWC&range=0..1", "takes images of 3 px only, not 8"),
    ],
)
def test_a_name_that_does_not_fit_is_one_clear_line(
    tmp_path: Path, query: str, wanted: str
) -> None:
    file = pooling(tmp_path / "net.onnx")
    with pytest.raises(InputError, match=wanted) as error:
        load(f"onnx:{file}?{query}")
    assert "\n" not in str(error.value)


def no_file(folder: Path) -> Path:
    return folder / "nothing.onnx"


def a_folder(folder: Path) -> Path:
    (folder / "net.onnx").mkdir()
    return folder / "net.onnx"


def no_onnx(folder: Path) -> Path:
    (folder / "net.onnx").write_bytes(b"this is a text and no network\n" * 9)
    return folder / "net.onnx"


def empty(folder: Path) -> Path:
    (folder / "net.onnx").write_bytes(b"")
    return folder / "net.onnx"


def cut(folder: Path) -> Path:
    file = pooling(folder / "net.onnx", IMAGE)
    file.write_bytes(file.read_bytes()[:-40])
    return file


def no_xml(folder: Path) -> Path:
    (folder / "net.xml").write_text("<net", encoding="utf-8")
    (folder / "net.bin").write_bytes(b"")
    return folder / "net.xml"


def unknown_step(folder: Path) -> Path:
    inputs, outputs = [value_info("image", IMAGE)], [value_info("vector", ("N", 3))]
    return write(folder / "net.onnx", [node("Secret", ["image"], "vector")], inputs, outputs)


def several_outputs(folder: Path) -> Path:
    return tokens(folder / "net.onnx")


def maps(folder: Path) -> Path:
    inputs, outputs = [value_info("image", IMAGE)], [value_info("maps", IMAGE)]
    return write(folder / "net.onnx", [node("Abs", ["image"], "maps")], inputs, outputs)


def one_number(folder: Path) -> Path:
    steps = [node("ReduceMean", ["image"], "number", {"axes": (1, 2, 3), "keepdims": 0})]
    inputs, outputs = [value_info("image", IMAGE)], [value_info("number", ("N",))]
    return write(folder / "net.onnx", steps, inputs, outputs)


def rows(folder: Path) -> Path:
    inputs, outputs = [value_info("image", ("N", 3))], [value_info("vector", ("N", 3))]
    return write(folder / "net.onnx", [node("Abs", ["image"], "vector")], inputs, outputs)


def grey(folder: Path) -> Path:
    return pooling(folder / "net.onnx", ("N", 1, 8, 8))


def oblong(folder: Path) -> Path:
    return pooling(folder / "net.onnx", ("N", 3, 8, 9))


def missing_weights(folder: Path) -> Path:
    file = pooling(folder / "net.onnx", IMAGE, location="net.data")
    (folder / "net.data").unlink()
    return file


def outside(folder: Path) -> Path:
    (folder / "inner").mkdir()
    return pooling(folder / "inner" / "net.onnx", IMAGE, location="../net.data")


def absolute(folder: Path) -> Path:
    return pooling(folder / "net.onnx", IMAGE, location=str(folder / "net.data"))


def by_a_link(folder: Path) -> Path:
    (folder / "inner").mkdir()
    file = pooling(folder / "inner" / "net.onnx", IMAGE, location="net.data")
    (folder / "inner" / "net.data").rename(folder / "net.data")
    (folder / "inner" / "net.data").symlink_to(folder / "net.data")
    return file


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (no_file, "there is no file"),
        (a_folder, "cannot be read: Is a directory"),
        (no_onnx, "is no ONNX file"),
        (empty, "is no ONNX file"),
        (cut, "is no ONNX file"),
        (no_xml, "OpenVINO cannot read"),
        (unknown_step, "OpenVINO cannot read.*Secret"),
        (several_outputs, r"has 2 outputs: tokens \(\?, 3, 64\), vector \(\?, 3\); choose one"),
        (maps, r"gives no vector: its output for one image is \(1, 3, 8, 8\).*pool"),
        (one_number, r"gives no vector: its output for one image is \(1\)"),
        (rows, r"takes no image: its input is \(\?, 3\)"),
        (grey, r"takes no RGB image: its input is \(\?, 1, 8, 8\)"),
        (oblong, "takes images of 9 × 8 px; wanted is a square"),
        (missing_weights, r"keeps weights in 'net\.data', which is missing; put that file into"),
        (outside, r"names the file of weights '\.\./net\.data', which is outside its folder"),
        (absolute, "which is outside its folder"),
        (by_a_link, "which is outside its folder"),
    ],
)
def test_a_file_that_is_no_encoder_is_one_clear_line(
    tmp_path: Path, make: Callable[[Path], Path], wanted: str
) -> None:
    with pytest.raises(InputError, match=wanted) as error:
        load(f"onnx:{make(tmp_path)}?range=0..1")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    fixed = pooling(tmp_path / "fixed.onnx", IMAGE)
    with pytest.raises(InputError, match="takes images of 8 px only, not 9"):
        load(f"onnx:{fixed}?size=9&range=0..1")
    # its matrix has a row for each of the 8 × 8 pixels of a channel
    steps = [
        node("Reshape", ["image", "shape"], "flat"),
        node("MatMul", ["flat", "matrix"], "vector"),
    ]
    constants = [
        tensor("shape", np.asarray([0, -1], np.int64)),
        tensor("matrix", np.ones((192, 4), np.float32)),
    ]
    inputs, outputs = [value_info("image", ("N", 3, "H", "W"))], [value_info("vector", ("N", 4))]
    open_size = write(tmp_path / "open.onnx", steps, inputs, outputs, constants)
    assert load(f"onnx:{open_size}?size=8&range=0..1").encode(PIXELS).shape == (5, 4)
    with pytest.raises(InputError, match="does not take images of 9 × 9 px") as error:
        load(f"onnx:{open_size}?size=9&range=0..1")
    assert "\n" not in str(error.value)


def test_weights_in_graphs_within_steps_are_looked_at_too(tmp_path: Path) -> None:
    from onnx_makers import nested

    matrix = tensor("matrix", np.ones((3, 4), np.float32), location="../../secret")
    inner = nested(5, matrix) + nested(1, node("Identity", ["matrix"], "out"))
    step = node("If", ["image"], "vector") + nested(5, nested(1, "then_branch") + nested(6, inner))
    constant = node("Constant", [], "c") + nested(5, nested(1, "value") + nested(5, matrix))
    for one in (step, constant):
        file = write(
            tmp_path / "net.onnx",
            [one],
            [value_info("image", IMAGE)],
            [value_info("vector", (1, 3))],
        )
        with pytest.raises(InputError, match="which is outside its folder"):
            read_facts(file)
