"""An index and a run of forty small images, and a service of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gmvaluator import GMValuator
from image_makers import encode
from service_makers import ODD_ID, PIXELS, pixels, served, wait_until_ready, with_text


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/, generated/, index/ and run/; the training set is a manifest with artists."""
    folder = tmp_path_factory.mktemp("service")
    lines = ["path,label,artist"]
    for row in range(40):
        name = ODD_ID if row == 39 else f"{row % 3}/{row:03d}.png"
        file = folder / "train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(with_text(encode(pixels(row))))
        lines.append(f"train/{name},{row % 3},{'Ann' if row % 2 else 'Bob'}")
    (folder / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "generated").mkdir()
    for row in range(6):
        (folder / "generated" / f"{row}.png").write_bytes(encode(pixels(100 + row)))
    valuator = GMValuator(cache=False, **PIXELS).fit(folder / "train.csv")
    valuator.save(folder / "index")
    valuator.value(folder / "generated").save(folder / "run")
    return folder


@pytest.fixture(scope="session")
def client(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Of a service of the index and the run, with owners, ready."""
    place = tmp_path_factory.mktemp("served")
    with served(place, home / "index", home / "run", by="artist") as client:
        wait_until_ready(client)
        yield client
