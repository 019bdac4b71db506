"""How `--help` looks: commands by purpose, options by headings, an example at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click

SETTINGS = "Settings"
HEADINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Result": (
            *("--out", "--overwrite", "--no-report", "--figures", "--no-images", "--evidence"),
            *("--no-statements", "--name", "--train-name"),
        ),
        "Letter": ("--payer", "--model", "--period", "--language"),
        "Network": ("--host", "--port", "--token", "--allow-host", "--proxy"),
        SETTINGS: (),
        "Similarity": (
            *("--preset", "--encoder", "--second-encoder", "--index", "--rerank", "--mixing"),
            *("--distance", "--k", "--candidates", "--dedup", "--mirror"),
        ),
        "Quality and scores": ("--quality", "--weighting", "--temperature"),
        "Images without a source": ("--null", "--null-measure", "--null-level"),
        "Images": (
            *("--train-images", "--generated-images", "--holdout", "--held-out", "--strict"),
            "--pixel-limit",
        ),
        "Computing": (
            *("--device", "--backend", "--cache", "--no-cache", "--memory", "--weights", "--seed"),
            *("--seeds", "--threads", "--work"),
        ),
        "Output": ("--json", "--quiet", "--help"),
    }
)
"""Headings of options, in this order. An option that is not listed is one of the settings."""
COLUMN = 30
"""Letters of an option beside which its help begins; the help of longer ones begins below."""
MOST_FLAT = 10
"""Number of options up to which a list needs no headings."""


class Verb(click.Command):
    """A command whose `--help` lists many options by headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One section, so that what reads a help text finds all options in one place."""
        names = {name: heading for heading, listed in HEADINGS.items() for name in listed}
        records: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is not None:
                records[names.get(max(option.opts, key=len), SETTINGS)].append(record)
        flat = [record for listed in records.values() for record in listed]
        with formatter.section("Options"):
            if len(flat) <= MOST_FLAT:
                formatter.write_dl(flat)
                return
            for heading, listed in records.items():
                if listed:
                    formatter.write(f" {heading}:\n")
                    formatter.write_dl([(names.ljust(COLUMN), text) for names, text in listed])


class Purposes(click.Group):
    """A group whose `--help` lists commands by purpose.

    Args:
        purposes: purpose → names of its commands, in this order.
    """

    command_class = Verb

    def __init__(self, *args: Any, purposes: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.purposes = purposes

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in self.purposes.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        with formatter.section("Commands"):
            for purpose, names in self.purposes.items():
                formatter.write(f" {purpose}:\n")
                formatter.write_dl(
                    [(n.ljust(width), self.commands[n].get_short_help_str(200)) for n in names]
                )


def verb(words: str, name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function.

    Args:
        words: an example of its use, without the program's name.
        name: of the command. Default: the name of the function.
    """
    return click.command(name, cls=Verb, epilog=example(words))


def example(words: str) -> str:
    """The end of a command's help: one line that a reader can copy."""
    return f"\b\nExample:\n  gmvaluator {words}"
