# On a bare machine with Python 3.11 (3.10 or newer) and make, each target sets everything up in .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: install demo test test-slow test-all lint types wheel signatures

install: .venv/.installed  ## the package, and what it and the commands of the README need

demo: .venv/.installed  ## pretrain, look, evaluate and report on photographs that come with the dependencies
	$(BIN)/unmask demo

test: .venv/.tested  ## the tests that take seconds: a few minutes in all
	$(PYTEST) -m "not slow"

test-slow: .venv/.tested  ## the others: kills, process pairs, compiled steps, end-to-end and smoke runs
	$(PYTEST) -m slow

test-all: .venv/.tested  ## both
	$(PYTEST)

lint: .venv/.tested
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/.tested
	$(BIN)/pyright

wheel: .venv/.tested  ## build the wheel, install it into an empty environment, use it from another folder
	.ci/wheel

signatures: .venv/.tested  ## after options changed: what editors know of the functions
	$(BIN)/python tests/test_signatures.py > src/unmask/__init__.pyi.new && mv src/unmask/__init__.pyi.new src/unmask/__init__.pyi

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[export]"
	@touch $@

.venv/.tested: .venv/.installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable ".[dev]"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --no-deps lightly  # its losses only
	@touch $@
