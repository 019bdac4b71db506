"""The command line: one file a command."""

from gmvaluator.cli.app import cli, main

__all__ = ["cli", "main"]
