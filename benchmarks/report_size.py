"""How long the report of a large run takes to make and to open, and how large it is.

    python benchmarks/report_size.py --data DATA --million --out docs/results

All of MNIST: 60,000 training images, and the 10,000 test digits for generated ones, matched by
pixels at 14 px, 50 contributors each. DATA holds mnist/{train,test}.parquet (Hugging Face layout).
Made by `gmvaluator report RUN`, timed from the start of its process to the end, opening the run
included; the peak of memory is that process's own. Opened from disk by a Chromium with an empty
profile. First picture: from the call to navigate until the page has painted and its first picture
is decoded, asked for every 20 ms. First look-alike search: from the choice of a file, a JPEG of a
training image at twice its size, in a page that has just been opened, until the pictures that look
like it are listed. `--million` adds a run of a million training images (MNIST's
file 17 times, by other names) whose contributors are drawn at random.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from browser import READY, new_page, running_browser, wait_until
from PIL import Image
from playwright.sync_api import Page, expect
from results import DATA_COMMAND, publish

from gmvaluator import GMValuator, Valuation
from gmvaluator.runs.folder import open_run
from gmvaluator.runs.record import Input
from gmvaluator.scoring.scores import Contributions

MILLION = 1_000_000
PAINTED = (
    "() => performance.getEntriesByName('first-contentful-paint').length > 0 && "
    "document.images.length > 0 && document.images[0].complete && "
    "document.images[0].naturalWidth > 0"
)
LISTED = (
    "(id) => [...document.querySelectorAll('#train-list .id')].some((e) => e.textContent === id)"
)
ALIKE = (
    "() => document.querySelector('#find-list li') && "
    "/looks? like it at 8×8/.test(document.getElementById('find-said').textContent)"
)
# the command, and then what its process used; VmHWM starts anew with a program, ru_maxrss does not
REPORT = """
import json, re, sys, time
from gmvaluator.cli import cli
cli.main(["report", *sys.argv[1:], "--quiet", "--json"], standalone_mode=False)
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
print(json.dumps({"cpu": time.process_time(), "peak_gb": peak * 1024 / 1e9}), file=sys.stderr)
"""


def main() -> None:
    """Parse, make the runs, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--keep", type=Path, help="Folder to keep the runs and pages in.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        runs = {"mnist": mnist_run(args.data)}
        if args.million:
            runs["million"] = enlarged(runs["mnist"], MILLION, args.data)
        for name, valuation in runs.items():
            valuation.save(folder / name, overwrite=True)
        measured = [measure(valuation, folder / name) for name, valuation in runs.items()]
    command = DATA_COMMAND.replace(" --out", " --million --out") if args.million else DATA_COMMAND
    result = {"load": os.getloadavg()[0], "runs": measured}
    publish(args.out, "report_size", result, table(measured), command)


def mnist_run(data: Path) -> Valuation:
    """All digits."""
    train, generated = (data / "mnist" / f"{part}.parquet" for part in ("train", "test"))
    valuator = GMValuator(
        encoder="pixels@14", rerank="none", quality="realism", k=50, candidates=50, cache=False
    )
    return valuator.fit(train).value(generated)


def enlarged(old: Valuation, n: int, data: Path) -> Valuation:
    """It with n training images: MNIST's over and over, contributors drawn at random."""
    if old.train_keys is None:
        raise RuntimeError("the run has no content keys")
    places = np.arange(n) % len(old.train_ids)
    ids = tuple(f"{at // len(old.train_ids)}/{old.train_ids[row]}" for at, row in enumerate(places))
    rows = np.random.default_rng(0).integers(0, n, old.contributions.rows.shape)
    contributions = old.contributions
    labels = old.train_labels
    file = str((data / "mnist" / "train.parquet").resolve())
    copies = [[f"{at}/", file] for at in range(-(-n // len(old.train_ids)))]
    inputs = replace(old.record.inputs, train=Input(copies, "drawn"))
    return replace(
        old,
        train_ids=ids,
        train_labels=None if labels is None else tuple(labels[row] for row in places),
        train_keys=tuple(old.train_keys[row] for row in places),
        contributions=Contributions(rows, contributions.distances, contributions.scores, n),
        record=replace(old.record, n_train=n, inputs=inputs),
        clusters=None,
        nearest_distances=None,
    )


def measure(valuation: Valuation, run: Path) -> dict[str, Any]:
    """Make the page of a saved run, open it in a new browser, use it."""
    page = run.with_suffix(".html")
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(run), "--out", str(page)],
        capture_output=True,
        text=True,
        check=False,
    )
    made = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    if troubles := json.loads(done.stdout)["troubles"]:
        raise RuntimeError(f"the run's images are not all there: {troubles}")
    used = json.loads(done.stderr.splitlines()[-1])
    with running_browser() as browser:
        tab, complaints = new_page(browser, viewport={"width": 1200, "height": 900})
        start = time.perf_counter()
        tab.goto(page.absolute().as_uri(), wait_until="commit")
        wait_until(tab, PAINTED)
        first = time.perf_counter() - start
        tab.locator(READY).wait_for(state="attached")
        ready = time.perf_counter() - start
        seconds = used_page(tab, valuation)
        query = run.with_suffix(".jpg")
        query.write_bytes(query_of(run))
        tab, more = new_page(browser)
        tab.goto(page.absolute().as_uri())
        tab.locator(READY).wait_for(state="attached")
        seconds["seconds_first_lookalikes"] = first_lookalikes(tab, query)
        complaints += more
    return {
        "n": len(valuation.train_ids),
        "m": len(valuation.generated_ids),
        "k": int(valuation.contributions.rows.shape[1]),
        "seconds_made": round(made, 1),
        "cpu_seconds_made": round(used["cpu"], 1),
        "peak_gb": round(used["peak_gb"], 2),
        "megabytes": round(page.stat().st_size / 1e6, 1),
        "seconds_first_picture": round(first, 2),
        "seconds_ready": round(ready, 2),
        **{name: round(taken, 2) for name, taken in seconds.items()},
        "complaints": complaints,
    }


def used_page(tab: Page, valuation: Valuation) -> dict[str, float]:
    """Seconds until the first search, which opens all tables, a second, and a turned page."""
    seconds = {}
    for name, row in (
        ("seconds_first_search", 5),
        ("seconds_search", len(valuation.train_ids) - 1),
    ):
        wanted = valuation.train_ids[row]
        start = time.perf_counter()
        tab.locator("#train-search").fill(wanted)
        wait_until(tab, LISTED, wanted)
        seconds[name] = time.perf_counter() - start
    start = time.perf_counter()
    place = tab.locator("#generated-place")
    before = place.text_content() or ""
    tab.locator("#generated-next").click()
    expect(place).not_to_have_text(before)
    seconds["seconds_page"] = time.perf_counter() - start
    return seconds


def query_of(run: Path) -> bytes:
    """The most valuable training image, whose thumbnail is in the page, at twice its size."""
    opened = open_run(run)
    thumbnail = opened.train.thumbnail(int(np.argmin(opened.valuation.ranks)), 128)[1]
    if thumbnail is None:
        raise RuntimeError("the training images are not there")
    picture = Image.fromarray(thumbnail.pixels)
    content = io.BytesIO()
    picture.resize((2 * picture.width, 2 * picture.height)).save(content, "JPEG", quality=90)
    return content.getvalue()


def first_lookalikes(tab: Page, query: Path) -> float:
    """Seconds from the choice of a file until the pictures that look like it are listed."""
    start = time.perf_counter()
    tab.locator("#find-file").set_input_files(query)
    wait_until(tab, ALIKE)
    return time.perf_counter() - start


def table(measured: list[dict[str, Any]]) -> list[str]:
    """The lines of the results page."""
    lines = [
        "| training × generated images | made in, s (CPU s) | peak, GB | MB | first picture, s "
        "| script ready, s | first search, s | next search, s | next page, s "
        "| first look-alike search, s | console errors |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        lines.append(
            f"| {one['n']:,} × {one['m']:,} | {one['seconds_made']} ({one['cpu_seconds_made']}) "
            f"| {one['peak_gb']} | {one['megabytes']} | {one['seconds_first_picture']} "
            f"| {one['seconds_ready']} "
            f"| {one['seconds_first_search']} | {one['seconds_search']} | {one['seconds_page']} "
            f"| {one['seconds_first_lookalikes']} | {len(one['complaints'])} |"
        )
    return lines


if __name__ == "__main__":
    main()
