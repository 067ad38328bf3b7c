# `make up` starts everything on a fresh machine; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Further arguments of the command behind a target: make test ARGS="-k bridge".
ARGS ?=
STAGE ?=

.PHONY: help up test test-slow check chaos bench bench-aggregates bench-feed docs lock page env env-dev

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: env page ## Install what is needed, start everything, stop it on Ctrl-C
	@exec $(BIN)/hl up $(ARGS)

test: env-dev page ## Run the suite on servers of its own
	@$(BIN)/python -m hl_platform.stack.install mosquitto chromium
	@exec $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

# Most of a test's time is waiting for servers. Each process has servers of its own; files with the slowest come first.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: env-dev page ## Run the tests that make test leaves out: longer faults, on servers of their own
	@$(BIN)/python -m hl_platform.stack.install mosquitto chromium
	@exec $(BIN)/python -m pytest -m slow $(SIDE_BY_SIDE) $(ARGS)

check: env-dev ## Check format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@deploy/scripts/page.sh check

chaos: env-dev ## Run the fault matrix on servers of its own: make chaos ARGS="--only sink.written"
	@$(BIN)/python -m hl_platform.stack.install mosquitto
	@exec $(BIN)/python -m tests.faults.chaos $(ARGS)

bench: env-dev ## Measure beside others, and the running stack; one part: STAGE=bridge ARGS="--n 50000"
	@$(BIN)/python -m hl_platform.stack.install mosquitto
	@exec $(BIN)/python -m bench $(STAGE) $(ARGS)

bench-aggregates: env-dev ## Measure the aggregates on a PostgreSQL of their own: ARGS="--sets home --scale 0.1"
	@exec $(BIN)/python -m bench aggregates $(ARGS)

bench-feed: env-dev ## Measure the feed's fan-out beside websockets.broadcast(): ARGS="--clients 500 --rates 100"
	@exec $(BIN)/python -m bench feed $(ARGS)

docs: env-dev ## Write what is made from the code: pages of docs/, dashboards of deploy/grafana/
	@$(BIN)/python docs/generate.py

lock: env-dev ## Pin what pyproject.toml asks for; newer versions with ARGS=--upgrade
	@$(BIN)/pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile $(LOCK_OPTIONS) --extra build -o requirements.lock pyproject.toml
	@$(BIN)/uv pip compile $(LOCK_OPTIONS) --extra build --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

LOCK_OPTIONS := --quiet --universal --generate-hashes --no-strip-extras --no-emit-index-url \
	--python-version 3.11 --no-header $(ARGS)

page: ## Build the page, if its sources changed
	@deploy/scripts/page.sh build

env:
	@PYTHON="$(PYTHON)" deploy/scripts/environment.sh run

env-dev:
	@PYTHON="$(PYTHON)" deploy/scripts/environment.sh dev
