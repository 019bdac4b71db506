"""`python -m gmvaluator.cli`."""

from gmvaluator.cli.app import main

main()
