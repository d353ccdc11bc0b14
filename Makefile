# Every target sets up what it needs first; with nothing changed that takes a fraction of a second.
.DEFAULT_GOAL := help
VENV := .venv/bin
PYTEST_ARGS ?=
# Tests wait more than they compute; each worker has a PostgreSQL of its own.
WORKERS ?= 2
ARGS ?=

.PHONY: help setup setup-tests test lint check fmt wheel demo up bench docs lock

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv from the lock, and install the system packages that are missing
	@scripts/setup.sh

setup-tests:
	@scripts/setup.sh --browser

test: setup-tests ## all tests (PYTEST_ARGS='-k name' for some)
	$(VENV)/pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: setup ## format, lint, types, import contracts
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/basedpyright
	$(VENV)/lint-imports --no-logo

check: lint test ## everything that must hold before a change lands

fmt: setup ## format and fix what can be fixed
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix-only .

wheel: setup ## build the wheel and start it from a venv of its own
	@scripts/check_wheel.sh

demo: setup ## one task from webhook to published result (KEEP=1 leaves it running)
	$(VENV)/dispatch demo $(if $(KEEP),--keep) $(ARGS)

up: setup ## the whole system on this machine
	$(VENV)/dispatch up $(ARGS)

bench: setup ## the benchmarks
	$(VENV)/python -m tests.benchmarks $(ARGS)

docs: setup ## regenerate the generated parts of docs/
	$(VENV)/dispatch docs

lock: ## resolve requirements.lock anew (commit the result)
	@test -x $(VENV)/uv || scripts/setup.sh
	$(VENV)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o requirements.lock
	@! grep -n '://' requirements.lock || { echo 'requirements.lock names an address; it must not' >&2; exit 1; }
