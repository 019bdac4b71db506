"""The direction of imports, and what must not load before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gmvaluator

ROOT = Path(gmvaluator.__file__).parent


def modules() -> list[Path]:
    return sorted(
        file for file in ROOT.rglob("*.py") if file.parent != ROOT or file.stem != "__init__"
    )


def room(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def statements(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """All imports of a file, at whatever depth."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def imports_any(file: Path, packages: Sequence[str]) -> bool:
    """Whether a file imports any of these packages, anywhere."""
    names: set[str] = set()
    for node in statements(file):
        module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        names |= {f"{module}{alias.name}." for alias in node.names}
    return any(name.startswith(f"{package}.") for name in names for package in packages)


def users_of(*packages: str) -> set[str]:
    """Rooms that import any of these packages, anywhere."""
    return {room(file) for file in modules() if imports_any(file, packages)}


# a table names the files of these rooms, so that a new one needs no second mention
TABLES = {"cli", "encoders", "evaluation/studies", "generators", "images/sources"}
TABLES |= {"baselines", "scoring/weightings"}


@pytest.mark.parametrize(
    "folder",
    sorted(
        name
        for file in ROOT.rglob("*/__init__.py")
        if (name := file.parent.relative_to(ROOT).as_posix()) not in TABLES
    ),
)
def test_the_docstring_of_a_room_names_its_files(folder: str) -> None:
    room = ROOT / folder
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    parts = {file.stem for file in room.glob("*.py")} - {"__init__"}
    parts |= {file.parent.name for file in room.glob("*/__init__.py")}
    assert {part for part in parts if f"`{part}`" not in text} == set()


def test_modules_import_each_other_in_no_circle() -> None:
    """Imports within functions and for types count."""
    files = {
        ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): file
        for file in ROOT.rglob("*.py")
    }
    imported: dict[str, set[str]] = {name: set() for name in files}
    for name, file in files.items():
        for node in statements(file):
            base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for whole in (f"{base}{alias.name}" for alias in node.names):
                imported[name].add(whole if whole in files else base.removesuffix("."))
    graph = {name: names & files.keys() - {name} for name, names in imported.items()}
    # the one circle that is left: the method `Valuation.reweigh`
    graph["gmvaluator.runs.valuation"].remove("gmvaluator.runs.reweighing")
    # an error that names the modules of a circle
    TopologicalSorter(graph).prepare()


def test_only_images_uses_pil() -> None:
    assert users_of("PIL") == {"images"}


def test_only_weights_and_the_service_open_connections() -> None:
    network = users_of(
        "urllib.request", "huggingface_hub", "pooch", "requests", "socket", "http.client"
    )
    assert network == {"weights", "service"}


def test_tests_of_the_product_import_nothing_of_the_research_wing() -> None:
    """The encoder `generator` reads generators, so its own tests train one."""
    wing = [f"gmvaluator.{name}" for name in ("evaluation", "baselines", "generators")]
    tests = Path(__file__).parent
    users = {
        str(file.relative_to(tests))
        for file in tests.rglob("test_*.py")
        if imports_any(file, wing) and file.parent.name not in ("research", "docs")
    }
    assert users == {"encoders/test_space_encoders.py"}


def test_command_line_and_package_load_without_heavy_libraries() -> None:
    heavy = ["torch", "faiss", "numpy", "pandas", "pyarrow", "openvino", "timm", "PIL", "rich"]
    heavy += ["fastapi", "uvicorn", "prometheus_client", "http.client"]
    code = (
        "import sys, gmvaluator, gmvaluator.cli.app; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_public_names_are_few_and_all_there() -> None:
    assert len(gmvaluator.__all__) <= 15
    for name in gmvaluator.__all__:
        assert getattr(gmvaluator, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Valuer'"):
        gmvaluator.Valuer  # noqa: B018
