"""The report of a run: one self-contained HTML file that opens without a network.

What a reader sees first is plain HTML. Beside it the file holds the tables of the whole run,
compressed, and a script that pages and searches them; without the script the page stands as it
is. The file refers to nothing outside itself, and its policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from gmvaluator.errors import InputError
from gmvaluator.files.atomic import publish_file
from gmvaluator.progress import Progress, as_progress
from gmvaluator.report.charts import cumulative_chart, histogram_chart
from gmvaluator.report.contents import Contents, collect
from gmvaluator.report.groups import NOT_LISTED
from gmvaluator.report.names import PICTURE_MEGABYTES, REPORT, TITLE
from gmvaluator.report.null import match_level
from gmvaluator.report.packing import script_json
from gmvaluator.report.pictures import Orders, Pictures, gallery_orders, read_pictures, wanted
from gmvaluator.report.records import Rows
from gmvaluator.report.tables import TINY, facts, parts, tables
from gmvaluator.runs.distribution import Concentration, histogram, n_below
from gmvaluator.runs.folder import Run
from gmvaluator.runs.formatting import format_number

_PNG = b"\x89PNG"


def write_report(
    run: Run,
    path: str | Path | None = None,
    *,
    title: str = TITLE,
    summary: Rows = (),
    metadata: Sequence[str] = (),
    megabytes: float = PICTURE_MEGABYTES,
    progress: bool | Progress = False,
) -> Path:
    """Write the report of a run and return its path.

    Args:
        run: from `open_run`; a picture is shown only where its set still holds what was valued.
        path: the HTML file; None: `report.html` in the run's folder.
        title: heading.
        summary: further (name, text) pairs for the row of large numbers.
        metadata: columns of the training set to sum values by; its labels come without asking.
        megabytes: what the pictures may take, before they are written as text.
        progress: whether to show how far it is.

    Raises:
        InputError: the training set has no such column, `megabytes` is no size, or `path` is a
            folder.
        RunError: the file cannot be written.
    """
    if not 0 <= megabytes * 1e6 < math.inf:
        raise InputError(f"megabytes={megabytes} was given; wanted 0 or more, and not infinite")
    target = run.folder / REPORT if path is None else Path(path)
    if target.is_dir():
        raise InputError(
            f"{target} is a folder; wanted the file to write, such as {target / REPORT}"
        )
    columns = [*(["label"] if run.train.labels is not None else []), *metadata]
    orders = gallery_orders(run.valuation)
    # before the pictures are read: a column that is not there is found at once
    for column in columns:
        run.train.column(column)
    keys = wanted(run.valuation, orders)
    pictures = read_pictures(run, keys, int(megabytes * 1e6), as_progress(progress))
    contents = collect(
        run, orders, pictures, title=title, summary=summary, columns=list(dict.fromkeys(columns))
    )
    html = render(run, orders, pictures, contents)
    with publish_file(target) as part:
        # settings may hold names that are not UTF-8
        part.write_text(html, "utf-8", errors="backslashreplace")
    return target


def render(run: Run, orders: Orders, pictures: Pictures, contents: Contents) -> str:
    """The page as a string; see `write_report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gmvaluator.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, "share": _share, "uri": data_uri}
    environment.tests["tiny"] = is_tiny
    script = (resources.files("gmvaluator.report") / "report.js").read_text("utf-8")
    values = run.valuation.values
    counted = None if n_below(values) else histogram(values)
    curve = Concentration(values) if counted is not None else None
    test = run.valuation.record.unattributed
    return environment.get_template("page.html.j2").render(
        page=contents,
        script=script,
        level=match_level(run.valuation),
        applied=test is not None and test.applied,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        curve=curve,
        cumulative=None if curve is None else cumulative_chart(curve),
        histogram=None if counted is None else histogram_chart(counted),
        counted=counted,
        n_generated=len(run.valuation.generated_ids),
        n_train=len(values),
        not_listed=NOT_LISTED,
        tables=tables(run.valuation, orders, pictures),
        parts=list(parts(pictures)),
        data=script_json(facts(run.valuation, orders)),
    )


def data_uri(picture: bytes) -> str:
    """A PNG or JPEG as an address that holds it."""
    kind = "png" if picture.startswith(_PNG) else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def is_tiny(picture: bytes) -> bool:
    """Whether a thumbnail is a PNG of at most `TINY` pixels a side."""
    sides = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))
    return picture.startswith(_PNG) and max(sides) <= TINY


def _share(part: float, whole: float) -> str:
    """`part` of `whole` in percent, 0 … 100, for the length of a bar."""
    return f"{100 * min(1.0, max(0.0, part / whole)):.0f}" if whole > 0 else "0"
