"""`gmvaluator payout`, `ledger` and `extend`: parse, call the library, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmvaluator.cli.options import (
    CACHE,
    GENERATED_IMAGES,
    HOLDOUT_IMAGES,
    JSON,
    PRINTING,
    RUN,
    STRICT,
    TRAIN_IMAGES,
    options,
    out,
    overwrite,
)
from gmvaluator.cli.printing import print_result

if TYPE_CHECKING:
    from gmvaluator.payout.record import Payout


@click.command()
@options(RUN, out("Folder to write to, instead of the run."), overwrite("the payout"))
@click.option("--no-statements", is_flag=True, help="Write no pages for owners.")
@click.option(
    "--owners",
    type=click.Path(path_type=Path),
    help="CSV or Parquet with columns train_id, owner and optionally share (those of an image sum "
    "to 1; not needed where it has one owner).",
)
@click.option("--by", metavar="COLUMN", help="Instead: a metadata column of TRAIN, or label.")
@click.option("--budget", required=True, help="Money to divide, such as 10000 or 99.50.")
@click.option("--currency", default="EUR", show_default=True, help="ISO 4217 code.")
@click.option("--digits", type=int, help="Decimals of a currency that ISO 4217 does not list.")
@click.option(
    "--minimum",
    default="0",
    show_default=True,
    help="Owners who are due less are not paid now: it is carried (--ledger keeps it), not given "
    "to others.",
)
@click.option(
    "--unowned",
    type=click.Choice(["keep", "redistribute"]),
    default="keep",
    show_default=True,
    help="Part of images that nobody owns: stays with the payer as (unassigned), or goes to the "
    "owners by their shares.",
)
@click.option(
    "--withdraw",
    "withdrawn",
    multiple=True,
    metavar="OWNER",
    help="Settle without the images that OWNER has any share of, and show the difference: each "
    "generated image's other recorded contributors share its score anew; none is recalled in "
    "their place. Exact within these for softmax and shapley, an approximation for ridge. "
    "Repeatable.",
)
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    help="File of earlier settlements: settle the generated images that it does not hold yet, add "
    "what was carried, and write this settlement to it.",
)
@click.option(
    "--level", type=float, default=0.95, show_default=True, help="Of the bootstrap intervals."
)
@click.option(
    "--resamples",
    type=int,
    default=2000,
    show_default=True,
    help="Of the generated images; 0: no intervals.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampling.")
@options(TRAIN_IMAGES, GENERATED_IMAGES, *PRINTING)
def payout(
    run: Path,
    owners: Path | None,
    train_images: str | None,
    generated_images: str | None,
    out: Path | None,
    overwrite: bool,
    no_statements: bool,
    as_json: bool,
    quiet: bool,
    **rules: Any,
) -> None:
    """Divide a budget among the owners of RUN's training images by their values.

    Writes payout.csv, payout.json and a statement page for each owner into RUN. Amounts are whole
    minor units (cents) by the largest remainder and sum to the budget exactly.
    """
    from gmvaluator.files.atomic import check_into
    from gmvaluator.payout import payout_run
    from gmvaluator.payout.record import OWNED, PAYOUT_RECORD
    from gmvaluator.progress import as_progress
    from gmvaluator.runs.folder import open_run

    opened = open_run(run, train=train_images, generated=generated_images)
    check_into(out or run, PAYOUT_RECORD, overwrite=overwrite, owned=OWNED)
    found = payout_run(opened, owners=owners, **rules)
    progress = as_progress(not quiet and not as_json)
    folder = found.save(out, overwrite=overwrite, statements=not no_statements, progress=progress)
    record = json.loads((folder / PAYOUT_RECORD).read_text(encoding="utf-8"))
    print_result(record, f"{_text(found)}\nsaved in {folder}", as_json=as_json)


@click.command()
@click.argument("ledger", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@options(JSON)
def ledger(ledger: Path, as_json: bool) -> None:
    """Check LEDGER and say what was settled, paid and is carried."""
    from gmvaluator.payout.ledger import read_ledger

    book = read_ledger(ledger)
    print_result(book.as_json(), book.as_text(), as_json=as_json)


@click.command()
@options(RUN)
@click.argument("generated")
@options(out("Folder of the extended run, instead of RUN."), overwrite("the run in --out"))
@click.option(
    "--prefix", default="", metavar="TEXT", help="Written before new ids, where they collide."
)
@click.option(
    "--allow-copies",
    is_flag=True,
    help="Take new images whose content the run has already, which would count again.",
)
@options(TRAIN_IMAGES, HOLDOUT_IMAGES, CACHE, STRICT, *PRINTING)
def extend(
    run: Path,
    generated: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    train_images: str | None,
    cache: Path | None,
    **options: Any,
) -> None:
    """Append the images of GENERATED to RUN: only these are valued.

    The training images must be those of RUN, and its settings and weights are used again, so that
    the result is that of valuing all generated images at once. The report of RUN is deleted; make
    it again with `gmvaluator report RUN`.
    """
    from gmvaluator.extension import extend_run

    changes: dict[str, Any] = {} if cache is None else {"cache": cache}
    found = extend_run(
        run,
        generated,
        train=train_images,
        out=out,
        overwrite=overwrite,
        progress=not quiet and not as_json,
        **options,
        **changes,
    )
    print_result(found.as_json(), found.as_text(), as_json=as_json)


def _text(payout: Payout) -> str:
    from gmvaluator.payout.record import CONTESTED

    settlement = payout.settlement
    money = settlement.rules.currency.text
    m = len(payout.run.valuation.generated_ids)
    lines = [
        f"{money(settlement.rules.budget)} divided by what {m - payout.start} generated images "
        f"credit: paid now {money(settlement.paid)}, carried {money(settlement.carried)}, stays "
        f"with the payer {money(settlement.kept)}"
    ]
    if settlement.carried_before:
        lines[0] += f"; {money(settlement.carried_before)} was carried from before"
    if payout.again is not None:
        lines.append(
            f"made again: this is entry {payout.again['entry']} of the ledger, settled "
            f"{payout.made}; nothing was added, and what was paid then is not due again"
        )
    if payout.ownership.n_skipped:
        lines.append(f"{payout.ownership.n_skipped} rows are of images that could not be read")
    if payout.contested is None:
        lines.append("copies with different owners were not looked for: the run counts every file")
    if payout.contested:
        lines.append(
            f"{100 * payout.contested_share:.2f} % of the value is of copies that have different "
            f"owners ({sum(len(each.rows) for each in payout.contested)} images in {CONTESTED}): "
            "see whose they are before anybody is paid"
        )
    lines.append(_shares(payout))
    if payout.changes:
        lines += [f"without {', '.join(payout.withdrawn)}:", _differences(payout)]
    return "\n".join(lines)


SHOWN = 30
DIFFERENCES = (
    *("owner", "value before", "after", "share before", "after"),
    *("amount before", "after", "change"),
)


def _shares(payout: Payout) -> str:
    settlement = payout.settlement
    money = settlement.rules.currency.amount
    by_amount = sorted(settlement.lines, key=lambda line: -line.amount)
    rows: list[tuple[str, ...]] = [
        ("owner", "images", "value", "share", "interval", "amount", "paid", "carried")
    ]
    for line in by_amount[:SHOWN]:
        interval = (
            "none"
            if line.share_low is None or line.share_high is None
            else f"{100 * line.share_low:.2f} to {100 * line.share_high:.2f} %"
        )
        rows.append(
            (
                line.owner,
                str(line.n_images),
                f"{line.value:.5f}",
                f"{100 * line.share:.2f} %",
                interval,
                *(f"{money(units):,f}" for units in (line.amount, line.paid, line.carried)),
            )
        )
    return _table(rows, len(by_amount))


def _differences(payout: Payout) -> str:
    money = payout.settlement.rules.currency.amount
    rows: list[tuple[str, ...]] = [DIFFERENCES]
    for change in payout.changes[:SHOWN]:
        rows.append(
            (
                change.owner,
                f"{change.value_before:.5f}",
                f"{change.value_after:.5f}",
                f"{100 * change.share_before:.2f} %",
                f"{100 * change.share_after:.2f} %",
                f"{money(change.amount_before):,f}",
                f"{money(change.amount_after):,f}",
                f"{money(change.amount_after - change.amount_before):+,f}",
            )
        )
    return _table(rows, len(payout.changes))


def _table(rows: list[tuple[str, ...]], n: int) -> str:
    """Columns side by side, the first at the left; names without control characters."""
    shown = [("".join(c if c.isprintable() else "?" for c in row[0]), *row[1:]) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(rows[0]))]
    lines = []
    for row in shown:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    more = n - (len(rows) - 1)
    return "\n".join([*lines, *([f"and {more} more, see the files"] if more > 0 else [])])
