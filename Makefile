# make demo | test | prove | lint | bench | results | results-lung | results-data | results-phantom
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test prove lint bench results results-lung results-data results-phantom

demo: $(INSTALLED)
	$(BIN)/synthorax demo --out demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -q

prove: $(INSTALLED)
	$(BIN)/python -m pytest -q -m prove --prove

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python scripts/results_shapes.py

results: $(INSTALLED)
	$(BIN)/python scripts/results_shapes.py --out docs/results

results-lung: $(INSTALLED)
	$(BIN)/python scripts/results_lung.py --out docs/results

results-data: $(INSTALLED)
	$(BIN)/python scripts/results_data.py --out docs/results

results-phantom: $(INSTALLED)
	$(BIN)/python scripts/results_phantom.py --out docs/results

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
