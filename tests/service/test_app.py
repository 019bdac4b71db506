"""The addresses of the API: what they answer."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gmvaluator import Valuation
from gmvaluator.service.models import id_of, token_of
from image_makers import encode
from service_makers import ODD_ID, picture, pixels, sent, wait_for_job


def test_a_match_is_what_the_command_line_prints(
    client: TestClient, home: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    file = home / "generated" / "3.png"
    for name in ("index", "run"):
        answer = client.post(f"/v1/match?run={name}&top=4", files=sent(file.read_bytes())).json()
        _, out, _ = call("match", home / name, file, "--top", 4, "--json")
        (printed,) = json.loads(out)
        (match,) = answer["matches"]
        names = ("train_id", "distance", "score")
        lines = [{name: line[name] for name in names} for line in match["contributors"]]
        assert lines == printed["contributors"]
        for name in ("quality", "match_p", "copy_of"):
            assert match[name] == printed[name]


def test_a_match_has_shares_labels_owners_and_pictures(client: TestClient) -> None:
    answer = client.post("/v1/match?run=index&top=5", files=sent(picture())).json()
    (match,) = answer["matches"]
    assert sum(line["share"] for line in match["contributors"]) == pytest.approx(100)
    assert match["without_source"] in (True, False)
    for line in match["contributors"]:
        assert line["label"] in "012"
        assert line["owner"] in ("Ann", "Bob")
        for kind in ("image", "thumbnail"):
            got = client.get(line[kind])
            assert got.status_code == 200
            assert Image.open(io.BytesIO(got.content)).size == (12, 12)


def test_a_copy_is_named(client: TestClient, home: Path) -> None:
    content = (home / "train" / "0" / "000.png").read_bytes()
    (match,) = client.post("/v1/match?run=run", files=sent(content)).json()["matches"]
    assert match["copy_of"] == ["train/0/000.png"]
    assert match["contributors"][0]["train_id"] == "train/0/000.png"


def test_a_picture_that_cannot_be_read_is_listed_beside_the_others(client: TestClient) -> None:
    whole = picture()
    answer = client.post("/v1/match?run=run", files=sent(whole, whole[:60], b"text", whole)).json()
    assert [match["source"] for match in answer["matches"]] == ["0.png", "3.png"]
    assert [skipped["name"] for skipped in answer["skipped"]] == ["1.png", "2.png"]
    assert answer["matches"][0]["contributors"] == answer["matches"][1]["contributors"]


def test_an_odd_id_has_an_address(client: TestClient) -> None:
    train_id = f"train/{ODD_ID}"
    token = token_of(train_id)
    assert id_of(token) == train_id
    answer = client.get(f"/v1/train/{token}/image?run=index")
    assert answer.status_code == 200
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.array_equal(shown, pixels(39))


def test_a_training_image_is_encoded_anew(home: Path, client: TestClient) -> None:
    token = token_of("train/0/000.png")
    original = (home / "train" / "0" / "000.png").read_bytes()
    answer = client.get(f"/v1/train/{token}/image?run=run")
    assert b"tEXt" in original
    assert b"secret" not in answer.content
    assert answer.headers["content-type"] == "image/png"


def test_values_are_paged_sorted_and_filtered(client: TestClient, home: Path) -> None:
    valuation = Valuation.load(home / "run")

    def ids(query: str) -> list[str]:
        answer = client.get(f"/v1/values?run=run&{query}").json()
        return [value["train_id"] for value in answer["values"]]

    best = client.get("/v1/values?run=run&limit=3").json()
    assert best["total"] == 40
    assert [one["rank"] for one in best["values"]] == sorted(valuation.ranks)[:3]
    first = best["values"][0]
    row = valuation.train_ids.index(first["train_id"])
    assert first["value"] == valuation.values[row]
    assert ids("limit=500&sort=train_id") == sorted(valuation.train_ids)
    assert ids("limit=500&sort=train_id&descending=true") == sorted(valuation.train_ids)[::-1]
    assert ids("limit=2&offset=2&sort=train_id") == sorted(valuation.train_ids)[2:4]
    assert len(ids("limit=500&label=1")) == 13
    assert len(ids("limit=500&owner=Ann")) == 20
    assert ids("text=0/03") == [name for name in ids("limit=500") if "0/03" in name]
    for column in ("value", "n_supported", "label", "nearest_distance"):
        assert sorted(ids(f"limit=500&sort={column}")) == sorted(valuation.train_ids)


def test_runs_are_listed(client: TestClient) -> None:
    index, run = client.get("/v1/runs").json()["runs"]
    assert (index["name"], index["kind"], index["n_generated"]) == ("index", "index", None)
    assert (run["name"], run["kind"], run["n_generated"]) == ("run", "run", 6)
    assert run["labels"] == ["0", "1", "2"]
    assert run["owners"] == ["Ann", "Bob"]
    assert run["settings"]["encoder"] == "pixels@8"


def test_a_job_ends_with_a_run_that_the_library_reads(
    client: TestClient, home: Path, tmp_path: Path
) -> None:
    contents = [(home / "generated" / f"{row}.png").read_bytes() for row in range(6)]
    accepted = client.post("/v1/value?run=run", files=sent(*contents))
    assert accepted.status_code == 202
    job = wait_for_job(client, accepted.json()["id"])
    assert accepted.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["images"], job["reason"]) == ("done", 6, None)
    packed = client.get(job["result"])
    zipfile.ZipFile(io.BytesIO(packed.content)).extractall(tmp_path / "run")
    valuation, wanted = Valuation.load(tmp_path / "run"), Valuation.load(home / "run")
    assert np.array_equal(valuation.values, wanted.values)
    assert str(home) not in (tmp_path / "run" / "run.json").read_text()
    listed = client.get(f"/v1/values?job={job['id']}&limit=1").json()["values"]
    assert listed[0]["value"] == wanted.values.max()
    assert client.get("/v1/jobs").json()["jobs"][0]["id"] == job["id"]
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 200
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_a_job_without_a_readable_picture_fails_with_a_reason(client: TestClient) -> None:
    accepted = client.post("/v1/value?run=index", files=sent(b"text", picture()[:50])).json()
    job = wait_for_job(client, accepted["id"])
    assert job["state"] == "failed"
    assert "can be read" in job["reason"]


def test_metrics_count_requests_and_jobs(client: TestClient) -> None:
    client.post("/v1/match?run=run", files=sent(picture()))
    text = client.get("/metrics").text
    assert 'gmvaluator_requests_total{address="/v1/match",method="POST",status="200"}' in text
    assert 'gmvaluator_jobs{state="queued"} 0.0' in text


def test_the_page_is_at_the_root(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "/openapi.json" in answer.text


def test_every_answer_and_problem_is_in_the_document(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], path
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)
            assert method == "post" or "requestBody" not in operation
    examples = [
        name for name, schema in document["components"]["schemas"].items() if "examples" in schema
    ]
    assert sorted(examples) == ["Contributor", "Job", "Match"]


def test_grey_and_colour_files_of_the_same_pixels_match_alike(
    client: TestClient,
) -> None:
    grey = np.repeat(pixels(7)[:, :, :1], 3, axis=2)
    as_colour, as_grey = encode(grey), encode(grey[:, :, 0])
    answer = client.post("/v1/match?run=index", files=sent(as_colour, as_grey)).json()
    first, second = answer["matches"]
    assert first["contributors"] == second["contributors"]
