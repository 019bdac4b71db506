"""Downloads, checked before they appear: the only network code of gmvaluator.

(diffusers, where it is asked for a pipeline of the hub, connects on its own.)
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gmvaluator.errors import MissingWeightsError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0


def fetch(url: str, target: Path, sha256: str = "") -> None:
    """Download `url` to `target`, which appears only complete and with the wanted digest.

    Raises OSError or http.client.HTTPException if it does not arrive, MissingWeightsError if the
    digest (or prefix) `sha256` differs. Either way nothing is left behind.
    """
    with _workplace(target) as work:
        part = work / target.name
        _receive(url, part, sha256)
        part.replace(target)


def fetch_archive(url: str, target: Path, sha256: str, members: Iterable[str]) -> None:
    """Download a ZIP file and publish its `members` below the folder `target`; see `fetch`."""
    with _workplace(target) as work:
        archive, unpacked = work / "archive.zip", work / "unpacked"
        _receive(url, archive, sha256)
        with zipfile.ZipFile(archive) as content:
            content.extractall(unpacked)
        lacking = [name for name in members if not (unpacked / name).exists()]
        if lacking:
            raise MissingWeightsError(f"the archive {url} lacks {', '.join(lacking)}")
        target.mkdir(exist_ok=True)
        for name in members:
            if not (target / name).exists():
                (unpacked / name).replace(target / name)


def fetch_hub(source: str, target: Path) -> None:
    """Download `hf:<owner>/<repo>/<file>` to `target` through the Hugging Face client."""
    from huggingface_hub import constants, hf_hub_download

    # the hub client alone retries for half a minute before it reports a missing network
    _require_reachable(constants.ENDPOINT)
    owner, repo, file = source.removeprefix("hf:").split("/", 2)
    with _workplace(target) as work:
        Path(hf_hub_download(f"{owner}/{repo}", file, local_dir=work)).replace(target)


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """A folder beside `target`, hence on the same file system, that vanishes afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _receive(url: str, part: Path, sha256: str) -> None:
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as reply, part.open("wb") as file:
        announced = reply.headers.get("Content-Length")
        while chunk := reply.read(CHUNK_BYTES):
            digest.update(chunk)
            size += file.write(chunk)
    if announced is not None and size != int(announced):
        raise ConnectionError(f"the connection ended after {size} of {announced} bytes")
    if not digest.hexdigest().startswith(sha256):
        raise MissingWeightsError(
            f"what arrived has SHA-256 {digest.hexdigest()[:16]}…, wanted {sha256[:16]}…"
        )


def _require_reachable(url: str) -> None:
    """OSError at once if no server answers at `url`; any answer will do."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as answer:
        answer.close()
