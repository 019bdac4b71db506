"""Decoding, resizing and encoding of single images: all PIL code lives here."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from gmvaluator.arguments import whole_number
from gmvaluator.errors import ImageError, InputError
from gmvaluator.images.metadata import bare_jpeg, bare_png, jpeg_size
from gmvaluator.images.pillow import check_size, reader
from gmvaluator.images.sources import Raw
from gmvaluator.images.sources.base import HEAD, Picture, image_format, no_image

PIXEL_LIMIT = 89_478_485  # Pillow's own limit: a quarter GiB at 3 bytes a pixel
READING_RULES = "3"
"""Changes when another set of files is readable, or when a file gives other pixels. Vectors that
were kept under other rules do not count."""
LEAST_SIDE = 160
"""Inputs of fewer pixels a side are decoded as if they had so many: the networks of a preset then
share one decoding, and a vector does not depend on the networks that share it."""
_SCALES = (8, 4, 2)
"""Fractions 1/8, 1/4 and 1/2 at which a JPEG is decoded without its fine frequencies."""
_WHITE = (255, 255, 255)
_ORIENTATION = 0x0112
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Part = tuple[float, float, float, float]
"""Left, upper, right and lower edge of a part of a picture, in pixels."""
Interpolation = Literal["bilinear", "bicubic", "box", "lanczos"]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's square input.

    `size` is in pixels. `fit="squash"` scales both sides to `size`; `"crop"` scales the shorter
    side to `size` and keeps the centre, as torchvision's Resize and CenterCrop do.
    `interpolation` names a PIL filter, which smooths when shrinking. An image that has the size
    already is not resampled. A JPEG at least four times too large is decoded at 1/2, 1/4 or 1/8 of
    its size first, at least twice the wanted one.
    """

    size: int
    fit: Literal["squash", "crop"] = "squash"
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", whole_number("size", self.size, 1))
        if self.fit not in ("squash", "crop"):
            raise InputError(f"fit={self.fit!r} was given; wanted 'squash' or 'crop'.")
        if self.interpolation not in _FILTERS:
            raise InputError(
                f"interpolation={self.interpolation!r} was given; wanted one of "
                f"{', '.join(map(repr, _FILTERS))}."
            )


def unless_error(raw: Raw | ImageError) -> Raw:
    """The content a reader gave, or its error, raised."""
    if isinstance(raw, ImageError):
        raise raw
    return raw


def content_key_of(raw: Raw | ImageError, picture: Image.Image | None = None) -> str:
    """32 hex digits, blake2b-128 of encoded bytes, else of shape, dtype and pixels.

    `picture` is `raw` decoded, where it is at hand. Raises `raw` if it is an error.
    """
    raw = unless_error(raw)
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(raw, bytes):
        digest.update(raw)
        return digest.hexdigest()
    if not isinstance(raw, np.ndarray):
        # A PIL image's own bytes leave out its palette and transparency.
        raw = np.asarray((picture or decode(raw, PIXEL_LIMIT)).convert("RGB"))
    digest.update(f"{raw.shape} {raw.dtype} ".encode())
    digest.update(np.ascontiguousarray(raw).data)
    return digest.hexdigest()


def decode(raw: Raw, pixel_limit: int) -> Image.Image:
    """An upright picture of mode L or RGB; `ImageError` with a short reason if that fails."""
    return Decoder(raw, pixel_limit).picture()


class Decoder:
    """One image, read now and decoded where it is asked for, each size once.

    Attributes:
        width, height: of the whole image, before it is turned upright.

    Raises:
        ImageError: with a short reason: the head is damaged or the image has too many pixels. So do
            the methods, where the pixels are damaged.
    """

    def __init__(self, raw: Raw, pixel_limit: int) -> None:
        self._pixel_limit = pixel_limit
        self._decoded: dict[int, tuple[Image.Image, Part]] = {}
        self._inputs: dict[Preprocessing, NDArray[np.uint8]] = {}
        self._name = "PIL image"
        if isinstance(raw, bytes):
            self._content, self._name = raw, _format_of(raw)
            self._opened: ImageFile.ImageFile | None = self._open()
            self.width, self.height = self._opened.size
            return
        with self._naming_damage():
            whole = _upright(_in_memory(raw))
        self.width, self.height = whole.size
        self._decoded[1] = whole, (0, 0, *whole.size)

    def picture(self) -> Image.Image:
        """The whole image, upright, of mode L or RGB."""
        return self._at(1)[0]

    def input(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """(size, size) grey or (size, size, 3) RGB, as `preprocessing` says."""
        if preprocessing not in self._inputs:
            size = (self.width, self.height)
            scale = _input_scale(size, preprocessing) if self._is_jpeg else 1
            picture, part = self._at(scale)
            self._inputs[preprocessing] = np.asarray(fit(picture, preprocessing, part))
        return self._inputs[preprocessing]

    def thumbnail(self, max_side: int) -> NDArray[np.uint8]:
        """(h, w) grey or (h, w, 3) RGB; an image of more than `max_side` pixels a side shrunk."""
        size = (self.width, self.height)
        scale = _scale(size, max(size), max_side) if self._is_jpeg else 1
        picture, part = self._at(scale)
        return np.asarray(shrink(picture, max_side, part))

    @property
    def _is_jpeg(self) -> bool:
        return self._name == "JPEG"

    def _at(self, scale: int) -> tuple[Image.Image, Part]:
        """The image at 1/scale of its size, upright, and the part of the picture that it covers."""
        if scale not in self._decoded:
            opened, self._opened = self._opened or self._open(), None
            with self._naming_damage():
                if scale > 1:
                    opened.draft(None, (self.width // scale, self.height // scale))
                opened.load()
                picture = _upright(opened)
                part: Part = (0, 0, *picture.size)
                if scale > 1:
                    exact = (self.width / scale, self.height / scale)
                    part = _part_of(picture.size, exact, _orientation(opened))
                self._decoded[scale] = picture, part
        return self._decoded[scale]

    def _open(self) -> ImageFile.ImageFile:
        """The file with its head read, within the limit."""
        content = self._content
        turned: dict[str, bytes | str] = {}
        with self._naming_damage():
            open_file = reader(self._name, self._pixel_limit)
            if self._name == "PNG":
                content, turned = bare_png(content)
            elif self._name == "JPEG":
                content = bare_jpeg(content)
            picture = open_file(io.BytesIO(content))
            picture.info.update(turned)
            check_size(picture.size, self._pixel_limit)
        return picture

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except ImageError:
            raise
        except Exception as error:  # damaged files make the plugins raise nearly anything
            raise ImageError(_damage(self._name, error)) from error


def fraction_of(raw: Raw, preprocessing: Preprocessing) -> int:
    """s where `Decoder.input` decodes a JPEG at 1/s of its size; 0 for all other images."""
    if not isinstance(raw, bytes) or image_format(raw) != "JPEG":
        return 0
    size = jpeg_size(raw)
    return 1 if size is None else _input_scale(size, preprocessing)


def _input_scale(size: tuple[int, int], preprocessing: Preprocessing) -> int:
    return _scale(size, min(size), max(preprocessing.size, LEAST_SIDE))


def _scale(size: tuple[int, int], side: int, wanted: int) -> int:
    """The largest s such that 1/s of a side of a JPEG is at least twice the wanted pixels.

    Neither side of the image may become less than a pixel.
    """
    most = min(side / (2 * wanted), *size)
    return next((scale for scale in _SCALES if scale <= most), 1)


def _in_memory(raw: NDArray[np.uint8] | Picture) -> Image.Image:
    """An array or a PIL image as a PIL image."""
    if not isinstance(raw, np.ndarray):
        return cast("Image.Image", raw)
    grey = raw.ndim == 3 and raw.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(raw[:, :, 0] if grey else raw))


def _format_of(content: bytes) -> str:
    if not content:
        raise ImageError("empty file")
    name = image_format(content)
    if name is None:
        raise no_image(content[:HEAD])
    return name


def _damage(name: str, error: Exception) -> str:
    text = str(error).split("\n")[0]
    cut = ("truncated", "unexpected end", "not enough image data", "reached eof", "incomplete")
    if isinstance(error, EOFError) or any(word in text.lower() for word in cut):
        return f"truncated {name}"
    return f"damaged {name}: {text[:80] or type(error).__name__}"


def _part_of(picture: tuple[int, int], size: tuple[float, float], orientation: int) -> Part:
    """The part of an upright picture that an image covers, whose last pixels may be cut.

    Args:
        picture: width and height, upright.
        size: width and height of the image in pixels of the picture, before it is turned.
    """
    width, height = size[::-1] if orientation > 4 else size
    # turning may bring the end of a side to its beginning
    left = picture[0] - width if orientation in (2, 3, 6, 7) else 0
    upper = picture[1] - height if orientation in (3, 4, 7, 8) else 0
    return left, upper, left + width, upper + height


def _upright(picture: Image.Image) -> Image.Image:
    turned = _TRANSPOSE.get(_orientation(picture))
    flat = _to_colour(picture)
    return flat.transpose(turned) if turned is not None else flat


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1..8. Pillow turns TIFF itself; unreadable EXIF counts as upright."""
    carriers = ("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp")
    if picture.format == "TIFF" or not any(key in picture.info for key in carriers):
        return 1
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # any error of the EXIF parser; the pixels are fine without it
        return 1


def _to_colour(picture: Image.Image) -> Image.Image:
    """Any mode as L or RGB.

    Alpha goes over white. 16-bit grey is scaled by 255/65535. 32-bit integers that stay within
    0..255 are kept, others count as 16-bit. Floats within [0, 1] are multiplied by 255, others
    clipped to 0..255.
    """
    if picture.mode in ("L", "RGB") and "transparency" not in picture.info:
        return picture
    if picture.mode == "F" or picture.mode.startswith("I"):
        return Image.fromarray(_to_bytes(np.asarray(picture), picture))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        canvas = Image.new("RGB", picture.size, _WHITE)
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _to_bytes(values: NDArray[Any], picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode == "F":
        if not np.isfinite(values).all():
            raise ImageError("float image with NaN or infinite values")
        scale = 255.0 if values.min() >= 0 and values.max() <= 1 else 1.0
        return np.rint(np.clip(values * scale, 0, 255)).astype(np.uint8)
    wide = values.astype(np.int64)
    # Older Pillow versions open 16-bit PNG and PPM as 32-bit integers.
    plain = picture.mode == "I" and picture.format not in ("PNG", "PPM")
    if plain and wide.min() >= 0 and wide.max() <= 255:
        return wide.astype(np.uint8)
    return ((np.clip(wide, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8)


def fit(
    picture: Image.Image, preprocessing: Preprocessing, part: Part | None = None
) -> Image.Image:
    """The picture, or a part of it, as a square of `preprocessing.size`; see `Preprocessing`."""
    size = preprocessing.size
    if picture.size == (size, size):
        return picture
    left, upper, right, lower = part or (0, 0, *picture.size)
    if preprocessing.fit == "crop":
        # The crop of the scaled image, computed without the rest of it: a 1 × 80,000,000 image
        # would be huge when scaled.
        width, height = right - left, lower - upper
        short = min(width, height)
        scaled = [size if side == short else int(size * side / short) for side in (width, height)]
        offset = [round((side - size) / 2) for side in scaled]
        unit = (width / scaled[0], height / scaled[1])
        right = left + min(width, (offset[0] + size) * unit[0])
        lower = upper + min(height, (offset[1] + size) * unit[1])
        left, upper = left + offset[0] * unit[0], upper + offset[1] * unit[1]
    box = (left, upper, right, lower)
    return picture.resize((size, size), _FILTERS[preprocessing.interpolation], box=box)


def refit(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """(B, 3, H, W) images that were fitted to one network's input, fitted to another's."""
    if pixels.shape[2:] == (preprocessing.size, preprocessing.size):
        return pixels
    fitted = np.empty((*pixels.shape[:2], preprocessing.size, preprocessing.size), np.uint8)
    for target, image in zip(fitted, pixels, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        target[:] = np.asarray(fit(picture, preprocessing)).transpose(2, 0, 1)
    return fitted


def shrink(picture: Image.Image, max_side: int, part: Part | None = None) -> Image.Image:
    """The picture, or a part of it, scaled to at most `max_side` pixels a side.

    Smaller pictures stay as they are.
    """
    part = part or (0, 0, *picture.size)
    sides = (part[2] - part[0], part[3] - part[1])
    scale = max_side / max(sides)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in sides)
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=part)


def encode_png(array: NDArray[np.uint8]) -> bytes:
    """A PNG file of an image (H, W) grey or (H, W, 3) RGB, uint8; else `InputError`."""
    target = io.BytesIO()
    _picture_of(array).save(target, "PNG")
    return target.getvalue()


def encode_jpeg(array: NDArray[np.uint8], quality: int) -> bytes:
    """A JPEG file (quality 1 to 95) of an image as `encode_png` takes it."""
    target = io.BytesIO()
    _picture_of(array).save(target, "JPEG", quality=quality)
    return target.getvalue()


def _picture_of(array: NDArray[np.uint8]) -> Image.Image:
    channels = array.shape[2:]
    if array.dtype != np.uint8 or array.ndim < 2 or channels not in ((), (3,)) or not array.size:
        raise InputError(
            f"{array.dtype} of shape {array.shape} was given; wanted uint8 (H, W) or (H, W, 3)."
        )
    return Image.fromarray(array)
