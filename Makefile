# The two commands of the README, and the parts of the second.
#
#   make demo   talk with the example agent over a real WebSocket, offline
#   make test   linters, types, tests, coverage, docs
#
# Each part has a stamp in the virtual environment, so that nothing is installed twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NODE := tests/interop/node
# "all": a test that misses a browser or Node fails, instead of being skipped.
export REQUIRE ?=
ARGS ?=
# One more than there are cores, because some tests wait; at most four, because some need memory.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

.PHONY: help demo test lint types unit clients coverage versions docs bench scorecards lock clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo  ## talk with the example agent (ARGS="--help" for its options)
	@$(BIN)/speech-engine demo $(ARGS)

test: lint types unit coverage versions docs  ## everything that must hold

lint: $(VENV)/.dev  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev  ## mypy --strict, pyright, and the completeness of the public types
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(CURDIR)/$(BIN)/python
	# --verifytypes looks for packages with the python of the PATH, whatever --pythonpath says.
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes speech_engine_proto --ignoreexternal

unit: $(VENV)/.dev clients  ## all tests, by files on several cores
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile $(ARGS)

clients:  ## the npm packages that the tests hold this package against, where there is Node
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(NODE)/node_modules/.package-lock.json; \
	else echo "npm is not on this machine: tests of the official TypeScript and browser clients are skipped"; fi

$(NODE)/node_modules/.package-lock.json: $(NODE)/package.json $(NODE)/package-lock.json
	@echo "Installing the official clients from npm ..."
	@cd $(NODE) && npm ci --silent --no-audit --no-fund
	@touch $@

coverage: $(VENV)/.dev  ## every module of the core wholly covered by its own test file
	$(BIN)/python tests/coverage_by_module.py

versions: $(VENV)/.dev  ## the tests of the core and the session on the other Pythons of this machine
	$(BIN)/python tests/other_pythons.py

docs: $(VENV)/.dev  ## the documentation as HTML in docs/_build, warnings are errors
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

bench: $(VENV)/.dev  ## what a piece, a turn, a frame and a call cost; writes benchmarks/RESULTS.md and plots
	$(BIN)/python benchmarks/run.py $(ARGS)

scorecards: $(VENV)/.dev clients  ## our servers and the official SDKs under check; writes docs/reference/scorecards.md
	$(BIN)/python docs/scorecards.py

lock: $(VENV)/.dev  ## renew the pins from the ranges in pyproject.toml
	$(PIP) install uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url \
	  --no-annotate --all-extras --group test --group interop --group lint --group docs --group bench \
	  --upgrade pyproject.toml -o requirements.lock

clean:  ## remove the virtual environment and everything that was built
	rm -rf $(VENV) build dist docs/_build $(NODE)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

$(VENV)/.venv: 
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12 ...")'
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml requirements.lock
	@echo "Installing the package and what the demo needs ..."
	@$(PIP) install -c requirements.lock -e '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml requirements.lock
	@echo "Installing the package and the development tools (about a minute) ..."
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps -e .
	@touch $(VENV)/.demo $@
