# Each target does its own set-up: the first one builds .venv from requirements-dev.lock.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The newest Python that works here, or the one of `make PYTHON=/path/to/python …`.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up ---------------------------------------------------------------------------------------

.PHONY: setup
setup: $(READY) ## build .venv (every other target does so where it is needed)

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

# PgBouncer, promtool and tinyproxy, for the tests that use them: no wheel brings them, so Debian's packages are unpacked
# into .venv, not installed. Where that is not possible, and none is on the PATH, those tests are skipped and say so.
POOLER := $(VENV)/pgbouncer
PROMTOOL := $(VENV)/prometheus
PROXY := $(VENV)/tinyproxy

$(POOLER)/.ready: $(READY)
	@mkdir -p $(POOLER)
	@if ! PATH="$$PATH:/usr/sbin" command -v pgbouncer && command -v apt-get; then cd $(POOLER); \
		apt-get download pgbouncer $$(apt-cache depends pgbouncer | awk '/Depends: lib(c-?ares|event)/ {print $$2}') && \
		for package in *.deb; do dpkg-deb --extract "$$package" . && rm "$$package"; done; fi >/dev/null 2>&1 || true
	@if PATH="$$PATH:/usr/sbin:$(POOLER)/usr/sbin" command -v pgbouncer >/dev/null; then touch $@; \
		else echo 'NO PGBOUNCER: the tests of poolers are skipped; install pgbouncer, or, as root: make browser' >&2; fi

$(PROMTOOL)/.ready: $(READY)
	@mkdir -p $(PROMTOOL)
	@if ! command -v promtool && command -v apt-get; then cd $(PROMTOOL); \
		apt-get download prometheus && for package in *.deb; do \
			dpkg-deb --fsys-tarfile "$$package" | tar --extract ./usr/bin/promtool; rm "$$package"; done; fi >/dev/null 2>&1 || true
	@if PATH="$$PATH:$(PROMTOOL)/usr/bin" command -v promtool >/dev/null; then touch $@; \
		else echo 'NO PROMTOOL: the tests of the alerts are skipped; install prometheus, or, as root: make browser' >&2; fi

$(PROXY)/.ready: $(READY)
	@mkdir -p $(PROXY)
	@if ! command -v tinyproxy && command -v apt-get; then cd $(PROXY); \
		apt-get download tinyproxy-bin && for package in *.deb; do \
			dpkg-deb --extract "$$package" . && rm "$$package"; done; fi >/dev/null 2>&1 || true
	@if PATH="$$PATH:$(PROXY)/usr/bin" command -v tinyproxy >/dev/null; then touch $@; \
		else echo 'NO PROXY: the test of a real proxy is skipped; install tinyproxy, or, as root: make browser' >&2; fi

# The only target that changes the machine: it installs Debian's Chromium, and refreshes Debian's package lists where
# they lack what is unpacked above.
.PHONY: browser
browser: ## install Chromium for the tests of the operator's page (Debian and its like, as root)
	@may_install() { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; }; \
	for package in chromium pgbouncer prometheus tinyproxy-bin; do \
		if may_install && ! apt-cache show "$$package" >/dev/null 2>&1; then apt-get update >/dev/null; break; fi; done; \
	command -v chromium >/dev/null || { may_install && \
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium >/dev/null; } || \
		{ echo 'Chromium cannot be installed here: this needs root, and Debian or its like' >&2; exit 1; }

# What the tests use besides Python's packages. A missing browser is reported, never installed.
.PHONY: tools
tools: $(POOLER)/.ready $(PROMTOOL)/.ready $(PROXY)/.ready
	@command -v chromium chromium-browser google-chrome >/dev/null || \
		echo "NO BROWSER: the tests of the operator's page are skipped; install Chromium, as root: make browser" >&2

# --- every day ------------------------------------------------------------------------------------

.PHONY: quick
quick: $(READY) ## format, lint, types, layers, unit tests: under a minute
	@$(BIN)/python tools/check.py --quick

.PHONY: test-one
test-one: $(READY) ## one test: T=tests/core/test_lanes.py; with pytest's arguments: T='… -x -k slow'
	@$(BIN)/python -m pytest $(or $(T),$(error name a test: make test-one T=tests/core/test_lanes.py))

.PHONY: test
test: $(READY) tools ## everything that must hold: format, lint, types, layers, coverage, mutants, tests
	@$(BIN)/python tools/check.py

.PHONY: test-long
test-long: $(READY) tools ## the same with the long, randomly seeded forms of the tests
	@RELAY_TEST_LONG=1 $(BIN)/python tools/check.py

.PHONY: test-postgres
test-postgres: $(READY) $(POOLER)/.ready ## the outbox's suites on PostgreSQL 14 and 15; others: VERSIONS="14 16"
	@$(BIN)/python tools/old_postgres.py $(or $(VERSIONS),14 15)

.PHONY: test-pythons
test-pythons: $(READY) tools ## the tests on every Python >= 3.11 found here; others: VERSIONS="3.12", STEP=unit
	@$(BIN)/python tools/pythons.py --step $(or $(STEP),tests) $(VERSIONS)

check-%: $(READY) tools
	@$(BIN)/python tools/check.py $*

.PHONY: audit
audit: $(READY) ## known weaknesses of the code (bandit) and of the locked packages (pip-audit), where their lists can be reached
	@$(BIN)/python tools/audit.py

.PHONY: screenshots
screenshots: $(READY) ## take the pictures of the operator's page that the documentation shows
	@RELAY_TEST_SCREENSHOTS=$(CURDIR)/docs $(BIN)/python -m pytest -q tests/e2e/test_pictures.py

.PHONY: format
format: $(READY) ## let the formatter and the linter fix what they can
	@$(BIN)/ruff check --quiet --fix --exit-zero .
	@$(BIN)/ruff format .

.PHONY: demo
demo: $(READY) ## a relay, an ION simulator and its faults, in under a minute
	@$(BIN)/relay demo

.PHONY: demo-scale
demo-scale: $(READY) ## PostgreSQL, 60 tenants, replicas killed, frozen, added, replaced; half a minute
	@$(BIN)/python -m tools.demo_scale

.PHONY: bench
bench: $(READY) ## throughput beside a bare loop, pick-up time, memory, cost of the store; on both stores
	@$(BIN)/python -m tools.bench
	@$(BIN)/python -m tools.bench --outbox postgres

# --- occasionally ----------------------------------------------------------------------------------

.PHONY: docs
docs: $(READY) ## write the pages that are generated from the code
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
clean: ## remove .venv, .venvs and everything that was built or cached
	@rm -rf $(VENV) .venvs build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
