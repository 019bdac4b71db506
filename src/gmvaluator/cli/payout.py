"""`gmvaluator payout`, `ledger` and `extend`: parse, call the library, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmvaluator.cli.claims import claim
from gmvaluator.cli.help import verb
from gmvaluator.cli.options import (
    BY,
    CACHE,
    GENERATED_IMAGES,
    HOLDOUT,
    JSON,
    LEVEL,
    OVERWRITE,
    PATH,
    PIXEL_LIMIT,
    PRINTING,
    RUN,
    SEED,
    STRICT,
    TRAIN_IMAGES,
    flag,
    option,
    options,
    out,
)
from gmvaluator.cli.printing import chosen_progress, print_result, table
from gmvaluator.cli.sources import open_images
from gmvaluator.runs.formatting import shortened

if TYPE_CHECKING:
    from gmvaluator.payout.record import Payout


@verb("payout run/ --owners owners.csv --budget 10000")
@options(
    RUN,
    out("Folder to write to. Default: the run."),
    OVERWRITE,
    flag("--no-statements", "Write no statement pages for owners."),
    option(
        "--owners",
        "CSV or Parquet file with the columns train_id, owner and, for images of several "
        "owners, share. The shares of an image sum to 1. Default: the groups of --by; one of "
        "the two is needed.",
        type=PATH,
    ),
    BY,
    click.option("--budget", required=True, help="Money to divide, such as 10000 or 99.50."),
    option("--currency", "ISO 4217 code of the currency.", default="EUR"),
    option(
        "--digits",
        "Decimals of the currency. Default: those of ISO 4217; needed for a currency that it "
        "does not list.",
        type=int,
    ),
    option(
        "--minimum",
        "Smallest amount that is paid. A smaller amount is carried to the next settlement "
        "(--ledger) and goes to nobody else.",
        default="0",
    ),
    option(
        "--unowned",
        "Money for images without an owner. keep: stays with the payer, as (unassigned); "
        "redistribute: goes to the owners by their shares.",
        type=click.Choice(["keep", "redistribute"]),
        default="keep",
    ),
    option(
        "--withdraw OWNER",
        "Settle as if the images of OWNER were not in the training set, and print the "
        "difference. The other recorded contributors of each generated image share its score; "
        "no new contributor is searched. Exact for softmax and shapley, an approximation for "
        "ridge. Default: nobody.",
        to="withdrawn",
        multiple=True,
    ),
    option(
        "--ledger",
        "File that records settlements. The command settles the generated images that the file "
        "does not hold yet, adds amounts carried before, and appends this settlement. Default: "
        "settle all images and record nothing.",
        type=PATH,
    ),
    option(
        "--payer NAME",
        "Who pays, as statements name the payer. Default: statements name none.",
        default=None,
    ),
    option(
        "--model NAME",
        "Name of the model, as statements give it. Default: statements give none.",
        default=None,
    ),
    option(
        "--period TEXT",
        "Period of the settlement, as statements give it: a month, 2026-01, or any words. "
        "Default: statements give none.",
        default=None,
    ),
    option(
        "--language NAME",
        "Language of statements: en, de, or a TOML file of sentences (see docs/owners.md).",
        default="en",
    ),
    LEVEL,
    option(
        "--resamples",
        "Number of bootstrap samples for the intervals; 0: no intervals.",
        default=2000,
    ),
    SEED,
    TRAIN_IMAGES,
    GENERATED_IMAGES,
    PIXEL_LIMIT,
    *PRINTING,
)
def payout(
    run: Path,
    owners: Path | None,
    train_images: str | None,
    generated_images: str | None,
    out: Path | None,
    overwrite: bool,
    no_statements: bool,
    payer: str | None,
    model: str | None,
    period: str | None,
    language: str,
    as_json: bool,
    **rules: Any,
) -> None:
    """Divide a budget among the owners of training images.

    An owner's part is the part of the owner's images in the values of RUN. Writes payout.csv,
    payout.json, and for each owner a statement page and a table of images. Amounts are whole
    cents (the currency's smallest unit, by largest remainder) and sum to the budget exactly.
    A settlement in a ledger has a folder of its own (--out).
    """
    from gmvaluator.files.atomic import check_into
    from gmvaluator.payout import Language, Letter, payout_run
    from gmvaluator.payout.record import OWNED, PAYOUT_RECORD, check_settlement, record_in
    from gmvaluator.runs.folder import open_run

    letter = Letter(payer or "", model or "", period or "", Language.named(language))
    opened = open_run(run, train=train_images, generated=generated_images)
    if not overwrite:
        check_settlement(out or run, None, overwrite=False)
    check_into(out or run, PAYOUT_RECORD, overwrite=overwrite, owned=OWNED)
    result = payout_run(opened, owners=owners, **rules)
    # before the ledger has the settlement: a fault in printing must not follow
    text = f"{_text(result)}\nsaved in {out or run}"
    folder = result.save(
        out,
        overwrite=overwrite,
        statements=not no_statements,
        letter=letter,
        progress=chosen_progress(),
    )
    print_result(record_in(folder), text, as_json=as_json)


@verb("ledger settled.ledger")
@click.argument("ledger", type=click.Path(path_type=Path, exists=True))
@options(JSON)
def ledger(ledger: Path, as_json: bool) -> None:
    """Check LEDGER; print what was settled, paid and carried."""
    from gmvaluator.payout.ledger import read_ledger

    book = read_ledger(ledger)
    print_result(book.as_json(), book.as_text(), as_json=as_json)


@verb("extend run/ more-generated/ --train-images train/")
@options(RUN, click.argument("generated"))
@options(
    out("Folder to write the extended run to. Default: RUN itself."),
    OVERWRITE,
    option(
        "--prefix TEXT",
        "Text put before the names of the new images, where RUN has images of these names. "
        "Default: none.",
        default="",
    ),
    flag("--allow-copies", "Accept new images that RUN holds already; they then count twice."),
    TRAIN_IMAGES,
    HOLDOUT,
    PIXEL_LIMIT,
    CACHE,
    STRICT,
    *PRINTING,
)
def extend(
    run: Path,
    generated: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    train_images: str | None,
    cache: Path | None,
    **options: Any,
) -> None:
    """Add generated images to RUN; only these are valued.

    GENERATED is a set of new images. The result equals a valuation of all generated images at
    once: training images, settings and weights are those of RUN. The report of RUN is deleted;
    `gmvaluator report RUN` writes it again.
    """
    from gmvaluator.extension import extend_run

    changes: dict[str, Any] = {} if cache is None else {"cache": cache}
    if out is not None:
        claim(out)
    extension = extend_run(
        run,
        open_images(generated),
        train=train_images,
        out=out,
        overwrite=overwrite,
        progress=chosen_progress(),
        **options,
        **changes,
    )
    text = f"{extension.as_text()}\nwrite its report: gmvaluator report {out or run}"
    print_result(extension.as_json(), text, as_json=as_json)


def _text(payout: Payout) -> str:
    from gmvaluator.payout.record import CONTESTED

    settlement = payout.settlement
    money = settlement.rules.currency.text
    m = len(payout.run.valuation.generated_ids)
    lines = [
        f"{money(settlement.rules.budget)} divided by the values of {m - payout.start} generated "
        f"images: paid now {money(settlement.paid)}, carried {money(settlement.carried)}, stays "
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
        lines.append(f"{payout.ownership.n_skipped} rows name images that could not be read")
    if payout.contested is None:
        lines.append("copies with different owners: not searched, since the run has --dedup none")
    if payout.contested:
        n_contested = sum(len(cluster.rows) for cluster in payout.contested)
        lines.append(
            f"{100 * payout.contested_share:.2f} % of the value is of copies that have different "
            f"owners ({n_contested} images in {CONTESTED}): find out who owns these images before "
            "you pay"
        )
    lines.append(_shares(payout))
    if payout.changes:
        lines += [f"without {', '.join(map(shortened, payout.withdrawn))}:", _differences(payout)]
    return "\n".join(lines)


SHOWN = 30


def _shares(payout: Payout) -> str:
    money = payout.settlement.rules.currency.amount
    rows = [
        (
            line.owner,
            str(line.n_images),
            f"{line.value:.5f}",
            f"{100 * line.share:.2f} %",
            "none"
            if line.share_low is None or line.share_high is None
            else f"{100 * line.share_low:.2f} to {100 * line.share_high:.2f} %",
            *(f"{money(units):,f}" for units in (line.amount, line.paid, line.carried)),
        )
        for line in sorted(payout.settlement.lines, key=lambda line: -line.amount)
    ]
    columns = ("owner", "images", "value", "share", "interval", "amount", "paid", "carried")
    return _first(columns, rows)


def _differences(payout: Payout) -> str:
    money = payout.settlement.rules.currency.amount
    rows = [
        (
            change.owner,
            *(f"{value:.5f}" for value in (change.value_before, change.value_after)),
            *(f"{100 * share:.2f} %" for share in (change.share_before, change.share_after)),
            *(f"{money(amount):,f}" for amount in (change.amount_before, change.amount_after)),
            f"{money(change.amount_after - change.amount_before):+,f}",
        )
        for change in payout.changes
    ]
    before_and_after = (
        f"{what}{when}" for what in ("value", "share", "amount") for when in (" before", " after")
    )
    return _first(("owner", *before_and_after, "change"), rows)


def _first(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first rows as a table, and how many are not shown."""
    more = len(rows) - SHOWN
    shown = table(columns, rows[:SHOWN], left=("owner",))
    return shown + (f"\nand {more} more, see the files" if more > 0 else "")
