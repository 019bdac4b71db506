"""Decoding photographs: JPEGs at a fraction of their size, other decoders, and what it changes.

    pip install simplejpeg 'PyTurboJPEG<2' pyvips pyvips-binary opencv-python-headless
    python benchmarks/decoding.py --data DATA --out docs/results

Four tables. Decoders: processor time from a file's bytes to 160 × 160 pixels, and how far the
pixels are from those of the whole image, resized; decoders that are not installed are left out.
Embedding: images a second from files to vectors of EfficientNet-Lite0 at 160 px, with whole images
and as the program decodes, and its two halves alone; the ratio of the first two is also given by
processor time, which other programs disturb less. Two encoders: one pass over the files against one
pass for each. Effect: vectors, contributors and the identical class ratio (C1) of the default
preset with whole images and as the program decodes. DATA holds cifar10/ (Hugging Face layout),
which the photographs are made of (`photographs.py`).
"""

from __future__ import annotations

import importlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from photographs import KINDS, photograph, photographs
from PIL import Image
from results import arguments, publish

from gmvaluator import GMValuator, ImageSet, Weights
from gmvaluator.encoders import load_encoder
from gmvaluator.encoders.backends import Runtime
from gmvaluator.encoders.base import Encoder
from gmvaluator.encoders.embedding import embed
from gmvaluator.images.decoding import Decoder, Preprocessing

SIDE = 160
ENCODER = f"efficientnet-lite0@{SIDE}"
BICUBIC = Image.Resampling.BICUBIC
DECODED = {512: 24, 1_024: 16, 2_048: 8}
EMBEDDED = {500: 256, 1_024: 192, 2_048: 96}
VALUED, GENERATED, TOP = {1_024: 800, 2_048: 200}, 100, 30
Pixels = NDArray[np.uint8]
Way = Callable[[bytes], Pixels]


def main() -> None:
    """Parse, measure, write."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    encoder = load_encoder(ENCODER, Weights(offline=True), Runtime("cpu"))
    small = load_encoder("pixels@14", Weights(offline=True), Runtime("cpu"))
    kinds = [(side, kind) for kind in KINDS for side in DECODED]
    decoders = [row for pair in kinds for row in compare_decoders(args.data, *pair, args.rounds)]
    kinds = [(side, kind) for kind in KINDS for side in EMBEDDED]
    embedded = [measure(args.data, *pair, encoder, small, args.rounds) for pair in kinds]
    effect = [measure_effect(args.data, side) for side in VALUED]
    result = {"load_before": load, "decoders": decoders, "embedding": embedded, "effect": effect}
    publish(args.out, "decoding", result, lines_of(decoders, embedded, effect))


# --- decoders ------------------------------------------------------------------------------------


def resized(pixels: Pixels) -> Pixels:
    """(SIDE, SIDE, 3) by Pillow's bicubic filter."""
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), BICUBIC))


def whole(content: bytes) -> Pixels:
    """By Pillow, from the whole image."""
    return np.asarray(Image.open(io.BytesIO(content)).resize((SIDE, SIDE), BICUBIC))


def ours(content: bytes) -> Pixels:
    """As the program decodes."""
    return Decoder(content, 10**9).input(Preprocessing(SIDE))


def side_of(content: bytes) -> int:
    """Of the image in a file."""
    return Image.open(io.BytesIO(content)).width


def other_decoders() -> dict[str, Way]:
    """Decoders that are installed, by name, each at the smallest size of at least twice SIDE."""
    makers: dict[str, Callable[[], Way]] = {
        "simplejpeg": _simplejpeg,
        "PyTurboJPEG": _turbojpeg,
        "OpenCV": _opencv,
        "torchvision": _torchvision,
        "pyvips": _pyvips,
    }
    ways = {}
    for name, make in makers.items():
        try:
            ways[name] = make()
        except (ImportError, RuntimeError, OSError) as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}", flush=True)
    return ways


def _simplejpeg() -> Way:
    simplejpeg: Any = importlib.import_module("simplejpeg")

    return lambda content: resized(
        simplejpeg.decode_jpeg(content, "RGB", min_height=2 * SIDE, min_width=2 * SIDE)
    )


def _turbojpeg() -> Way:
    turbojpeg: Any = importlib.import_module("turbojpeg")

    decoder = turbojpeg.TurboJPEG(os.environ.get("TURBOJPEG"))

    def way(content: bytes) -> Pixels:
        side = side_of(content)
        eighths = next(n for n in (1, 2, 3, 4, 5, 6, 7, 8) if side * n >= 16 * SIDE)
        factor = (1, 8 // eighths) if 8 % eighths == 0 else (eighths, 8)
        factor = (3, 4) if eighths == 6 else factor
        return resized(decoder.decode(content, turbojpeg.TJPF_RGB, scaling_factor=factor))

    return way


def _opencv() -> Way:
    cv2: Any = importlib.import_module("cv2")

    cv2.setNumThreads(1)
    reduced = {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }

    def way(content: bytes) -> Pixels:
        scale = max(scale for scale in reduced if side_of(content) >= 2 * SIDE * scale)
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), reduced[scale])
        small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)

    return way


def _torchvision() -> Way:
    import torch
    from torchvision.io import decode_jpeg

    torch.set_num_threads(1)

    def way(content: bytes) -> Pixels:
        picture = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        small = torch.nn.functional.interpolate(
            picture[None], (SIDE, SIDE), mode="bicubic", antialias=True
        )
        return np.asarray(small[0].permute(1, 2, 0))

    return way


def _pyvips() -> Way:
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    pyvips: Any = importlib.import_module("pyvips")

    pyvips.cache_set_max(0)
    return lambda content: np.asarray(
        pyvips.Image.thumbnail_buffer(content, SIDE, height=SIDE, size="force").numpy()
    )


def compare_decoders(data: Path, side: int, kind: str, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of a processor an image, the least of interleaved rounds, by decoder."""
    files = photographs(data, side, DECODED[side], kind)
    ways = {"Pillow, whole": whole, "Pillow, as the program": ours, **other_decoders()}
    reference = np.stack([whole(file) for file in files]).astype(int)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    differences: dict[str, float] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            pixels = [way(file) for file in files]
            seconds[name].append((time.process_time() - start) / len(files))
            differences[name] = float(np.abs(np.stack(pixels) - reference).mean())
    return [
        {
            "side": side,
            "kind": kind,
            "kilobytes": round(float(np.mean([len(file) for file in files])) / 1e3),
            "decoder": name,
            "milliseconds": round(1e3 * min(seconds[name]), 2),
            "times_whole": round(min(seconds["Pillow, whole"]) / min(seconds[name]), 2),
            "grey_levels": round(differences[name], 3),
        }
        for name in ways
    ]


# --- embedding -----------------------------------------------------------------------------------


@contextmanager
def whole_images() -> Iterator[None]:
    """JPEGs are decoded whole, as before there were fractions."""
    with mock.patch.object(Decoder, "_scale", return_value=1):
        yield


def measure(
    data: Path, side: int, kind: str, encoder: Encoder, small: Encoder, rounds: int
) -> dict[str, Any]:
    """Images a second from files, medians of interleaved rounds."""
    files = photographs(data, side, EMBEDDED[side], kind)
    with tempfile.TemporaryDirectory() as scratch:
        for number, file in enumerate(files):
            (Path(scratch) / f"{number:04d}.jpg").write_bytes(file)
        images = ImageSet.open(scratch)
        pixels = next(images.batches(encoder.preprocessing)).pixels

        def all_whole() -> None:
            with whole_images():
                embed(images, encoder)

        def decoder_alone() -> None:
            for _ in images.batches(encoder.preprocessing):
                pass

        def network_alone() -> None:
            for _ in range(0, len(images), len(pixels)):
                encoder.encode(pixels)

        def two_passes() -> None:
            embed(images, encoder)
            embed(images, small)

        ways: Mapping[str, Callable[[], object]] = {
            "whole": all_whole,
            "ours": lambda: embed(images, encoder),
            "decoder alone": decoder_alone,
            "network alone": network_alone,
            "two encoders, two passes": two_passes,
            "two encoders, one pass": lambda: embed(images, encoder, others=[small]),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                start, busy = time.perf_counter(), time.process_time()
                way()
                if number:  # the first round compiles and warms
                    seconds[name].append(time.perf_counter() - start)
                    spent[name].append(time.process_time() - busy)
    rates = {name: len(files) / statistics.median(times) for name, times in seconds.items()}
    processor = {name: statistics.median(times) for name, times in spent.items()}
    slower = min(rates["decoder alone"], rates["network alone"])
    both = 1 / (1 / rates["decoder alone"] + 1 / rates["network alone"])
    row = {
        "side": side,
        "kind": kind,
        "kilobytes": round(float(np.mean([len(file) for file in files])) / 1e3),
        "images": len(files),
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "processor_milliseconds": {
            name: round(1e3 * times / len(files), 2) for name, times in processor.items()
        },
        "times_whole": round(rates["ours"] / rates["whole"], 2),
        "times_whole_processor": round(processor["whole"] / processor["ours"], 2),
        "decoder_times_whole_processor": round(
            (processor["whole"] - processor["network alone"]) / processor["decoder alone"], 2
        ),
        "of_the_slower_alone": round(rates["ours"] / slower, 2),
        "of_one_after_the_other": round(rates["ours"] / both, 2),
        "one_pass_times_two": round(
            rates["two encoders, one pass"] / rates["two encoders, two passes"], 2
        ),
    }
    print(row, flush=True)
    return row


# --- effect --------------------------------------------------------------------------------------


def measure_effect(data: Path, side: int) -> dict[str, Any]:
    """What decoding at a fraction changes of vectors and of a valuation's contributors."""
    n, rng = VALUED[side], np.random.default_rng(0)
    sets, labels = {}, {}
    for part, count in (("train", n), ("test", GENERATED)):
        table = pq.read_table(data / "cifar10" / f"{part}.parquet")
        # the files list one class after the other
        table = table.take(rng.permutation(len(table))[:count])
        label = next(name for name in table.column_names if "label" in name)
        labels[part] = np.asarray(table[label])
        small = [picture["bytes"] for picture in table["image"].to_pylist()]
        files = [photograph(file, side, row, "sharp") for row, file in enumerate(small)]
        sets[part] = ImageSet.open(files)
    vectors, tops = [], []
    for how in (whole_images, _as_it_is):
        with how():
            valuator = GMValuator(k=TOP, quality="none", null="off", dedup="none", cache=False)
            valuation = valuator.fit(sets["train"]).value(sets["test"])
        fitted = valuator.fitted_
        if fitted is None:
            raise RuntimeError("the valuator was not fitted")
        vectors.append(fitted.spaces[0].vectors)
        tops.append(valuation.contributions.rows)
    before, after = vectors
    moved = np.linalg.norm(after - before, axis=1)
    apart = np.sqrt(np.maximum(2 - 2 * before @ before.T, 0)) + 9 * np.eye(n)
    ratios = [float((labels["train"][top] == labels["test"][:, None]).mean()) for top in tops]
    shared = [len({*old} & {*new}) / TOP for old, new in zip(*tops, strict=True)]
    row = {
        "side": side,
        "train": n,
        "generated": GENERATED,
        "moved": float(np.median(moved)),
        "moved_of_the_distance_to_the_nearest": float(np.median(moved / apart.min(axis=1))),
        "same_contributors": float(np.mean(shared)),
        "same_first": float(np.mean(tops[0][:, 0] == tops[1][:, 0])),
        "class_ratio_whole": ratios[0],
        "class_ratio": ratios[1],
    }
    print(row, flush=True)
    return row


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def lines_of(
    decoders: list[dict[str, Any]], embedded: list[dict[str, Any]], effect: list[dict[str, Any]]
) -> list[str]:
    """The four tables."""
    lines = [
        f"| photographs | px | KB | decoder, to {SIDE} px | processor ms an image "
        "| × Pillow, whole | mean difference, grey levels |",
        "|---" * 7 + "|",
    ]
    for row in decoders:
        lines.append(
            f"| {row['kind']} | {row['side']} | {row['kilobytes']} | {row['decoder']} "
            f"| {row['milliseconds']:.2f} | {row['times_whole']:.2f} | {row['grey_levels']:.3f} |"
        )
    lines += [
        "",
        "| photographs | px | KB | embedding, images/s: whole images | as the program | × "
        "| × by processor time | decoding alone, × by processor time | decoder alone, images/s "
        "| network alone, images/s | part of the slower alone | × one after the other |",
        "|---" * 12 + "|",
    ]
    for row in embedded:
        rates = row["images_per_second"]
        ratios = ("times_whole", "times_whole_processor", "decoder_times_whole_processor")
        cells = [f"{rates[name]:.0f}" for name in ("whole", "ours")]
        cells += [f"{row[name]:.2f}" for name in ratios]
        cells += [f"{rates[name]:.0f}" for name in ("decoder alone", "network alone")]
        cells += [f"{row[name]:.2f}" for name in ("of_the_slower_alone", "of_one_after_the_other")]
        lines.append(
            f"| {row['kind']} | {row['side']} | {row['kilobytes']} | {' | '.join(cells)} |"
        )
    lines += [
        "",
        f"| photographs | px | {ENCODER} and pixels@14, images/s: two passes | one pass | × |",
        "|---" * 5 + "|",
    ]
    for row in embedded:
        rates = row["images_per_second"]
        lines.append(
            f"| {row['kind']} | {row['side']} | {rates['two encoders, two passes']:.0f} "
            f"| {rates['two encoders, one pass']:.0f} | {row['one_pass_times_two']:.2f} |"
        )
    lines += [
        "",
        "| px | n × m | a vector moves by, median | of the distance to the nearest other image "
        f"| same contributors, of {TOP} | same first | class ratio, whole images "
        "| as the program |",
        "|---" * 8 + "|",
    ]
    for row in effect:
        lines.append(
            f"| {row['side']} | {row['train']} × {row['generated']} | {row['moved']:.4f} "
            f"| {row['moved_of_the_distance_to_the_nearest']:.3f} "
            f"| {row['same_contributors']:.3f} | {row['same_first']:.2f} "
            f"| {row['class_ratio_whole']:.4f} | {row['class_ratio']:.4f} |"
        )
    return lines


if __name__ == "__main__":
    main()
