"""Shares of a generated image: in per cent of the picture, on one scale, with the rest as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Locator, Page, expect

from gmvaluator.report import report_run
from gmvaluator.report.html import percent
from gmvaluator.runs.folder import Run
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.record import RecordedSettings
from gmvaluator.runs.valuation import Valuation
from page_checks import opened_page
from run_makers import made_test


def shown_shares(card: Locator) -> list[str]:
    """The share of each contributor of a card or an opened picture, the rest included."""
    return [text.replace("\u00a0", " ") for text in card.locator(".cons .strong").all_inner_texts()]


def lengths(card: Locator) -> NDArray[np.float64]:
    """Parts of each bar that are filled."""
    filled = card.locator(".cons .bar").evaluate_all(
        r"""bars => bars.map((bar) => bar.style.getPropertyValue('--s').match(/([\d.]+)%/))
          .map((match) => Number(match[1]))"""
    )
    return np.array(filled) / 100


def written(shares: NDArray[np.float64]) -> list[str]:
    return [percent(float(share), 1) for share in shares]


def with_scores(run: Run, scores: NDArray[np.float64], quality: NDArray[np.float64]) -> Valuation:
    contributions = replace(run.valuation.contributions, scores=scores)
    return replace(run.valuation, contributions=contributions, quality=quality)


@pytest.fixture(scope="module")
def steep(run: Run) -> Run:
    """The run with known shares: of the first image far apart, of the others nearly equal."""
    m, k = run.valuation.contributions.rows.shape
    shares = np.full((m, k), 1 / k)
    shares[0] = [0.6, 0.25, 0.1, 0.03, 0.0187, 0.001, 0.0002, 0.00005, 0.00003, 0.00002, 0, 0]
    quality = np.linspace(1, 0.3, m)
    return replace(run, valuation=with_scores(run, shares * quality[:, None], quality))


@pytest.fixture(scope="module")
def page(steep: Run, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    file = report_run(steep, tmp_path_factory.mktemp("shares") / "page.html")
    tab, complaints = opened_page(browser, file, viewport={"width": 1200, "height": 900})
    yield tab
    assert complaints == []
    tab.close()


def test_shares_are_per_cent_of_the_picture_and_the_rest_is_one(page: Page, steep: Run) -> None:
    page.locator("#generated-order").select_option("as in the set")
    expect(page.locator(".gen h3").nth(1)).to_have_text(steep.generated.ids[1])
    contributions, quality = steep.valuation.contributions, steep.valuation.quality
    for place in (0, 1):
        card = page.locator(".gen").nth(place)
        shares = contributions.scores[place] / quality[place]
        rest = shares[10:].sum()
        assert shown_shares(card) == [*written(shares[:10]), percent(rest, 1)]
        # a full bar is the whole picture, whatever the picture
        np.testing.assert_allclose(lengths(card), [*shares[:10], rest], atol=0.0006)
        expect(card.locator(".rest")).to_contain_text("2 others")
    assert shown_shares(page.locator(".gen").first)[6:] == ["< 0.1 %"] * 4 + ["0.0 %"]
    # a trace is seen
    traces = page.locator(".gen").first.locator(".cons .bar").nth(8)
    assert "max(2px" in (traces.get_attribute("style") or "")


def test_an_opened_picture_has_the_same_shares_and_the_scores(page: Page, steep: Run) -> None:
    page.evaluate("location.hash = '#generated-0'")
    body = page.locator("#detail-body")
    expect(body).to_contain_text("12 of 12 contributors, best first.")
    shares = steep.valuation.contributions.scores[0] / steep.valuation.quality[0]
    assert shown_shares(body) == written(shares)
    expect(body.locator("small", has_text="score 0.6000")).to_have_count(1)
    expect(body.locator(".rest")).to_have_count(0)
    # a training image: its share of each picture that it contributed to
    train = int(steep.valuation.contributions.rows[0, 0])
    page.evaluate(f"location.hash = '#train-{train}'")
    expect(body).to_contain_text("Generated images that this image contributed to")
    supported = steep.valuation.n_supported[train]
    assert shown_shares(body) == ["60.0 %", *["8.3 %"] * (supported - 1)]
    page.keyboard.press("Escape")


def test_the_rest_leads_to_all_contributors(page: Page, steep: Run) -> None:
    card = page.locator(".gen").first
    card.get_by_text("+2").click()
    expect(page.locator("#detail-title")).to_have_text(steep.generated.ids[0])
    page.keyboard.press("Escape")


def test_a_picture_whose_quality_is_withheld_has_no_shares(
    run: Run, tmp_path: Path, browser: Browser
) -> None:
    valuation = run.valuation
    scores, quality = valuation.contributions.scores.copy(), np.full(15, 0.5)
    quality[1] = 0
    scores[:2] = 0
    test = made_test(images=1, share=0.1, level=0.05, applied=True)
    silent = replace(
        with_scores(run, scores, quality),
        match_p=np.array([0.01, *[0.5] * 14]),
        record=replace(valuation.record, unattributed=test),
    )
    file = report_run(replace(run, valuation=silent), tmp_path / "page.html")
    page, complaints = opened_page(browser, file)
    page.locator("#generated-filter").select_option("gave no score (2)")
    cards = page.locator(".gen")
    expect(cards).to_have_count(2)
    expect(cards.nth(0)).to_contain_text("quality withheld: nearest training images")
    expect(cards.nth(1)).to_contain_text("gave no score: nearest training images")
    expect(page.locator(".gen .bar")).to_have_count(0)
    expect(page.locator(".gen .strong")).to_have_count(0)
    page.evaluate("location.hash = '#generated-0'")
    expect(page.locator("#detail-body")).to_contain_text(
        "12 of 12 nearest training images, best first. The quality of this image is withheld: it "
        "gave no score."
    )
    assert complaints == []
    page.close()


def test_influences_are_no_shares(run: Run, tmp_path: Path, browser: Browser) -> None:
    settings = RecordedSettings({"valuer": "own scores", "signed": True, "k": 12})
    scores = np.linspace(3, -2, 12) * np.ones((15, 1))
    valuation = replace(
        with_scores(run, scores, np.ones(15)),
        record=replace(run.valuation.record, settings=settings),
    )
    file = report_run(replace(run, valuation=valuation), tmp_path / "page.html")
    assert "is its share" not in file.read_text()
    page, complaints = opened_page(browser, file)
    card = page.locator(".gen").first
    first_ten = [format_number(score) for score in scores[0, :10].tolist()]
    assert shown_shares(card) == first_ten
    expect(page.locator(".gen .bar, .gen .rest")).to_have_count(0)
    page.evaluate("location.hash = '#generated-0'")
    expect(page.locator("#detail-body .strong")).to_have_count(12)
    expect(page.locator("#detail-body small", has_text="score")).to_have_count(0)
    assert complaints == []
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (860, "dark"), (360, "light")])
def test_every_share_and_its_bar_fit_their_card(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for media in ("screen", "print"):
        page.emulate_media(media="print" if media == "print" else "screen")
        fits = page.locator(".gen .cons li").evaluate_all(
            """items => items.every((item) => {
              const card = item.closest(".gen").getBoundingClientRect();
              const range = document.createRange();
              range.selectNodeContents(item.querySelector(".strong"));
              const text = range.getBoundingClientRect();
              const [bar, box] = [item.querySelector(".bar"), item.getBoundingClientRect()];
              return text.right <= box.right + 1 && box.right <= card.right
                && bar.getBoundingClientRect().width === box.width
                && getComputedStyle(bar).printColorAdjust === "exact";
            })"""
        )
        assert fits, media
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 1200, "height": 900})
