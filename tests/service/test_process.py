"""`gmvaluator serve` as a process: start, client, slow heads, SIGKILL, ports, bad folders."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmvaluator import Client, ImageError, InputError, RunError, Valuation
from gmvaluator.errors import ServiceError
from service_makers import ODD_ID, picture
from service_process import Process, end, form, running, start

Call = Callable[..., tuple[int, str, str]]
SHORT = """
import gmvaluator.service.limits as limits, dataclasses
limits.Limits.__init__.__defaults__ = tuple(
    1.0 if field.name == "header_seconds" else field.default
    for field in dataclasses.fields(limits.Limits)
)
"""
SLOW = """
import time
from gmvaluator.service import worker
value = worker.Worker._value
def slow(self, job):
    time.sleep(0.2)
    value(self, job)
worker.Worker._value = slow
"""
"""A job takes so long that a kill meets it."""


@pytest.fixture(scope="module")
def service(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    jobs = tmp_path_factory.mktemp("jobs")
    with running(home / "run", "--jobs", jobs, "--by", "artist", code=SHORT) as service:
        yield service
    assert end(service) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


@pytest.fixture
def client(service: Process) -> Client:
    return Client(service.address)


def test_a_client_matches_as_the_command_line(client: Client, home: Path, call: Call) -> None:
    _, out, _ = call("match", home / "run", home / "generated", "--json", "--top", 3)
    printed = json.loads(out)
    matches = client.match(home / "generated", top=3)
    for match, wanted in zip(matches, printed, strict=True):
        got = json.loads(json.dumps(match.as_json()))
        assert got == wanted | {"source": wanted["generated_id"]}


def test_a_client_values_as_the_library(client: Client, home: Path, tmp_path: Path) -> None:
    wanted = Valuation.load(home / "run")
    valuation = client.value(home / "generated", to=tmp_path / "run")
    assert np.array_equal(valuation.values, wanted.values)
    assert valuation.generated_ids == wanted.generated_ids
    assert Valuation.load(tmp_path / "run").train_ids == wanted.train_ids
    job = client.submit(home / "generated")
    assert client.wait(job).n_supported.sum() == wanted.n_supported.sum()
    assert client.job(job).state == "done"
    assert len(client.values(job=job)) == 40
    client.cancel(job)
    with pytest.raises(InputError, match="No job has this id"):
        client.wait(job)


def test_a_client_reads_values_and_pictures(client: Client, home: Path) -> None:
    frame = client.values()
    wanted = Valuation.load(home / "run").to_pandas().set_index("train_id")
    assert frame["rank"].is_monotonic_increasing
    values = wanted["value"].to_dict()
    assert dict(zip(frame["train_id"], frame["value"], strict=True)) == values
    assert len(client.values(owner="Ann")) == 20
    assert list(client.values(text="039.png")["train_id"]) == [f"train/{ODD_ID}"]
    assert client.values(text="nothing has this").empty
    assert client.image(f"train/{ODD_ID}").startswith(b"\x89PNG")
    assert client.image("train/0/000.png", small=True).startswith(b"\x89PNG")
    assert [run["name"] for run in client.runs()] == ["run"]


def test_errors_of_a_client_are_those_of_the_package(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture()[:80])
    with pytest.raises(InputError, match="truncated PNG"):
        client.match(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(picture())
    with pytest.raises(ImageError, match=r"^a\.png: "):
        client.match(tmp_path)
    with pytest.raises(InputError, match=r"No run or index of this name is served\. Take a name"):
        client.match(tmp_path / "b.png", run="other")
    with pytest.raises(InputError, match=r"top: Input should be greater"):
        client.match(tmp_path / "b.png", top=0)
    (tmp_path / "only").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "only" / "a.png")
    with pytest.raises(RunError, match="is failed: none of the 1 images"):
        client.value(tmp_path / "only")
    with pytest.raises(ServiceError, match="cannot be reached"):
        Client("http://127.0.0.1:1").runs()
    with pytest.raises(InputError, match="is no address"):
        Client("ftp://127.0.0.1")


def test_a_body_of_100_megabytes_is_refused_with_an_answer(service: Process) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    connection.request("POST", "/v1/match", form([bytes(100_000_000)]), kind)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
    connection.close()


def test_a_slow_head_is_given_up(service: Process) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        started = time.monotonic()
        assert slow.recv(10) == b""
        assert 0.5 < time.monotonic() - started < 10
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as usual:
        for _ in range(2):
            usual.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += usual.recv(4000)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.7)


def test_a_huge_head_is_refused(service: Process) -> None:
    for size, end_of_head, statuses in (
        (20_000, b"\r\n\r\n", (b"HTTP/1.1 431", b"HTTP/1.1 400")),
        (60_000, b"", (b"HTTP/1.1 400",)),
    ):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as huge:
            huge.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * size + end_of_head)
            assert huge.recv(12) in statuses


def test_a_client_that_goes_is_not_waited_for(service: Process, client: Client) -> None:
    body = form([picture(seed) for seed in range(400, 432)])
    head = (
        f"POST /v1/match HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    for part in (body[:1000], body):
        with socket.create_connection(("127.0.0.1", service.port)) as gone:
            gone.sendall(head.encode() + part)
    counted: list[str] = []
    ends = time.monotonic() + 20
    while sum(counts := [int(float(number)) for number in counted]) < 1:
        assert time.monotonic() < ends, counts
        text = client._request("GET", "/metrics").decode()
        counted = re.findall(r'address="/v1/match",method="POST",status="499"} ([\d.]+)', text)
    assert client.match(picture_file(picture()))


def picture_file(content: bytes) -> Any:
    """A picture as a set of one array."""
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(content)))[None]


def test_no_job_is_lost_when_the_process_is_killed(home: Path, tmp_path: Path) -> None:
    """Twenty kills at other moments: benchmarks/serve_load.py."""
    service = start(home / "index", "--jobs", tmp_path, code=SLOW)
    service.wait_until_ready()
    client = Client(service.address)
    accepted = [client.submit(home / "generated").id for _ in range(3)]
    while client.job(accepted[0]).state == "queued":
        time.sleep(0.01)
    service.process.send_signal(signal.SIGKILL)
    service.process.communicate()
    with running(home / "index", "--jobs", tmp_path) as service:
        client = Client(service.address)
        wanted = Valuation.load(home / "run").values
        for job in accepted:
            assert np.array_equal(client.wait(job).values, wanted)
        assert client._json("GET", "/v1/jobs")["total"] == len(accepted)


def test_a_port_in_use_is_an_error(service: Process, home: Path, call: Call) -> None:
    code, _, err = call("serve", home / "run", "--port", service.port)
    assert code == 2
    assert f"port {service.port} of 127.0.0.1 cannot be listened at" in err
    code, _, err = call("serve", home / "run", "--host", "0.0.0.0")
    assert (code, "pass --token TOKEN" in err) == (2, True)


def test_a_folder_that_cannot_be_served_ends_the_command(
    home: Path, tmp_path: Path, call: Call
) -> None:
    code, _, err = call("serve", home / "train", "--port", 0, "--jobs", tmp_path / "jobs")
    assert code == 4
    assert "is no run folder" in err
    shutil.copytree(home / "index", tmp_path / "broken")
    (tmp_path / "broken" / "train.parquet").write_bytes(b"damaged")
    code, _, err = call("serve", tmp_path / "broken", "--port", 0, "--jobs", tmp_path / "jobs")
    assert code == 4
    assert "is damaged" in err.splitlines()[-1]
