"""The direction of imports, and what must not load before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import gmvaluator

ROOT = Path(gmvaluator.__file__).parent

# each layer may import from the layers above it and from its own package, never from below
LAYERS = (
    {"errors", "versions", "cache", "progress"},
    {"memory", "money"},
    {"derived", "publishing", "geometry", "sealing", "sources", "weight_sources"},
    {"decoding", "downloads"},
    {"batching", "weights", "store"},
    {"images", "upkeep"},
    {"arrays", "generators", "registration"},
    {"encoders"},
    {"embeddings"},
    {"indexes"},
    {"product_quantization"},
    {"recall", "quality", "samplers"},
    {"rerank"},
    {"clusters", "duplicates", "values", "kernel_ridge"},
    {
        "landmarks",
        "conformal",
        "bootstrap",
        "run_files",
        "run_sides",
        "showing",
        "spread",
        "owners",
        "withdrawal",
    },
    {"plots"},
    {"settings", "settlement", "valuation"},
    {"baselines", "contested", "fitted", "ledger"},
    {"fitting", "laws", "ledger_writing", "runs", "saved", "index_cache", "weighing"},
    {"recalling"},
    {"unattributed"},
    {"stages"},
    {"valuator"},
    {"copies", "input_checks"},
    {"report", "doctor", "evaluation", "curation", "verify"},
    {"evidence", "payout_record"},
    {"audit"},
    {"demo", "command_options", "console", "extension", "payout", "uncertainty", "stability"},
    {
        "audit_command",
        "curate_command",
        "evaluate_command",
        "payout_command",
        "report_command",
        "stability_command",
        "uncertainty_command",
        "verify_command",
    },
    {"cli"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules() -> list[Path]:
    return sorted(
        file for file in ROOT.rglob("*.py") if file.parent != ROOT or file.stem != "__init__"
    )


def top(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def statements(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """All imports of a file, at whatever depth."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(file: Path) -> set[str]:
    """Top-level parts of the package that a file imports anywhere, type checking included."""
    names: set[str] = set()
    for node in statements(file):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "gmvaluator":
                names |= {f"gmvaluator.{alias.name}" for alias in node.names}
            else:
                names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("gmvaluator.")}


def test_every_module_has_a_layer() -> None:
    found = {top(file) for file in modules()}
    assert found - set(RANK) == set(), "add new modules to LAYERS"
    assert set(RANK) - found == set(), "remove modules that are gone from LAYERS"


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    own = top(file)
    wrong = {name for name in imported(file) - {own} if RANK[name] >= RANK[own]}
    assert not wrong, f"{own} may not import {sorted(wrong)}"


def users_of(*packages: str) -> set[str]:
    """Top-level parts of the package that import any of these packages, anywhere."""
    users = set()
    for file in modules():
        for node in statements(file):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(f"{name}.".startswith(f"{package}.") for name in names for package in packages):
                users.add(top(file))
    return users


def test_only_the_decoder_uses_pil() -> None:
    users = users_of("PIL")
    assert "decoding" in users
    assert users <= {"decoding", "images", "batching"}


def test_only_downloads_open_connections() -> None:
    network = users_of("urllib.request", "huggingface_hub", "requests", "socket", "http.client")
    assert network == {"downloads"}


def test_command_line_and_package_load_without_heavy_libraries() -> None:
    heavy = ["torch", "faiss", "numpy", "pandas", "pyarrow", "openvino", "timm", "PIL", "rich"]
    code = (
        "import sys, gmvaluator, gmvaluator.cli; "
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
