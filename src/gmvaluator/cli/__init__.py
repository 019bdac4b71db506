"""The command line: one file a command.

`app` has value, embed, match, demo, doctor and cache, and the order of all commands. `payout` has
payout, ledger and extend; `generate` has sample and train-generator. Every other command has its
own file. `options`: options and their help. `help`: how `--help` looks. `claims`: places that a
command writes to. `printing`: texts and JSON. `match`, `demo`, `doctor`: the work of these
commands.
"""

from gmvaluator.cli.app import cli, main

__all__ = ["cli", "main"]
