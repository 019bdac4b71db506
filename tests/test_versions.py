"""What errors advise to install works: gmvaluator is on no registry, the packages of extras are."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from doc_blocks import ROOT
from gmvaluator import versions
from gmvaluator.versions import how_to_install

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_advice_names_the_packages_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = ["numpy>=1", "a<2,>=1; extra == 'x'", 'b >=3 ; extra == "x"', "c; extra == 'xy'"]
    monkeypatch.setattr(versions, "requires", lambda name: metadata)
    assert how_to_install("x") == "pip install 'a<2,>=1' 'b >=3'"


def test_without_metadata_the_advice_is_a_checkouts(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "requires", absent)
    assert how_to_install("clip") == "pip install '.[clip]' in the checkout of gmvaluator"


def test_advised_extras_exist_and_no_registry_is_asked_for_gmvaluator() -> None:
    advised = set()
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name != "versions.py":
            assert "gmvaluator[" not in text, file
        advised |= set(re.findall(r"how_to_install\(['\"]([\w-]+)['\"]\)", text))
        advised |= set(re.findall(r"(?<!ConfigDict\()extra=\"([\w-]+)\"", text))
    assert advised >= {"clip", "demo", "diffusers", "lpips", "maniqa"}
    assert advised <= set(EXTRAS)


def test_a_package_that_is_installed_later_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "gmv-later" not in versions.installed(("gmv-later",))
    (tmp_path / "gmv_later-1.5.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: gmv-later\nVersion: 1.5\n"
    (tmp_path / "gmv_later-1.5.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(tmp_path)
    assert versions.installed(("gmv-later",))["gmv-later"] == "1.5"
