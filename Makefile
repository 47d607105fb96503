# Needs Python 3.11 to 3.14 with pip, and make. Everything else is installed into .venv by `make setup`.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
# The first command that works: a version manager may put commands on the path that start no interpreter.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
  $$name -c '$(SUPPORTED)' 2>/dev/null && command -v $$name && break; done)
BIN := .venv/bin
# Worker processes of the tests: they wait for servers a third of the time, so three keep two cores busy.
JOBS ?= 3
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo docs test test-long test-all test-unit bench-serving containers compose-test up down lint audit format lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

# Compile once here: if PYTHONDONTWRITEBYTECODE is set, imports otherwise take five times as long. Packages
# that nothing imports are left out.
compile = $(BIN)/python -W ignore::SyntaxWarning -m compileall -q -j 2 -x '/(tests?|testing|databricks|numba|apprise|altair|wcwidth|fontTools)/' .venv/lib || true

setup: .venv/.ready ## Install the product into .venv
setup-dev: .venv/.ready-dev ## Also install the tools for tests, lint, types and docs

$(BIN)/uv: requirements-uv.lock
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUPPORTED)' || \
	  { echo "Python 3.11 to 3.14 is needed; name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || \
	  { echo "$(PYTHON) has no pip: apt-get install python3-pip, or $(PYTHON) -m ensurepip"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	$(PYTHON) -m pip --python $(BIN)/python install -q --require-hashes -r requirements-uv.lock
	@touch $@

.venv/.ready: $(BIN)/uv requirements.lock pyproject.toml
	@tools/system-packages.sh runtime
	test -e .venv/.ready-dev || $(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock requirements-uv.lock
	$(compile)
	$(BIN)/python tools/link_project.py
	@touch $@

.venv/.ready-dev: $(BIN)/uv requirements-dev.lock pyproject.toml
	@tools/system-packages.sh runtime browser spark
	$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements-dev.lock requirements-uv.lock
	$(compile)
	$(BIN)/python tools/link_project.py
	@touch $@ .venv/.ready

demo: setup ## Run the pipeline on a simulated shop
	$(BIN)/retail demo

# Bytecode is kept also where PYTHONDONTWRITEBYTECODE is set: pytest rewrites each test module, which every
# worker would otherwise do in every run.
test test-long test-unit: export PYTHONDONTWRITEBYTECODE =

# A module's tests stay on one worker; the longest modules start first (tests/conftest.py).
pytest = $(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder

test: setup-dev ## Run all tests except the long ones and those of the images, with coverage
	$(pytest) -m "not (long or containers)" --cov $(COVERAGE) --cov-report=term:skip-covered

test-long: setup-dev ## Run the long tests: whole stack, browser, kills, real logs
	$(pytest) -m "long and not containers" --cov --cov-report=

test-all: setup-dev ## Run all tests except those of the images; check the floors of coverage
	$(MAKE) -s test-long
	$(MAKE) -s test COVERAGE=--cov-append
	$(BIN)/python tools/coverage_floors.py

test-unit: setup-dev ## Run the unit and property tests that need no service, and those of the documentation
	$(pytest) -q -m "not integration" tests/unit tests/property tests/docs

bench-serving: setup-dev ## Benchmark the service against plain servers of the same model
	@tools/system-packages.sh load
	$(BIN)/python -m tests.benchmarks.bench_serving

containers: setup-dev ## Build and run the API's image
	$(BIN)/python -m pytest -m "containers and not compose"

compose-test: setup-dev ## Build and run compose.yaml with podman; train, query the API, open the app
	$(BIN)/python -m pytest -s -m compose

up: setup ## Run the stack on this machine
	$(BIN)/retail up

down: ## Stop the stack
	$(BIN)/retail down

lint: setup-dev ## Check style, types and the import rules between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

audit: setup-dev ## Check dependencies, licences, insecure calls and secrets; write build/sbom.cdx.json
	$(BIN)/python -m tools.audit

docs: setup-dev ## Build the documentation site into site/, without network access
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict

format: setup-dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup-dev ## Resolve the dependencies into the lock files
	tools/lock.sh

clean: ## Remove installed packages, caches and the built site; never data
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
