"""How long the report of a large run takes to make and to open, and how large it is.

    python benchmarks/report_size.py --data DATA --out docs/results

All of MNIST: 60,000 training images, and the 10,000 test digits for generated ones, matched by
pixels at 14 px, 50 contributors each. DATA holds mnist/{train,test}.parquet (Hugging Face layout).
Made in a process that has opened the run; opened from disk by a Chromium with an empty profile.
First picture: from the call to navigate until the page has painted and its first picture is
decoded, asked for every 20 ms. `--million` adds a run of a million training images (16 times
MNIST's and some more, by other names) whose contributors are drawn at random.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from browser import Page, running_browser
from numpy.typing import NDArray
from results import publish

from gmvaluator import GMValuator, Valuation
from gmvaluator.report import write_report
from gmvaluator.runs import Run, RunSide, open_run
from gmvaluator.values import Contributions

READY = "document.documentElement?.dataset.ready === 'yes'"
PAINTED = (
    "performance.getEntriesByName('first-contentful-paint').length > 0 && "
    "document.images.length > 0 && document.images[0].complete && "
    "document.images[0].naturalWidth > 0"
)


def main() -> None:
    """Parse, make the runs, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--keep", type=Path, help="Folder to keep the pages in.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        runs = [mnist_run(args.data, Path(scratch) / "run")]
        if args.million:
            runs.append(enlarged(runs[0], 1_000_000))
        measured = [measure(run, folder / f"report-{len(run.train.ids)}.html") for run in runs]
    publish(
        args.out, "report_size", {"load": os.getloadavg()[0], "runs": measured}, table(measured)
    )


def mnist_run(data: Path, folder: Path) -> Run:
    """A run of all digits, opened from disk."""
    train, generated = (data / "mnist" / f"{part}.parquet" for part in ("train", "test"))
    valuator = GMValuator(
        encoder="pixels@14", rerank="none", quality="realism", k=50, candidates=50, cache=False
    )
    valuator.fit(train).value(generated).save(folder)
    return open_run(folder)


def enlarged(run: Run, n: int) -> Run:
    """The run with n training images: MNIST's over and over, contributors drawn at random."""
    old = run.valuation
    if run.train.images is None or old.train_keys is None:
        raise RuntimeError("the run has lost its images")
    places = np.arange(n) % len(old.train_ids)
    ids = tuple(f"{at // len(old.train_ids)}/{old.train_ids[row]}" for at, row in enumerate(places))
    rows = np.random.default_rng(0).integers(0, n, old.contributions.rows.shape)
    found = old.contributions
    labels = old.train_labels
    valuation = replace(
        old,
        train_ids=ids,
        train_labels=None if labels is None else tuple(labels[row] for row in places),
        train_keys=tuple(old.train_keys[row] for row in places),
        contributions=Contributions(rows, found.distances, found.scores, n),
        info=old.info | {"n_train": n},
        clusters=None,
    )
    train = Repeated(ids, valuation.train_keys, valuation.train_labels, run.train.images, None)
    return replace(run, valuation=valuation, train=train)


class Repeated(RunSide):
    """Images of which several go by other names as well."""

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(n,) place in the images there are, over and over."""
        return np.arange(len(self.ids)) % len(self.images or ())


def measure(run: Run, page: Path) -> dict[str, Any]:
    """Make the page, open it in a new browser, use it."""
    start, used = time.perf_counter(), time.process_time()
    write_report(run, page)
    made, cpu = time.perf_counter() - start, time.process_time() - used
    with running_browser() as browser:
        tab = browser.page()
        tab.resize(1200, 900)
        start = time.perf_counter()
        tab.call("Page.navigate", url=page.absolute().as_uri())
        tab.wait(f"location.protocol === 'file:' && {PAINTED}")
        first = time.perf_counter() - start
        tab.wait(READY)
        ready = time.perf_counter() - start
        found = used_page(tab, run.valuation)
        complaints = tab.complaints
    return {
        "n": len(run.train.ids),
        "m": len(run.generated.ids),
        "k": int(run.valuation.contributions.rows.shape[1]),
        "seconds_made": round(made, 1),
        "cpu_seconds_made": round(cpu, 1),
        "megabytes": round(page.stat().st_size / 1e6, 1),
        "seconds_first_picture": round(first, 2),
        "seconds_ready": round(ready, 2),
        **{name: round(seconds, 2) for name, seconds in found.items()},
        "complaints": complaints,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def used_page(tab: Page, valuation: Valuation) -> dict[str, float]:
    """Seconds until the first search, which opens all tables, a second, and a turned page."""
    seconds = {}
    place = "document.getElementById('train-place').textContent"
    for name, row in (
        ("seconds_first_search", 5),
        ("seconds_search", len(valuation.train_ids) - 1),
    ):
        wanted = json.dumps(valuation.train_ids[row])
        start = time.perf_counter()
        tab.ask(
            "(() => { const search = document.getElementById('train-search'); search.value = "
            f"{wanted}; search.dispatchEvent(new Event('input')); }})()"
        )
        listed = "[...document.querySelectorAll('#train-list .id')].map((e) => e.textContent)"
        tab.wait(f"{place} !== '' && {listed}.includes({wanted})")
        seconds[name] = time.perf_counter() - start
    start = time.perf_counter()
    before = tab.ask("document.getElementById('gallery-place').textContent")
    tab.ask("document.getElementById('gallery-next').click()")
    tab.wait(f"document.getElementById('gallery-place').textContent !== {json.dumps(before)}")
    seconds["seconds_page"] = time.perf_counter() - start
    return seconds


def table(measured: list[dict[str, Any]]) -> list[str]:
    """The lines of the results page."""
    lines = [
        "| training × generated images | made in, s (CPU s) | MB | first picture, s "
        "| script ready, s | first search, s | next search, s | next page, s | console errors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        lines.append(
            f"| {one['n']:,} × {one['m']:,} | {one['seconds_made']} ({one['cpu_seconds_made']}) "
            f"| {one['megabytes']} | {one['seconds_first_picture']} | {one['seconds_ready']} "
            f"| {one['seconds_first_search']} | {one['seconds_search']} | {one['seconds_page']} "
            f"| {len(one['complaints'])} |"
        )
    return lines


if __name__ == "__main__":
    main()
