"""The shape of what the package writes and offers: files, columns, keys, names, parameters."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import gmvaluator

# objects whose keys are names of packages, which differ by what is installed
BY_PACKAGE = ("versions",)
SIMPLE = (type(None), bool, int, float, str)

RETYPED = {".settings.null": "string"}
"""Type now of the keys of run.json and index.json whose type changed on purpose."""
NULL_NAMES = {True: "withhold", False: "report", None: "off"}
"""What each recorded flag of the setting `null` is called now."""

ADDED_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "run/values.parquet": {"nearest_distance": "float"},
}
"""Columns with their types by file that were added on purpose, after the recorded ones."""


def with_shared_ranks(ranks: ArrayLike, values: ArrayLike) -> NDArray[np.int64]:
    """Recorded (n,) ranks as they are now: equal values share the least of their ranks.

    The recorded ranks ordered equal values by position.
    """
    _, groups = np.unique(np.asarray(values), return_inverse=True)
    least = np.full(groups.max() + 1, len(groups) + 1)
    np.minimum.at(least, groups, np.asarray(ranks))
    return np.asarray(least[groups])


def shape_of_folder(folder: Path) -> dict[str, Any]:
    """The files of a folder, each with what it holds.

    A Parquet file has its columns with their Arrow types, a JSON file its key paths with their
    types, a safetensors file its tensors with type and number of axes, a CSV file its header. Any
    other file has None.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): _shape_of_file(file) for file in files}


def _shape_of_file(file: Path) -> Any:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return {field.name: str(field.type) for field in pq.read_schema(file)}
    if file.suffix == ".json":
        return key_paths(json.loads(file.read_text(encoding="utf-8")))
    if file.suffix == ".safetensors":
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        return {name: [each["dtype"], len(each["shape"])] for name, each in header.items()}
    if file.suffix == ".csv":
        return file.read_text(encoding="utf-8").splitlines()[0]
    return None


def key_paths(content: Any, path: str = "") -> dict[str, str]:
    """The JSON type at every key path; entries of an array share the path that ends in []."""
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    found = {path or ".": kinds.get(type(content), "number")}
    if isinstance(content, dict):
        for key, each in content.items():
            own = "*" if path.rpartition(".")[2] in BY_PACKAGE else key
            _add(found, key_paths(each, f"{path}.{own}"))
    elif isinstance(content, list):
        for each in content:
            _add(found, key_paths(each, f"{path}[]"))
    return found


def _add(found: dict[str, str], more: Mapping[str, str]) -> None:
    for path, kind in more.items():
        kinds = {*found.get(path, kind).split("|"), *kind.split("|")}
        found[path] = "|".join(sorted(kinds))


def public_names() -> dict[str, Any]:
    """Every name of `gmvaluator.__all__`, with what its class offers."""
    return {name: _class_shape(getattr(gmvaluator, name)) for name in gmvaluator.__all__}


def _class_shape(cls: type) -> dict[str, Any]:
    own = [each for each in cls.__mro__ if each.__module__.split(".")[0] == "gmvaluator"]
    fields = getattr(cls, "__dataclass_fields__", {})
    names = sorted(
        {name for each in own for name in (*vars(each), *fields) if not name.startswith("_")}
    )
    public = {each for each in gmvaluator.__all__ if each != cls.__name__}
    shape: dict[str, Any] = {
        "bases": sorted(
            each.__name__
            for each in cls.__mro__[1:]
            if each.__name__ in public or each.__module__ == "builtins"
        ),
        "members": {name: _member(inspect.getattr_static(cls, name, None)) for name in names},
    }
    if not issubclass(cls, Exception):
        shape["made by"] = parameters(cls)
    else:
        shape["exit code"] = getattr(cls, "exit_code", None)
    return shape


def _member(member: Any) -> Any:
    called = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    if inspect.isfunction(called):
        return parameters(called)
    return "attribute"


def public_attributes() -> dict[str, list[str]]:
    """What objects of the public classes have, methods included, by the name of the class."""
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    settings: dict[str, Any] = {"encoder": "pixels@8", "rerank": "none", "cache": False, "k": 2}
    valuator = gmvaluator.GMValuator(**settings).fit(images)
    valuation = valuator.value(images[:2])
    objects = {
        "ImageSet": gmvaluator.ImageSet.open(images),
        "GMValuator": valuator,
        "settings of a GMValuator": valuator.settings,
        "Valuation": valuation,
        "contributors of a Valuation": valuation.contributors(0),
        "Skip": gmvaluator.Skip("picture.png", "truncated"),
    }
    return {
        name: [each for each in dir(an_object) if not each.startswith("_")]
        for name, an_object in objects.items()
    }


def parameters(called: Callable[..., Any]) -> dict[str, list[str]]:
    """Kind and default of each parameter; defaults that are objects are named by an ellipsis."""
    found = {}
    for name, each in inspect.signature(called).parameters.items():
        default = "required" if each.default is each.empty else "…"
        if isinstance(each.default, SIMPLE):
            default = repr(each.default)
        found[name] = [each.kind.description, default]
    return found
