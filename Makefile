# Each target does its own set-up: the first one builds .venv from requirements-dev.lock.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The newest Python that works here; `make PYTHON=/path/to/python …` says otherwise.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up ---------------------------------------------------------------------------------------

.PHONY: setup
setup: $(READY) ## build .venv (every other target does it by itself)

$(READY): requirements-dev.lock pyproject.toml
	@python='$(PYTHON)'; \
	if [ -z "$$python" ] || ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo 'Python 3.11 or later is needed; name one with: make PYTHON=/path/to/python3' >&2; exit 1; fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Building $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV) || { echo 'This Python cannot build virtual environments; on Debian: apt install python3-venv' >&2; exit 1; }; fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# PgBouncer, for the tests that need it in front of PostgreSQL: no wheel brings it, so Debian's package is unpacked
# here, not installed. Where that cannot be done, and none is on the PATH, those tests say that they did not run.
POOLER := $(VENV)/pgbouncer

$(POOLER)/.ready: $(READY)
	@mkdir -p $(POOLER)
	@if ! PATH="$$PATH:/usr/sbin" command -v pgbouncer && command -v apt-get; then cd $(POOLER); \
		apt-cache show pgbouncer || { [ "$$(id -u)" != 0 ] || apt-get update; }; \
		apt-get download pgbouncer $$(apt-cache depends pgbouncer | awk '/Depends: lib(c-?ares|event)/ {print $$2}') && \
		for package in *.deb; do dpkg-deb --extract "$$package" . && rm "$$package"; done; fi >/dev/null 2>&1 || true
	@if PATH="$$PATH:/usr/sbin:$(POOLER)/usr/sbin" command -v pgbouncer >/dev/null; then touch $@; fi

# promtool, for the tests of the alerts: unpacked in the same way, from Debian's package of Prometheus.
PROMTOOL := $(VENV)/prometheus

$(PROMTOOL)/.ready: $(READY)
	@mkdir -p $(PROMTOOL)
	@if ! command -v promtool && command -v apt-get; then cd $(PROMTOOL); \
		apt-cache show prometheus || { [ "$$(id -u)" != 0 ] || apt-get update; }; \
		apt-get download prometheus && for package in *.deb; do \
			dpkg-deb --fsys-tarfile "$$package" | tar --extract ./usr/bin/promtool; rm "$$package"; done; fi >/dev/null 2>&1 || true
	@if PATH="$$PATH:$(PROMTOOL)/usr/bin" command -v promtool >/dev/null; then touch $@; fi

# A browser, for the tests of the operator's page: Debian's Chromium, where this may install it. Elsewhere those tests
# say that they did not run.
.PHONY: browser
browser: ## install Chromium for the tests of the operator's page (Debian and its like, as root)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		(apt-cache show chromium >/dev/null 2>&1 || apt-get update >/dev/null 2>&1; \
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium >/dev/null 2>&1); } || \
		echo "NO BROWSER: the tests of the operator's page will not run; install chromium, as root: make browser" >&2

# What the tests use besides Python's packages.
TOOLS := $(POOLER)/.ready $(PROMTOOL)/.ready browser

# --- every day ------------------------------------------------------------------------------------

.PHONY: test
test: $(READY) $(TOOLS) ## everything that must hold: format, lint, types, layers, coverage, mutants, tests
	@$(BIN)/python tools/check.py

.PHONY: test-long
test-long: $(READY) $(TOOLS) ## the same with the long, seed-varied forms of the tests
	@RELAY_TEST_LONG=1 $(BIN)/python tools/check.py

.PHONY: test-postgres
test-postgres: $(READY) $(POOLER)/.ready ## the outbox' suites on PostgreSQL 14 and 15; VERSIONS="14 16" says others
	@$(BIN)/python tools/old_postgres.py $(or $(VERSIONS),14 15)

check-%: $(READY) $(TOOLS)
	@$(BIN)/python tools/check.py $*

.PHONY: screenshots
screenshots: $(READY) browser ## take the pictures of the operator's page that the documentation shows
	@RELAY_TEST_SCREENSHOTS=$(CURDIR)/docs $(BIN)/python -m pytest -q tests/e2e/test_pictures.py

.PHONY: format
format: $(READY) ## let the formatter and the linter mend what they can
	@$(BIN)/ruff check --quiet --fix --exit-zero .
	@$(BIN)/ruff format .

.PHONY: demo
demo: $(READY) ## a relay, an ION simulator and its faults, in under a minute
	@$(BIN)/relay demo

.PHONY: demo-scale
demo-scale: $(READY) ## PostgreSQL, 60 tenants, replicas killed, frozen, added, replaced; half a minute
	@$(BIN)/python -m tools.demo_scale

.PHONY: bench
bench: $(READY) ## throughput against a bare loop, pick-up time, memory, cost of the store; on both stores
	@$(BIN)/python -m tools.bench
	@$(BIN)/python -m tools.bench --outbox postgres

# --- now and then ---------------------------------------------------------------------------------

.PHONY: docs
docs: $(READY) ## write the pages that are made from the code
	@$(BIN)/python -m tools.generate || $(BIN)/python -m tools.generate

.PHONY: lock
lock: ## resolve the dependencies anew, with hashes, for every platform
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && "$$scratch/bin/pip" install --quiet --disable-pip-version-check uv && \
	compile() { "$$scratch/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes "$$@"; } && \
	compile --upgrade --extra postgres --extra otel pyproject.toml -o requirements.lock && \
	compile --upgrade pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock && \
	compile --upgrade --group build -c requirements-dev.lock -o requirements-build.lock

.PHONY: image
image: ## build the container image ion-relay
	@engine=$$(command -v docker || command -v podman) || { echo 'No container engine here: install docker or podman.' >&2; exit 1; }; \
	"$$engine" info >/dev/null 2>&1 || { echo "$$engine is here, but its engine does not answer; is it running?" >&2; exit 1; }; \
	"$$engine" build --tag ion-relay .

.PHONY: clean
clean: ## remove .venv and everything that was built or cached
	@rm -rf $(VENV) build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
