# Two commands do everything on a machine with Python >= 3.11, make and git:
#   make demo    value 5,000 real digits by 200 drawn ones, see demo-run/index.html
#   make test    every check that CI runs
# and one the documentation:
#   make docs    see site/index.html
# `make blocks` runs the blocks of the documentation that stand for hours of work, on stand-ins
# for their data and with small numbers: about a quarter of an hour of processor time, beyond
# `make test`.
# `make fiftyone` opens a folder of `gmvaluator curate` in FiftyOne, which it installs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check blocks docs fiftyone format clean

demo: $(VENV)/.demo
	$(BIN)/gmvaluator demo --out demo-run --overwrite

test: check

check: $(VENV)/.dev
	scripts/browser
	scripts/check

blocks: $(VENV)/.dev
	scripts/browser
	scripts/blocks

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

fiftyone: $(VENV)/.dev
	scripts/fiftyone

format: $(VENV)/.dev
	$(BIN)/ruff check --fix src tests benchmarks scripts
	$(BIN)/ruff format src tests benchmarks scripts

clean:
	rm -rf $(VENV) .venv-fiftyone demo-run site .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is wanted; pass make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "python3 cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.demo: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.docs: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo $(VENV)/.docs
