"""The command line: one file a command.

`app` has the small commands (value, embed, match, demo, doctor, cache) and the order of all.
`payout` has payout, ledger and extend; `generate` has sample and train-generator. Every other
command has its own file. `options`: options and their help. `printing`: texts and JSON. `demo`,
`doctor`: the work of these commands.
"""

from gmvaluator.cli.app import cli, main

__all__ = ["cli", "main"]
