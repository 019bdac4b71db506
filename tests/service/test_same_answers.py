"""The answer for a picture does not depend on the pictures beside it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from gmvaluator import GMValuator
from gmvaluator.errors import RunError
from gmvaluator.geometry import PRODUCT_ROWS, row_products, squared_by_product
from gmvaluator.service.limits import Limits
from gmvaluator.service.matching import Matcher, match_together
from gmvaluator.service.metrics import Metrics
from gmvaluator.service.uploads import Upload
from service_makers import picture, sent


@pytest.mark.parametrize("m", [1, 3, PRODUCT_ROWS, 2 * PRODUCT_ROWS + 5])
def test_rows_of_a_product_do_not_depend_on_their_number(m: int) -> None:
    random = np.random.default_rng(0)
    left, right = random.normal(size=(100, 588)), random.normal(size=(588, 300))
    whole = row_products(left, right)
    assert np.allclose(whole, left @ right)
    parts = [row_products(left[at : at + m], right) for at in range(0, 100, m)]
    assert np.array_equal(np.concatenate(parts), whole)
    squared = squared_by_product(left, right.T)[0]
    alone = [squared_by_product(left[at : at + 1], right.T)[0] for at in range(100)]
    assert np.array_equal(np.concatenate(alone), squared)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"quality": "realism", "null_measure": "neighbours", "weighting": "softmax"},
        {"rerank": {"pixels@8": 1.0, "pixels@14": 1.0}, "mirror": True},
        {"weighting": "ridge"},
    ],
)
def test_a_valuation_of_one_picture_is_its_part_of_a_valuation_of_many(
    digits: tuple[NDArray[np.uint8], NDArray[np.int64]], settings: dict[str, Any]
) -> None:
    small: dict[str, Any] = {"encoder": "pixels@8", "rerank": "none", "mirror": False} | settings
    valuator = GMValuator(cache=False, k=8, **small).fit(digits[0][:150])
    noise = np.random.default_rng(0).integers(0, 60, (20, 28, 28), np.uint8)
    generated = digits[0][200:220] // 2 + noise
    whole = valuator.value(generated)
    for start, stop in [*((j, j + 1) for j in range(20)), (0, 3), (5, 16)]:
        part = valuator.value(generated[start:stop])
        assert np.array_equal(part.quality, whole.quality[start:stop])
        assert part.match_p is not None
        assert whole.match_p is not None
        assert np.array_equal(part.match_p, whole.match_p[start:stop])
        for name in ("rows", "distances", "scores"):
            of_part, of_whole = (getattr(one.contributions, name) for one in (part, whole))
            assert np.array_equal(of_part, of_whole[start:stop]), name


def test_requests_at_the_same_time_get_the_answers_that_they_get_alone(client: TestClient) -> None:
    contents = [picture(seed) for seed in range(200, 224)]

    def match(content: bytes) -> Any:
        return client.post("/v1/match?run=index", files=sent(content)).json()["matches"]

    alone = [match(content) for content in contents]
    with ThreadPoolExecutor(12) as threads:
        together = list(threads.map(match, contents))
    assert together == alone
    counted = client.get("/metrics").text
    assert "gmvaluator_matched_together_bucket" in counted


def test_a_picture_that_fails_does_not_spoil_others(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = next(iter(client.app.app.state.service.models))  # type: ignore[attr-defined]
    bad = picture(301)

    def match(served: Any, uploads: Any) -> Any:
        if any(upload.content == bad for upload in uploads):
            raise RunError("a training image has changed")
        return match_together(served, uploads)

    monkeypatch.setattr("gmvaluator.service.matching.match_together", match)
    matcher = Matcher(Limits(), Metrics())
    uploads = [Upload("a", picture(300)), Upload("b", bad), Upload("c", picture(302))]
    futures = matcher.submit(served, uploads, 2)
    cancelled = matcher.submit(served, uploads[:1], 2)[0]
    assert cancelled.cancel()
    matcher.start()
    assert [len(futures[at].result(60).contributors) for at in (0, 2)] == [2, 2]  # type: ignore[union-attr]
    with pytest.raises(RunError, match="has changed"):
        futures[1].result(60)
    matcher.stop()
    assert cancelled.cancelled()
