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

# First what computes and knows no time but a virtual one, on all processors; then, alone, what has sockets and peers of the
# kernel's world (marked `root`), and mostly waits. WORKERS=0: one process, where --pdb and -s work.
WORKERS ?= $(shell nproc)

test: $(INSTALLED)
	$(BIN)/coverage erase
	status=0; \
	$(BIN)/python -m pytest -m "not root" --numprocesses=$(WORKERS) --dist=loadfile --cov --cov-report= $(PYTEST) \
	  || { test $$? = 5 || status=1; }; \
	$(BIN)/python -m pytest -m root --cov --cov-append --cov-report=term $(PYTEST) \
	  || { test $$? = 5 || status=1; }; \
	exit $$status

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
