"""Services in this process, and what is sent to them."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from gmvaluator.service.app import Config, create_app
from image_makers import encode

PIXELS: dict[str, Any] = {"encoder": "pixels@8", "rerank": "none", "k": 5}
ODD_ID = "2/ä #?%2e..&=+ 039.png"
"""An id that no address holds as it is."""


def pixels(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)


def wait_until_ready(client: Any) -> None:
    ends = time.monotonic() + 60
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < ends
        time.sleep(0.02)


def served(tmp_path: Path, *folders: Path, **config: Any) -> TestClient:
    """A client of a service; used by `with`."""
    app = create_app(Config(folders, jobs=tmp_path / "jobs", cache=tmp_path / "cache", **config))
    return TestClient(app, base_url="http://localhost")


def sent(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    """Pictures as the parts of a form."""
    return [("images", (f"{row}.png", content)) for row, content in enumerate(contents)]


def picture(seed: int = 100) -> bytes:
    """A PNG file that is no training image."""
    return encode(pixels(seed))


def wait_for_job(client: TestClient, job_id: str) -> dict[str, Any]:
    """The job once it has ended."""
    ends = time.monotonic() + 60
    while True:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "running"):
            return job
        assert time.monotonic() < ends, job
        time.sleep(0.02)


def with_text(png: bytes, text: bytes = b"place\0secret") -> bytes:
    """The same picture with a text behind its head, as cameras and editors leave there."""
    chunk = b"tEXt" + text
    checked = len(text).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return png[:33] + checked + png[33:]
