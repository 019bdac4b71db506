"""Pillow's readers of image files, under the rules of this package.

Pillow has switches for the whole process: `ImageFile.LOAD_TRUNCATED_IMAGES`, which reads half a
picture, `Image.MAX_IMAGE_PIXELS`, `GifImagePlugin.LOADING_STRATEGY`. Other code of the process may
set them, and which images are readable must not depend on it. Setting them here would change what
other threads read meanwhile. So the readers here are Pillow's own, whose functions see our values
in place of the switches.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any, cast

from PIL import Image, ImageFile

from gmvaluator.errors import ImageError
from gmvaluator.threads import ignored

PLUGINS = {
    "PNG": "PngImagePlugin.PngImageFile",
    "JPEG": "JpegImagePlugin.JpegImageFile",
    "GIF": "GifImagePlugin.GifImageFile",
    "BMP": "BmpImagePlugin.BmpImageFile",
    "WEBP": "WebPImagePlugin.WebPImageFile",
    "TIFF": "TiffImagePlugin.TiffImageFile",
    "PPM": "PpmImagePlugin.PpmImageFile",
    "AVIF": "AvifImagePlugin.AvifImageFile",
    "QOI": "QoiImagePlugin.QoiImageFile",
}


def quiet_pillow() -> AbstractContextManager[None]:
    """Drop Pillow's warnings about odd metadata; damage is reported as `ImageError`."""
    return ignored(Warning, r"PIL\.")


def check_size(size: tuple[int, int], pixel_limit: int) -> None:
    """`ImageError` for an image of more pixels than the limit."""
    width, height = size
    if width * height > pixel_limit:
        raise ImageError(
            f"{width}×{height} pixels exceed the limit of {pixel_limit} pixels; to read the image, "
            "raise the limit (--pixel-limit, in Python pixel_limit)"
        )


@cache
def reader(name: str, pixel_limit: int) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    """The class that opens files of one format (a key of `PLUGINS`).

    `Image.open` would also try other formats, and check its own limit of pixels.

    Raises:
        ImageError: this Pillow does not read the format.
    """
    module_name, _, class_name = PLUGINS[name].partition(".")
    try:
        module = import_module(f"PIL.{module_name}")
        plugin: type[ImageFile.ImageFile] = getattr(module, class_name)
    except ImportError:
        raise _too_old(name) from None
    if not getattr(module, "SUPPORTED", True):
        raise _too_old(name)
    truncated = {"LOAD_TRUNCATED_IMAGES": False}

    def check(size: tuple[int, int], **_: object) -> None:
        check_size(size, pixel_limit)

    rules: dict[str, Any] = {
        "Image": _Changed(Image, {"_decompression_bomb_check": check}),
        "ImageFile": _Changed(ImageFile, truncated),
    }
    if hasattr(module, "LoadingStrategy"):
        rules["LOADING_STRATEGY"] = module.LoadingStrategy.RGB_AFTER_FIRST
    # between the plugin and Pillow's base class, where `super()` of the plugin finds it
    base = type("Whole", (ImageFile.ImageFile,), _bound_anew(ImageFile.ImageFile, truncated))
    return cast(
        "Callable[[io.BytesIO], ImageFile.ImageFile]",
        type(class_name, (plugin, base), _bound_anew(plugin, rules)),
    )


def _too_old(name: str) -> ImageError:
    return ImageError(f"{name} needs a newer Pillow: pip install -U pillow")


class _Changed:
    """A module with other values of some names; the module itself stays as it is."""

    def __init__(self, module: ModuleType, changes: Mapping[str, Any]) -> None:
        self._module = module
        self.__dict__.update(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _bound_anew(cls: type, changes: Mapping[str, Any]) -> dict[str, FunctionType]:
    """The methods of a class, whose global names have other values."""
    methods: dict[str, FunctionType] = {}
    for name, method in vars(cls).items():
        if isinstance(method, FunctionType):
            copy = FunctionType(
                method.__code__,
                {**method.__globals__, **changes},
                name,
                method.__defaults__,
                method.__closure__,
            )
            copy.__kwdefaults__ = method.__kwdefaults__
            methods[name] = copy
    return methods
