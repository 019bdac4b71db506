"""Names that packages import on first use."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import gmvaluator
from gmvaluator import certainty, report
from gmvaluator.lazy import lazy_names

PACKAGES = [gmvaluator, certainty, report]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_name_can_be_imported(package: ModuleType) -> None:
    assert all(getattr(package, name) is not None for name in package.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_another_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'no'"):
        _ = package.no


def test_a_name_comes_from_its_module() -> None:
    get, _ = lazy_names("gmvaluator", {"Skip": "images"})
    assert get("Skip") is gmvaluator.Skip


@pytest.mark.parametrize("package", PACKAGES)
def test_dir_lists_the_public_names(package: ModuleType) -> None:
    assert {*package.__all__, "__doc__"} <= set(dir(package))
    assert "__version__" in dir(gmvaluator)


def test_dir_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys, gmvaluator; dir(gmvaluator), gmvaluator.__version__; "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
