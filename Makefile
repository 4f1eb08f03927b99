# `make lab` and `make test` are all that a fresh machine needs: python3, python3-venv and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: lab test check oracles bench docs clean

lab: $(INSTALLED)
	$(BIN)/labelspan lab mgre
	$(BIN)/labelspan lab ipsec
	$(BIN)/labelspan lab flexvpn

# One process mostly waits for real peers and timers (tests/processes.py), the others compute: one more than processors.
# WORKERS=0 is this one process and no other, where --pdb and -s work.
WORKERS ?= $(shell expr $$(nproc) + 1)

test: $(INSTALLED)
	$(BIN)/python -m pytest -p tests.processes --numprocesses=$(WORKERS) --maxprocesses=9 --cov --cov-report=term $(PYTEST)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

oracles: $(INSTALLED)
	test -x .oracles/bin/python || $(PYTHON) -m venv .oracles
	.oracles/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test]" ciscoconfparse2 "hier-config<3" ntc-templates
	ORACLES=1 .oracles/bin/python -m pytest -q tests/oracles

bench: $(INSTALLED)
	for bench in benchmarks/*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .oracles .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
