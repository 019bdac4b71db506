"""Each line of the threat list in docs/howto/serve.md has a test, by the name that is there."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gmvaluator import InputError
from gmvaluator.service.guard import HEADERS, Guard, Rates
from gmvaluator.service.guard import client as client_of
from gmvaluator.service.limits import Limits
from gmvaluator.service.metrics import Metrics
from gmvaluator.service.models import token_of
from gmvaluator.service.problems import PROBLEMS
from gmvaluator.service.server import check_exposure
from gmvaluator.service.uploads import clean_name
from image_makers import encode
from malformed import bomb, malformed
from service_makers import picture, pixels, sent, served, wait_until_ready

ROOT = Path(__file__).parents[2]


def check_problem(answer: Any, name: str) -> dict[str, Any]:
    """The answer is a problem of this kind."""
    kind = PROBLEMS[name]
    assert answer.status_code == kind.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"/problems/{name}"
    assert problem["title"] == kind.title
    assert problem["status"] == kind.status
    assert problem["detail"]
    return problem


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture at all", "not an image file"),
        (b"", "empty file"),
        (bomb(), "30000×30000 pixels exceed the limit"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image file"),
    ],
)
def test_what_is_no_picture_is_refused(client: TestClient, content: bytes, reason: str) -> None:
    answer = client.post("/v1/match?run=run", files=sent(content))
    problem = check_problem(answer, "not-an-image")
    assert reason in problem["skipped"][0]["reason"]


def test_the_kind_of_a_file_is_read_from_its_content(client: TestClient) -> None:
    for name, kind in (("page.html", "text/html"), ("run.exe", "x/y"), ("../../a", "")):
        files = [("images", (name, picture(), kind))]
        answer = client.post("/v1/match?run=run", files=files)
        assert answer.status_code == 200
    files = [("images", ("good.png", b"GIF89a<script>", "image/png"))]
    check_problem(client.post("/v1/match?run=run", files=files), "not-an-image")


def test_malformed_uploads_are_answered_and_never_by_a_failure(client: TestClient) -> None:
    contents = list(malformed(300))
    statuses = set()
    for start in range(0, len(contents), 10):
        answer = client.post("/v1/match?run=index", files=sent(*contents[start : start + 10]))
        statuses.add(answer.status_code)
        if answer.status_code == 200:
            body = answer.json()
            assert len(body["matches"]) + len(body["skipped"]) == len(contents[start : start + 10])
    assert statuses <= {200, 422}


@pytest.mark.parametrize(
    ("headers", "content", "name"),
    [
        ({"Content-Type": "application/json"}, b"{}", "wrong-media-type"),
        ({}, b"", "wrong-media-type"),
        ({"Content-Type": "multipart/form-data"}, b"x", "bad-form"),
        ({"Content-Type": "multipart/form-data; boundary=a"}, b"", "no-image"),
        ({"Content-Type": "multipart/form-data; boundary=a"}, b"garbage", "bad-form"),
        ({"Content-Type": 'multipart/form-data; boundary="\xff"'}, b"--\xff", "bad-form"),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    client: TestClient, headers: dict[str, str], content: bytes, name: str
) -> None:
    encoded = {key: value.encode("latin-1") for key, value in headers.items()}
    answer = client.post("/v1/match?run=run", content=content, headers=encoded)  # type: ignore[arg-type]
    check_problem(answer, name)


def test_a_form_without_pictures_is_refused(client: TestClient) -> None:
    check_problem(client.post("/v1/match?run=run", files={"other": b"x"}), "no-image")
    check_problem(client.post("/v1/value?run=run", files={"other": b"x"}), "no-image")


def test_bodies_pictures_and_waiting_are_bounded(home: Path, tmp_path: Path) -> None:
    limits = Limits(match_bytes=20_000, job_bytes=20_000, match_files=3, job_files=3, waiting=2)
    with served(tmp_path, home / "index", limits=limits) as client:
        wait_until_ready(client)
        for address in ("/v1/match", "/v1/value"):
            problem = check_problem(client.post(address, files=sent(bytes(30_000))), "too-large")
            assert problem["limit"] == 20_000
            check_problem(client.post(address, files=sent(*[b"x"] * 4)), "too-many-images")
        # a body that does not say its length
        chunks = (b"--a\r\n" + bytes(9_000) for _ in range(4))
        kind = {"Content-Type": "multipart/form-data; boundary=a"}
        check_problem(client.post("/v1/match", content=chunks, headers=kind), "too-large")
        busy = client.post("/v1/match", files=sent(*[picture()] * 3))
        check_problem(busy, "busy")
        assert int(busy.headers["retry-after"]) >= 1
        assert client.post("/v1/match", files=sent(picture())).status_code == 200


def test_jobs_are_bounded_in_number_and_room(home: Path, tmp_path: Path) -> None:
    with served(tmp_path, home / "index", limits=Limits(jobs_waiting=0)) as client:
        wait_until_ready(client)
        busy = client.post("/v1/value", files=sent(picture()))
        check_problem(busy, "busy")
        assert busy.headers["retry-after"]
    with served(tmp_path, home / "index", limits=Limits(jobs_bytes=500_000)) as client:
        wait_until_ready(client)
        check_problem(client.post("/v1/value", files=sent(bytes(600_000))), "disk-full")
        assert client.get("/v1/jobs").json()["total"] == 0
        assert [path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir()] == []


def test_a_slow_body_is_given_up() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def slow() -> dict[str, Any]:
        await asyncio.sleep(0.03)
        return {"type": "http.request", "body": b"x", "more_body": True}

    sent_messages: list[Any] = []

    async def send(message: Any) -> None:
        sent_messages.append(message)

    guard = Guard(app, Limits(match_seconds=0.1), Metrics(), lambda: True)
    scope = {
        "type": "http", "method": "POST", "path": "/v1/match", "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")],
    }  # fmt: skip
    asyncio.run(guard(scope, slow, send))
    start = sent_messages[0]
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]


def test_one_client_cannot_send_without_end(home: Path, tmp_path: Path) -> None:
    limits = Limits(rate=0.1, burst=4)
    with served(tmp_path, home / "index", limits=limits) as client:
        answers = [client.get("/healthz") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    check_problem(answers[-1], "too-many-requests")
    assert int(answers[-1].headers["retry-after"]) in (9, 10)


def test_buckets_fill_again_and_are_one_a_client() -> None:
    rates = Rates(rate=2, burst=2)
    assert [rates.take("a", 0.0) for _ in range(3)] == [0, 0, 0.5]
    assert rates.take("b", 0.0) == 0
    assert rates.take("a", 0.5) == 0
    assert rates.take("a", 0.5) == 0.5
    for number in range(25_000):
        rates.take(f"c{number}", 1.0)
    assert len(rates._left) <= 10_001
    addresses = ["2001:db8:0:1::1", "2001:db8:0:1:ff::2", "2001:db8:0:2::1"]
    first, same, other = (client_of({"client": (address, 1)}) for address in addresses)
    assert first == same != other


def test_paths_of_a_request_open_no_file(client: TestClient, home: Path) -> None:
    secret = home / "run" / "run.json"
    for train_id in (str(secret), "../run/run.json", "run.json", "", "\x00", "train/"):
        token = token_of(train_id) or "AA"
        check_problem(client.get(f"/v1/train/{token}/image?run=run"), "unknown-image")
    for path in ("/../run.json", "/%2e%2e/%2e%2e/etc/passwd", "/page/index.html", "//etc/passwd"):
        check_problem(client.get(path), "not-found")
    check_problem(client.get(f"/v1/values?run={home / 'run'}"), "unknown-run")
    check_problem(client.get("/v1/jobs/..%2f..%2fx"), "not-found")
    check_problem(client.get("/v1/jobs/" + "0" * 32 + "/run.zip"), "unknown-job")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/train/a.b/image?run=run",
        "/v1/values?run=run&limit=501",
        "/v1/values?run=run&offset=-1",
        "/v1/values?run=run&sort=seed",
        "/v1/jobs?limit=x",
        "/v1/jobs/nothex",
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient, path: str) -> None:
    problem = check_problem(client.get(path), "bad-parameter")
    assert problem["errors"][0]["parameter"] in path or "/" in path
    assert problem["errors"][0]["reason"]


def test_a_token_is_wanted_below_v1(home: Path, tmp_path: Path) -> None:
    with served(tmp_path, home / "index", token="secret-ä") as client:
        right = {"Authorization": "Bearer secret-ä".encode()}
        for path in ("/v1/runs", "/metrics", "/v1", "/v1/nothing", "/v1/values"):
            for header in ({}, {"Authorization": "Bearer secret"}, {"Authorization": "secret-x"},
                           {"Authorization": "Basic secret"}):  # fmt: skip
                answer = client.get(path, headers=header)
                check_problem(answer, "no-token")
                assert answer.headers["www-authenticate"] == "Bearer"
        wait_until_ready(client)
        assert client.get("/v1/runs", headers=right).status_code == 200  # type: ignore[arg-type]
        assert client.get("/").status_code == client.get("/healthz").status_code == 200


def test_other_machines_need_a_token() -> None:
    with pytest.raises(InputError, match="pass --token TOKEN"):
        check_exposure("0.0.0.0", None)
    check_exposure("0.0.0.0", "secret")
    check_exposure("127.0.0.1", None)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1", "", "[", "@"],
)
def test_a_rebound_name_is_refused(client: TestClient, host: str) -> None:
    check_problem(client.get("/v1/runs", headers={"Host": host}), "wrong-host")


def test_names_that_are_allowed_are_answered(home: Path, tmp_path: Path) -> None:
    with served(tmp_path, home / "index", allowed_hosts=("Values.example",)) as client:
        for host in ("values.example", "VALUES.EXAMPLE:443", "127.0.0.1:9", "[::1]:8000"):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200
    with served(tmp_path, home / "index", host="0.0.0.0", token="t") as client:
        assert client.get("/healthz", headers={"Host": "192.0.2.7:80"}).status_code == 200
        check_problem(client.get("/healthz", headers={"Host": "evil.example"}), "wrong-host")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:9"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_cannot_call(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/v1/match?run=run", files=sent(picture()), headers=headers)
    check_problem(answer, "wrong-origin")
    check_problem(client.get("/v1/runs", headers=headers), "wrong-origin")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.get("/v1/runs", headers={"Origin": "http://localhost"}).status_code == 200


def test_every_answer_has_the_headers_of_safety(client: TestClient) -> None:
    answers = [
        *(client.get(path) for path in ("/", "/v1/runs", "/nothing", "/v1/jobs/x", "/metrics")),
        client.get("/", headers={"Host": "evil.example"}),
        client.post("/v1/match?run=run", files=sent(b"x")),
    ]
    for answer in answers:
        for name, value in HEADERS:
            assert answer.headers[name.decode()] == value.decode()
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_the_log_holds_no_content_name_or_id(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    files = [("images", ("my-private-name.png", picture()))]
    client.post("/v1/match?run=run", files=files)
    client.get(f"/v1/train/{token_of('train/0/000.png')}/image?run=run")
    client.get("/v1/values?run=run&text=my-private-text")
    lines = [record.getMessage() for record in caplog.records if "service" in record.name]
    assert any(line.startswith("POST /v1/match 200") for line in lines)
    shown = "\n".join(lines)
    assert "private" not in shown
    assert "000.png" not in shown


def test_a_run_that_was_deleted_is_gone(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "short")
    with served(tmp_path, tmp_path / "short") as client:
        wait_until_ready(client)
        assert client.get("/v1/values").status_code == 200
        shutil.rmtree(tmp_path / "short")
        check_problem(client.get("/v1/values"), "run-gone")
        check_problem(client.post("/v1/match", files=sent(picture())), "run-gone")
        (run,) = client.get("/v1/runs").json()["runs"]
        assert run["state"] == "gone"


def test_a_training_image_that_changed_is_not_shown(home: Path, tmp_path: Path) -> None:
    from gmvaluator import GMValuator

    shutil.copytree(home / "train", tmp_path / "train")
    GMValuator(encoder="pixels@8", rerank="none", cache=False).fit(tmp_path / "train").save(
        tmp_path / "changing"
    )
    with served(tmp_path, tmp_path / "changing") as client:
        wait_until_ready(client)
        (tmp_path / "train" / "0" / "000.png").write_bytes(encode(pixels(500)))
        (tmp_path / "train" / "0" / "003.png").unlink()
        for name in ("0/000.png", "0/003.png"):
            check_problem(client.get(f"/v1/train/{token_of(name)}/image"), "image-gone")
        assert client.get(f"/v1/train/{token_of('0/006.png')}/image").status_code == 200


def test_a_long_head_is_refused(client: TestClient) -> None:
    check_problem(client.get("/", headers={"X": "a" * 20_000}), "head-too-large")


def test_which_run_is_asked_for_must_be_clear(client: TestClient) -> None:
    check_problem(client.get("/v1/values"), "which-run")
    check_problem(client.get("/v1/values?run=other"), "unknown-run")
    check_problem(client.get("/v1/values?run=index"), "no-values")
    check_problem(client.get("/v1/runs/run"), "not-found")
    check_problem(client.put("/v1/runs"), "wrong-method")


def test_uploads_are_not_kept_in_the_cache(home: Path, tmp_path: Path) -> None:
    with served(tmp_path, home / "index") as client:
        wait_until_ready(client)
        before = sorted((tmp_path / "cache").rglob("*"))
        assert client.post("/v1/match", files=sent(picture(77))).status_code == 200
        assert sorted((tmp_path / "cache").rglob("*")) == before


def test_a_failure_says_nothing_of_its_cause(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret cause")

    monkeypatch.setattr("gmvaluator.service.app.run_answer", fail)
    with served(tmp_path, home / "index") as client:
        wait_until_ready(client)
        answer = client.get("/v1/runs")
    problem = check_problem(answer, "internal")
    assert "secret" not in answer.text
    assert problem["instance"] in caplog.text
    assert "secret cause" in caplog.text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\b.png", "b.png"),
        ("\x00\n\x1b[31m", "[31m"),
        ("", "7"),
        (None, "7"),
        ("x" * 500, "x" * 200),
        ("\udcff.png", "?.png"),
    ],
)
def test_names_of_uploads_are_cleaned(given: str | None, shown: str) -> None:
    assert clean_name(given, 7) == shown


def test_the_threats_of_the_page_have_these_tests() -> None:
    page = (ROOT / "docs" / "howto" / "serve.md").read_text(encoding="utf-8")
    listed = {
        word.strip("`") for line in page.splitlines() if line.startswith("| ")
        for word in line.split() if word.startswith("`test_")
    }  # fmt: skip
    here = Path(__file__).parent
    known = "".join(file.read_text(encoding="utf-8") for file in here.glob("test_*.py"))
    assert len(listed) > 15
    assert [name for name in listed if f"def {name}(" not in known] == []


def test_the_page_lists_every_problem() -> None:
    page = (ROOT / "docs" / "howto" / "serve.md").read_text(encoding="utf-8")
    for name, kind in PROBLEMS.items():
        assert f"| {kind.status} | `{name}` |" in page, name
