"""docs/reference/python.md lists every name that README and the site tell a reader to import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import doc_blocks
import gmvaluator
from doc_blocks import ROOT

REFERENCE = ROOT / "docs" / "reference" / "python.md"
DIRECTIVE = re.compile(
    r"^::: (?P<path>[\w.]+)\n(?:    options:\n      members: \[(?P<members>[^\]]*)\]\n)?", re.M
)


def imports(text: str) -> Iterator[tuple[str, str]]:
    """(module, name) of every `from gmvaluator… import …` in Python code."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gmvaluator":
            yield from ((str(node.module), alias.name) for alias in node.names)


def told() -> dict[tuple[str, str], str]:
    """The names that pages import, and one page of each."""
    return {
        name: page.relative_to(ROOT).as_posix()
        for page in doc_blocks.pages()
        for block in doc_blocks.blocks(page)
        if block.kind == "python"
        for name in imports(block.text)
    }


def resolve(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return import_module(path)
    except ModuleNotFoundError:
        return getattr(import_module(module), name)


def listed(text: str) -> list[Any]:
    """The objects that a reference page documents."""
    objects = []
    for directive in DIRECTIVE.finditer(text):
        home = resolve(directive["path"])
        if directive["members"] is not None:
            objects += [getattr(home, name.strip()) for name in directive["members"].split(",")]
        elif hasattr(home, "__path__") or type(home).__name__ == "module":
            public = {name: value for name, value in vars(home).items() if not name.startswith("_")}
            exported = getattr(home, "__all__", ())
            objects += [
                value
                for name, value in public.items()
                if name in exported or getattr(value, "__module__", "") == home.__name__
            ]
        else:
            objects.append(home)
    return objects


LISTED = listed(REFERENCE.read_text(encoding="utf-8"))
TOLD = told()


@pytest.mark.parametrize("name", TOLD, ids=".".join)
def test_a_name_of_a_page_is_importable_and_listed(name: tuple[str, str]) -> None:
    module, attribute = name
    found = getattr(import_module(module), attribute)
    assert any(found is each for each in LISTED), (
        f"{TOLD[name]} imports {attribute} from {module}, and {REFERENCE.name} does not list it"
    )


def test_the_names_of_the_package_are_listed() -> None:
    for name in gmvaluator.__all__:
        assert any(getattr(gmvaluator, name) is each for each in LISTED), name


def test_the_version_is_that_of_the_package() -> None:
    assert re.match(r"\d+\.\d+", gmvaluator.__version__)


def test_a_name_that_is_not_listed_is_noticed() -> None:
    few = listed("::: gmvaluator.errors\n\n::: gmvaluator.settings\n    options:\n      members: "
                 "[Settings]\n\n::: gmvaluator.images.imageset.ImageSet\n")  # fmt: skip
    names = {each.__name__ for each in few}
    assert {"InputError", "Settings", "ImageSet"} <= names
    assert not {"GMValuator", "preset_settings"} & names
    text = "from gmvaluator.report import (\n    a,\n    b as c,\n)\nimport os\n"
    assert list(imports(text)) == [("gmvaluator.report", "a"), ("gmvaluator.report", "b")]


def test_pages_are_read() -> None:
    assert ("gmvaluator", "GMValuator") in TOLD
    assert len(TOLD) > 20
    assert all(Path(ROOT, page).is_file() for page in TOLD.values())
