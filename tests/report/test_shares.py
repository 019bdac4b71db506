"""Shares of a generated image: in per cent of the picture, on one scale, with the rest as one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Locator, Page, expect

from gmvaluator import GMValuator
from gmvaluator.report import columns as report_columns
from gmvaluator.report import report_run
from gmvaluator.report.html import percent
from gmvaluator.runs.folder import Run, open_run
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
    """As the script writes shares: all but a trace is not rounded up to all."""
    return [
        "> 99.9 %" if 0.9995 < share < 1 - 1e-6 else percent(float(share), 1) for share in shares
    ]


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


def moved(page: Page, keys: str, times: int = 1) -> None:
    """The control moved by keys alone."""
    page.locator("#tau").focus()
    for _ in range(times):
        page.keyboard.press(keys)


STEPS: dict[str, tuple[float, tuple[tuple[str, int, str], ...]]] = {
    "softmax": (1.0, (("ArrowLeft", 5, "0.18"), ("Home", 1, "0.0039"), ("End", 1, "260"))),
    "expected-rank": (0.7, (("ArrowLeft", 5, "0.12"), ("Home", 1, "0.0027"), ("End", 1, "180"))),
}
"""τ of a run by its weighting, and what keys make of it: key, how often, τ as shown."""


@pytest.fixture(scope="module", params=STEPS)
def weighed(
    request: pytest.FixtureRequest, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run by a weighting, with its report. Its first generated image is a training image."""
    folder = tmp_path_factory.mktemp("weighed")
    shutil.copytree(made / "generated", folder / "generated")
    copied = next(iter(sorted((made / "train").rglob("*.png"))))
    shutil.copy(copied, folder / "generated" / "0copy.png")
    valuator = GMValuator(
        encoder="pixels@8", rerank="none", quality="realism", weighting=request.param,
        k=12, candidates=20, cache=False,
    )  # fmt: skip
    valuator.fit(made / "train").value(folder / "generated").save(folder / "run")
    opened = open_run(folder / "run")
    report_run(opened)
    return opened


@pytest.fixture
def soft(weighed: Run, browser: Browser) -> Iterator[Page]:
    """The page of the run as it is."""
    tab, complaints = opened_page(browser, weighed.folder / "report.html")
    yield tab
    assert complaints == []
    tab.close()


def reweighed_shares(valuation: Valuation, temperature: float, place: int) -> NDArray[np.float64]:
    """(k,) shares of a generated image at another τ, of contributors in the order of the run."""
    found = valuation.reweigh(temperature=temperature).contributions
    score_of = dict(zip(found.rows[place].tolist(), found.scores[place].tolist(), strict=True))
    scores = [score_of[row] for row in valuation.contributions.rows[place].tolist()]
    return np.asarray(np.array(scores) / valuation.quality[place])


def test_shares_at_another_temperature_are_a_view(soft: Page, weighed: Run) -> None:
    valuation, said = weighed.valuation, soft.locator("#tau-said")
    settings = valuation.record.settings
    of_run, steps = STEPS[settings["weighting"]]
    assert settings.temperature == of_run
    soft.locator("#generated-order").select_option("as in the set")
    expect(soft.locator(".gen h3").nth(1)).to_have_text(weighed.generated.ids[1])
    before = soft.locator("#generated-list").inner_html()
    expect(said).to_contain_text(f"Shares at τ = {of_run:g}, as in the run.")
    control = soft.get_by_label("Shares", exact=True)
    expect(control).to_have_attribute("aria-valuetext", "as in the run")
    for part in ("#tau-run", "#tau-mark"):
        expect(soft.locator(part)).to_be_hidden()
    for key, times, text in steps:
        moved(soft, key, times)
        expect(said).to_have_text(
            f"A view: shares at τ = {text}. Scores, values, payouts and downloads are those of the "
            f"run, at τ = {of_run:g}."
        )
        expect(soft.locator("#tau-mark")).to_have_text(f"View: τ = {text}")
        expect(control).to_have_attribute("aria-valuetext", f"τ = {text}")
        for place in (0, 1, 6):
            card = soft.locator(".gen").nth(place)
            weights = reweighed_shares(valuation, float(text), place)
            rest = weights[10:].sum()
            shares = np.array([*weights[:10], rest if rest > 1e-6 else 0])
            expect(card.locator(".cons .strong")).to_have_text(written(shares))
    # an opened picture has shares of the view, scores of the run, and says so
    soft.evaluate("location.hash = '#generated-0'")
    body = soft.locator("#detail-body")
    expect(body.locator(".notice")).to_contain_text(f"A view: shares at τ = {text}.")
    expect(body.locator(".cons .strong")).to_have_text(
        written(reweighed_shares(valuation, float(text), 0))
    )
    score = format_number(float(np.float32(valuation.contributions.scores[0, 0])))
    expect(body.locator("small", has_text=f"score {score}")).to_have_count(1)
    soft.keyboard.press("Escape")
    # print keeps the mark and leaves the control out
    soft.emulate_media(media="print")
    expect(soft.locator("#tau-form")).to_be_hidden()
    expect(said).to_be_visible()
    soft.emulate_media(media="screen")
    soft.locator("#tau-run").click()
    expect(soft.locator("#tau-run")).to_be_hidden()
    expect(soft.locator("#tau")).to_be_focused()
    expect(said).to_contain_text("as in the run")
    shares = valuation.contributions.scores[0] / valuation.quality[0]
    expect(soft.locator(".gen .strong").first).to_have_text(written(shares)[0])
    assert soft.locator("#generated-list").inner_html() == before


def test_a_view_keeps_the_page_of_the_list_and_changes_no_download(soft: Page) -> None:
    def contributions() -> bytes:
        with soft.expect_download() as download:
            soft.locator("#csv-contributions").click()
        return Path(download.value.path()).read_bytes()

    before = contributions()
    values = soft.locator("#train-list").inner_html()
    soft.locator("#generated-next").click()
    expect(soft.locator("#generated-place")).to_have_text("13–16 of 16")
    moved(soft, "Home")
    expect(soft.locator("#tau-mark")).to_be_visible()
    expect(soft.locator("#generated-place")).to_have_text("13–16 of 16")
    assert contributions() == before
    assert soft.locator("#train-list").inner_html() == values


@pytest.mark.parametrize(
    "settings",
    [
        {"weighting": "shapley", "temperature": 1.0, "temperature_used": 1.0},
        {"weighting": "softmax", "temperature": "auto", "temperature_used": "auto"},
        {
            **{"weighting": "expected-rank", "dimension_used": 9.0},
            **{"temperature": "auto", "temperature_used": "auto"},
        },
        {"valuer": "own scores"},
    ],
)
def test_runs_that_no_one_temperature_shared_have_no_control(
    run: Run, tmp_path: Path, settings: dict[str, object]
) -> None:
    record = replace(run.valuation.record, settings=RecordedSettings(settings))
    changed = replace(run, valuation=replace(run.valuation, record=record))
    assert 'id="tau"' not in report_run(changed, tmp_path / "page.html").read_text()


def test_a_page_without_all_contributors_has_no_control(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'id="tau"' in report_run(run, tmp_path / "page.html").read_text()
    monkeypatch.setattr(report_columns, "MOST_PAIRS", 80)
    assert 'id="tau"' not in report_run(run, tmp_path / "page.html").read_text()
