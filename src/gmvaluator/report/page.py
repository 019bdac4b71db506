"""The report of a run: one self-contained HTML file that opens without a network.

Totals, curves and tables are plain HTML. One script draws the cards of images from records: a few
stand in the file as JSON, for what a reader sees first; the script makes all others from the
compressed columns of the whole run. The file refers to nothing outside itself, and its content
policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from gmvaluator.errors import InputError, RunError, either
from gmvaluator.files.atomic import publish_file
from gmvaluator.progress import Progress, as_progress
from gmvaluator.report.charts import cumulative_chart, histogram_chart
from gmvaluator.report.columns import (
    CONTRIBUTORS_SHOWN,
    KEY_BYTES,
    MEMBERS_SHOWN,
    ORDERS,
    Images,
    ListName,
    Record,
    card_lines,
    common_end,
    filters_of,
    gives_shares,
    image_columns,
    match_level,
    telling_end,
    view_temperature,
)
from gmvaluator.report.html import (
    PICTURE_MEGABYTES,
    REPORT,
    TINY,
    TITLE,
    page_template,
    percent,
    write_page,
)
from gmvaluator.report.lookalikes import COLOUR_GRID, COLOUR_STEP, GRID, NUDGE, STEP
from gmvaluator.report.packing import pack_column, script_json
from gmvaluator.report.pictures import (
    CLUSTERS_PAGE,
    GALLERY_PAGE,
    STATES,
    VALUES_PAGE,
    Pictures,
    read_pictures,
    wanted_pictures,
)
from gmvaluator.report.recorded import Pairs, raw_record, record_groups
from gmvaluator.report.tables import tables_of
from gmvaluator.runs.distribution import Concentration, histogram, n_below
from gmvaluator.runs.folder import Run, as_run
from gmvaluator.runs.formatting import format_number
from gmvaluator.runs.hubs import Hubs
from gmvaluator.runs.ranking import idle_text
from gmvaluator.runs.valuation import Valuation
from gmvaluator.scoring.weightings.expected_rank import LEAST_DISTANCE

# in the order in which each needs those before
SCRIPTS = ("records.js", "keys.js", "lookalikes.js", "downloads.js", "page.js")
PAGE_SIZES: Mapping[ListName, int] = {
    "generated": GALLERY_PAGE,
    "train": VALUES_PAGE,
    "clusters": CLUSTERS_PAGE,
}
PICTURES_PER_PART = 500
PICTURES_START = 'id="pictures-0"'
"""Text of every page with pictures."""
TROUBLES_SHOWN = 50


@dataclass(frozen=True)
class Tile:
    """One of the large numbers at the top: its name, the number, and what it is a part of."""

    name: str
    text: str
    note: str = ""


def report_run(
    run: str | Path | Run,
    path: str | Path | None = None,
    *,
    title: str = TITLE,
    summary: Pairs = (),
    metadata: Sequence[str] = (),
    megabytes: float = PICTURE_MEGABYTES,
    progress: bool | Progress = False,
) -> Path:
    """Write the report of a run and return its path.

    Args:
        run: a run folder, or a run from `open_run`. A picture is shown only where its set still
            holds what was valued.
        path: the HTML file. Default: `report.html` in the run's folder.
        title: heading of the page.
        summary: further (name, text) pairs for the row of large numbers.
        metadata: columns of the training set to sum values by. Labels are always summed by.
        megabytes: size of all pictures, before base64 makes them a third longer.
        progress: whether to show how far the work is.

    Raises:
        InputError: the training set has no such column, `megabytes` is no size, or `path` is a
            folder.
        RunError: the file cannot be written, or its pictures would be lost since the images of the
            run are gone. 0 megabytes replace the page by one without pictures.
    """
    if not 0 <= megabytes * 1e6 < math.inf:
        raise InputError(
            f"{either('megabytes=', '--pictures ')}{megabytes} was given; wanted 0 or "
            "more, and not infinite"
        )
    run = as_run(run)
    target = run.folder / REPORT if path is None else Path(path)
    if target.is_dir():
        raise InputError(
            f"{target} is a folder; wanted the file to write, such as {target / REPORT}"
        )
    if megabytes:
        _keep_pictures(run, target)
    labels = ["label"] if run.train.labels is not None else []
    # before the pictures are read: a missing column is an error within seconds
    tables = tables_of(run, list(dict.fromkeys([*labels, *metadata])))
    images = Images(run.valuation, image_columns(run))
    pictures = read_pictures(
        run, wanted_pictures(images), int(megabytes * 1e6), as_progress(progress)
    )
    for side, columns in images.columns.items():
        columns["picture"] = pictures.codes(side, len(columns["id"]))
    script = "".join((resources.files(__package__) / name).read_text("utf-8") for name in SCRIPTS)
    html = page_template(__package__, "page.html.j2").render(
        title=title,
        n_train=len(run.valuation.train_ids),
        n_generated=len(run.valuation.generated_ids),
        tiles=(*_tiles(run.valuation), *(Tile(name, text) for name, text in summary)),
        notices=_notices(run, pictures),
        troubles=_troubles(run, pictures),
        troubles_shown=TROUBLES_SHOWN,
        level=match_level(run.valuation),
        withheld=(test := run.valuation.record.unattributed) is not None and test.applied,
        by_domain=run.valuation.record.settings.null_measure == "domain",
        orders=ORDERS,
        filters=filters_of(images),
        clusters=run.valuation.clusters,
        idle=idle_text(run.valuation.n_supported, run.valuation.ranks),
        hubs=Hubs.of(run.valuation.contributions).text(run.valuation.train_ids),
        stored_k=images.stored[1],
        stored_m=len(images.stored[0]),
        k=run.valuation.contributions.rows.shape[1],
        shares=gives_shares(run.valuation),
        temperature=view_temperature(images),
        tables=tables,
        records=record_groups(run),
        raw_record=raw_record(run),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        facts=script_json(_facts(images)),
        columns={
            name: pack_column(cells)
            for name, cells in (images.tables() | {"signature": pictures.signatures}).items()
        },
        parts=_parts(pictures),
        **_charts(run.valuation),
    )
    with publish_file(target) as part:
        write_page(part, html)
    return target


def _keep_pictures(run: Run, page: Path) -> None:
    """Refuse to replace a page with pictures where a whole set of images is gone."""
    gone = [side.trouble for side in (run.train, run.generated) if (side.rows < 0).all()]
    if gone and page.is_file() and PICTURES_START in page.read_text("utf-8", "replace"):
        raise RunError(
            f"{page} would lose its pictures, since {gone[0]}, another file to write "
            f"({either('path', '--out')}), or {either('megabytes=0', '--pictures 0')} for a page "
            "without pictures"
        )


def _facts(images: Images) -> dict[str, Any]:
    """What the script knows before it opens a column, with the records that it draws first."""
    valuation, columns = images.valuation, images.columns
    run_ids = {"train": valuation.train_ids, "generated": valuation.generated_ids}
    first = {name: images.order(name, ORDERS[name][0])[: PAGE_SIZES[name]] for name in ORDERS}
    records: Mapping[ListName, Callable[[int], Record]] = {
        "generated": images.generated_record,
        "train": partial(images.record, "train"),
        "clusters": images.cluster_record,
    }
    return {
        "n": {side: len(columns[side]["id"]) for side in columns},
        "columns": {side: list(columns[side]) for side in columns},
        "orders": {name: [asdict(order) for order in ORDERS[name]] for name in ORDERS},
        "filters": {
            name: [asdict(part) for part in parts] for name, parts in filters_of(images).items()
        },
        "lists": {name: len(images.order(name, ORDERS[name][0])) for name in ORDERS},
        "idEnds": {side: _ends(run_ids[side]) for side in columns},
        "keyBytes": KEY_BYTES,
        "lines": {
            card: [asdict(line) for line in lines] for card, lines in card_lines(valuation).items()
        },
        "labels": {
            side: list(dict.fromkeys(label for label in columns[side].get("label", ()) if label))
            for side in columns
        },
        "pageSize": PAGE_SIZES,
        "k": valuation.contributions.rows.shape[1],
        "shares": gives_shares(valuation),
        "temperature": view_temperature(images),
        "dimension": valuation.record.settings.dimension_used,
        "leastDistance": LEAST_DISTANCE,
        "storedK": images.stored[1],
        "shown": CONTRIBUTORS_SHOWN,
        "membersShown": MEMBERS_SHOWN,
        "states": STATES,
        "picturesPerPart": PICTURES_PER_PART,
        "tiny": TINY,
        "signature": {
            "grid": GRID,
            "colourGrid": COLOUR_GRID,
            "step": STEP,
            "colourStep": COLOUR_STEP,
            "nudge": NUDGE,
        },
        "topValue": float(valuation.values.max(initial=0.0)),
        "first": {name: [records[name](int(row)) for row in rows] for name, rows in first.items()},
    }


def _ends(ids: Sequence[str]) -> dict[str, int]:
    """Where the script cuts long ids: characters that all share, and those before that differ."""
    shared = common_end(ids)
    # a short end, such as .png, stays
    shared = shared if shared > 4 else 0
    return {"shared": shared, "telling": telling_end(ids, shared)}


def _parts(pictures: Pictures) -> list[str]:
    """All pictures as base64, one a line, a fixed number in each part."""
    encoded = [base64.b64encode(picture).decode("ascii") for picture in pictures.shown.values()]
    starts = range(0, len(encoded), PICTURES_PER_PART)
    return ["\n".join(encoded[start : start + PICTURES_PER_PART]) for start in starts]


def _charts(valuation: Valuation) -> dict[str, Any]:
    """The curves, and what their captions say; None where values below 0 leave no shares."""
    counted = None if n_below(valuation.values) else histogram(valuation.values)
    if counted is None:
        return {"curve": None}
    curve = Concentration(valuation.values)
    return {
        "curve": curve,
        "counted": counted,
        "cumulative": cumulative_chart(curve),
        "histogram": histogram_chart(counted),
    }


def _tiles(valuation: Valuation) -> list[Tile]:
    """The row of large numbers."""
    n, m = len(valuation.train_ids), len(valuation.generated_ids)
    contributed = int((valuation.n_supported > 0).sum())
    tiles = [
        Tile("Training images", f"{n:,}"),
        Tile("Generated images", f"{m:,}"),
        Tile(
            "Contributed", f"{contributed:,}", f"{percent(contributed / n, 0)} of training images"
        ),
        Tile(
            "Average quality",
            format_number(float(valuation.quality.mean())),
            "of generated images, 0 bad to 1 good",
        ),
    ]
    if (test := valuation.record.unattributed) is not None:
        tiles.append(
            Tile(
                "No close match",
                f"{test.images:,}",
                f"of {m:,} generated images; {percent(test.share, 1)} of all quality",
            )
        )
    if valuation.clusters is not None and valuation.clusters.copies:
        tiles.append(
            Tile("Copies", f"{valuation.clusters.copies:,}", "counted with the image they copy")
        )
    return tiles


def _notices(run: Run, pictures: Pictures) -> list[str]:
    """What a reader must know before trusting a picture."""
    sides = (run.train, run.generated)
    notices = [f"{side.trouble[0].upper()}{side.trouble[1:]}." for side in sides if side.trouble]
    if run.train.keys is None or run.generated.keys is None:
        notices.append(
            "This run was saved by a version that did not record what its images hold. The "
            "pictures are those that have the same names now. They may differ from what was valued."
        )
    if pictures.full:
        notices.append(
            "Not all pictures fit into this file. Those left out are marked; all numbers are here."
        )
    return notices


def _troubles(run: Run, pictures: Pictures) -> dict[tuple[str, str], list[str]]:
    """Ids of the images whose pictures cannot be shown, by set and reason (see `STATES`)."""
    ids: dict[tuple[str, str], list[str]] = {}
    for (side, row), state in pictures.troubles.items():
        name, images = ("training", run.train) if side == "train" else ("generated", run.generated)
        ids.setdefault((name, state), []).append(images.ids[row])
    return dict(sorted(ids.items(), key=lambda item: STATES.index(item[0][1])))
