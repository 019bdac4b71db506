"""Makers of image files and data sets for tests: real files, small, the same on every run."""

from __future__ import annotations

import io
import json
import math
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont


def random_images(n: int, size: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    """(n, size, size, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def photographs(n: int, seed: int = 0, side: int = 28) -> NDArray[np.uint8]:
    """(n, side, side, 3) uint8 textures with the spectrum of photographs, about 1 / frequency."""
    rng = np.random.default_rng(seed)
    frequencies = np.fft.fftfreq(side)
    radius = np.hypot(frequencies[:, None], frequencies)
    radius[0, 0] = 1 / side
    spectrum = np.fft.fft2(rng.normal(size=(n, 4, side, side))) / radius**1.3
    texture = np.fft.ifft2(spectrum).real
    texture /= texture.std(axis=(2, 3), keepdims=True)
    # what the channels share, and a third as much of their own
    light, colours = texture[:, :1], texture[:, 1:]
    contrast = np.exp(rng.normal(-1.6, 0.4, (n, 1, 1, 1)))
    mean = rng.uniform(0.25, 0.75, (n, 1, 1, 1)) + rng.normal(0, 0.06, (n, 3, 1, 1))
    pixels = np.clip(mean + contrast * (light + 0.3 * colours), 0, 1)
    return np.ascontiguousarray((255 * pixels).astype(np.uint8).transpose(0, 2, 3, 1))


def encode(image: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An array or PIL image as the content of a file."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def write_files(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Files by relative path; makes the folders."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def image_folder(folder: Path, n: int = 6, size: int = 8, seed: int = 0, classes: int = 2) -> Path:
    """n random PNGs as `class0/000.png`, `class1/001.png`, … (classes=0: no sub-folders)."""
    names = [f"class{i % classes}/{i:03d}.png" if classes else f"{i:03d}.png" for i in range(n)]
    images = random_images(n, size, seed)
    return write_files(
        folder, {name: encode(image) for name, image in zip(names, images, strict=True)}
    )


def write_parquet(
    path: Path,
    contents: Sequence[bytes | None],
    *,
    paths: Sequence[str | None] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    class_names: Sequence[str] | None = None,
    row_group_size: int | None = None,
) -> Path:
    """A Parquet file in the Hugging Face image layout; `columns` may hold `label`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [
        {"bytes": content, "path": name}
        for content, name in zip(contents, paths or [None] * len(contents), strict=True)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), **(columns or {})})
    if class_names is not None:
        features = {"label": {"names": list(class_names), "_type": "ClassLabel"}}
        described = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": described})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_tar(path: Path, contents: Mapping[str, bytes]) -> Path:
    """An uncompressed tar archive of regular files, in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def png_of_size(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG (8-bit grey) whose header claims any size; the pixels are `body`, not the truth."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            png_chunk(b"IHDR", header),
            png_chunk(b"IDAT", zlib.compress(body)),
            png_chunk(b"IEND", b""),
        )
    )


def png_chunk(kind: bytes, data: bytes, checksum: bytes | None = None) -> bytes:
    """One chunk of a PNG, with the right checksum unless another one is given."""
    right = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + (checksum or right)


def png_with(chunks: bytes, png: bytes, *, after_pixels: bool = False) -> bytes:
    """A PNG with more chunks after its header or before its end."""
    at = len(png) - 12 if after_pixels else 33
    return png[:at] + chunks + png[at:]


def drawn_icons() -> NDArray[np.uint8]:
    """(72, 48, 48, 3) icons of three families: faces, clocks and letters in a box.

    Icons of a family differ by a small part of the picture, as emoji do.
    """
    return np.stack([*_faces(), *_clocks(), *_letters()])


def _icon(draw: Callable[[ImageDraw.ImageDraw], None]) -> NDArray[np.uint8]:
    """Drawn at 192 pixels and made smaller, so that edges are smooth."""
    image = Image.new("RGB", (192, 192), "white")
    draw(ImageDraw.Draw(image))
    return np.asarray(image.resize((48, 48), Image.Resampling.LANCZOS))


def _faces() -> Iterator[NDArray[np.uint8]]:
    for eye in range(4):
        for mouth in range(6):

            def draw(pen: ImageDraw.ImageDraw, eye: int = eye, mouth: int = mouth) -> None:
                pen.ellipse((18, 18, 174, 174), fill="gold", outline="peru", width=4)
                for x in (66, 126):
                    width, height = ((10, 14), (18, 4), (18, 18), (4, 26))[eye]
                    box = (x - width, 72 - height, x + width, 72 + height)
                    pen.ellipse(box, fill="white" if eye == 2 else "black")
                if mouth == 0:
                    pen.ellipse((78, 108, 114, 156), fill="maroon")
                elif mouth == 1:
                    pen.chord((60, 84, 132, 156), 0, 180, fill="maroon")
                elif mouth == 2:
                    pen.rectangle((60, 126, 132, 138), fill="maroon")
                elif mouth == 3:
                    pen.chord((60, 108, 132, 180), 180, 360, fill="white")
                elif mouth == 4:
                    pen.line((60, 150, 132, 114), fill="maroon", width=12)

            yield _icon(draw)


def _clocks() -> Iterator[NDArray[np.uint8]]:
    for half in range(24):

        def draw(pen: ImageDraw.ImageDraw, half: int = half) -> None:
            pen.ellipse((18, 18, 174, 174), fill="aliceblue", outline="dimgray", width=10)
            for turn, length, width in ((half / 24, 42, 9), (half % 2 / 2, 63, 6)):
                angle = 2 * math.pi * turn
                end = (96 + length * math.sin(angle), 96 - length * math.cos(angle))
                pen.line((96, 96, *end), fill="black", width=width)

        yield _icon(draw)


def _letters() -> Iterator[NDArray[np.uint8]]:
    for letter in "0123456789ACEFHKLMNPRTUX":

        def draw(pen: ImageDraw.ImageDraw, letter: str = letter) -> None:
            pen.rounded_rectangle((15, 15, 177, 177), 27, fill="steelblue")
            font = ImageFont.load_default(108)
            pen.text((96, 96), letter, font=font, fill="white", anchor="mm")

        yield _icon(draw)
