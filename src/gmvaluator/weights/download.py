"""Downloads, checked before they appear under their names: the only network code of gmvaluator.

(diffusers, which samples from pipelines of the hub, connects on its own.)
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gmvaluator.errors import MissingWeightsError
from gmvaluator.files.atomic import remove_leftovers
from gmvaluator.files.seals import hash_file

TIMEOUT_SECONDS = 30.0
RETRIES = 1


def fetch(url: str, target: Path, sha256: str = "", members: Sequence[str] = ()) -> None:
    """Download `url` to `target`, which appears only complete and with the right digest.

    Args:
        url: an address, or `hf:<owner>/<repo>/<file>` for the Hugging Face client.
        target: the file; for a ZIP archive the folder that its `members` are published in.
        sha256: the digest, or its first digits; "" where the publisher names none.
        members: for a ZIP archive, the files and folders to publish.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: the file does not arrive, or not as published.
            Errors of the Hugging Face client have no common base. Nothing is left behind.
        MissingWeightsError: another digest, or an archive without one of its members.
    """
    with _scratch_folder(target) as scratch:
        if url.startswith("hf:"):
            _fetch_hub(url, scratch).replace(target)
            return
        file = _fetch_url(url, scratch, sha256)
        if not members:
            file.replace(target)
            return
        shutil.unpack_archive(file, scratch / "unpacked", "zip")
        missing = [name for name in members if not (scratch / "unpacked" / name).exists()]
        if missing:
            raise MissingWeightsError(f"the archive {url} lacks {', '.join(missing)}")
        target.mkdir(exist_ok=True)
        for name in members:
            if not (target / name).exists():
                (scratch / "unpacked" / name).replace(target / name)


def _fetch_url(url: str, folder: Path, sha256: str) -> Path:
    import pooch

    # pooch takes whole digests only; torchvision publishes the first eight digits
    digest = sha256 if len(sha256) == 64 else None
    pooch.get_logger().setLevel("WARNING")
    name = "download"
    source = pooch.create(
        folder, base_url="", registry={name: digest}, urls={name: url}, retry_if_failed=RETRIES
    )
    file = Path(source.fetch(name, downloader=pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS)))
    if not hash_file(file).startswith(sha256):
        raise MissingWeightsError(
            f"the file that arrived has SHA-256 {hash_file(file)[:16]}…, wanted {sha256[:16]}…"
        )
    return file


def _fetch_hub(source: str, folder: Path) -> Path:
    import pooch
    from huggingface_hub import constants, hf_hub_download

    # a missing network is an error at once; the hub client would retry for half a minute
    pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS)(constants.ENDPOINT, "", None, check_only=True)
    owner, repo, file = source.removeprefix("hf:").split("/", 2)
    return Path(hf_hub_download(f"{owner}/{repo}", file, local_dir=folder))


@contextmanager
def _scratch_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target`, hence on the same file system, that is deleted afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    folder = target.with_name(f".{target.name}.part-{secrets.token_hex(8)}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
