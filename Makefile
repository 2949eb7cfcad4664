# Everything a contributor or an operator's first five minutes need. `make` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}'

$(VENV)/.run: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@test -x $(BIN)/python || { echo "Making the environment in $(VENV) …"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the daemon …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "Installing the tools for tests and checks …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: setup
setup: $(VENV)/.dev ## Make the environment for development

.PHONY: run
run: $(VENV)/.run ## See it work: a file's way from inbox/ to outbox/, no service needed
	@mkdir -p inbox && echo "Hello from $$(date)" > inbox/hello.txt
	@echo "The page is at http://127.0.0.1:8080/. Copy a file into inbox/: its result appears in outbox/. Ctrl-C ends it."
	@exec $(BIN)/dcnios run --config config/quickstart.yaml

.PHONY: test
test: $(VENV)/.dev ## Run all tests, the real servers' included (the first time builds them: ten minutes)
	@$(PYTEST) tests

.PHONY: test-fast
test-fast: $(VENV)/.dev ## Run the tests that need no server
	@$(PYTEST) tests/unit tests/contract tests/property -m "not servers"

.PHONY: check
check: $(VENV)/.dev ## Formatter, linter, types, import contracts, spelling, known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell dcnios_daemon tests config deploy docs *.md
	$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off

.PHONY: fmt
fmt: $(VENV)/.dev ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: types
types: $(VENV)/.dev ## Check types only
	$(BIN)/mypy

.PHONY: bench
bench: $(VENV)/.dev ## Measure how good it is on real servers (ONLY=cpu,cap,queued,overload); JSON into .bench/
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

.PHONY: test-crash
test-crash: $(VENV)/.dev ## Kill the daemon and everything around it, again and again; SEED KILLS OUTAGES EVENTS
	@$(BIN)/python -m tests.crash

.PHONY: testbed
testbed: $(VENV)/.dev ## Start real Kubernetes, MinIO and Kafka on loopback until Ctrl-C; see .testbed/env
	@exec $(BIN)/python -m tests.servers

.PHONY: lock
lock: $(VENV)/.dev ## Resolve the dependencies anew into requirements*.lock (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --upgrade pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --upgrade pyproject.toml --group dev -o requirements-dev.lock

.PHONY: clean
clean: ## Remove everything that was made here
	rm -rf $(VENV) .testbed .bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache state inbox outbox
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
