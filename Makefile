# SPDX-License-Identifier: Apache-2.0
#
# The verbs of this project. Each does its own set-up: a bare Debian machine with Python 3.11 or newer is enough.
# VENV=DIR uses another virtual environment; ARGS="..." is handed to pytest or to fastdns.

VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
COMPARE ?=
THRESHOLD ?= 10%
CASES ?= 10000000
FLAVOUR ?= release
SWITCH_release :=
SWITCH_debug := FASTDNS_DEBUG=1
SWITCH_trace := FASTDNS_TRACE=1
SWITCH_sanitize := FASTDNS_SANITIZE=1
SOURCES := fastdns plugins tests bench setup.py

.DEFAULT_GOAL := help
.PHONY: help setup setup-test build run test debug trace lint type bench bench-micro instructions \
        interleavings reloads fuzz-query fuzz-reply fuzz-cache sanitize wheel clean pytest compile

help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { sub(/:.*/, "", $$1); printf "  make %-36s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:
	@VENV=$(VENV) tests/setup.sh run

setup-test:
	@VENV=$(VENV) tests/setup.sh test

# Modules of another flavour are removed first: the objects of each flavour are kept apart, so going back costs a copy.
compile:
	@if [ "$$(cat build/flavour 2>/dev/null)" != "$(FLAVOUR)" ]; then \
	    find fastdns plugins -name '*.so' -delete; mkdir -p build; echo $(FLAVOUR) > build/flavour; fi
	@mkdir -p build
	@$(SWITCH_$(FLAVOUR)) $(PY) setup.py -q build_ext --inplace > build/$(FLAVOUR).log 2>&1 \
	    || { cat build/$(FLAVOUR).log; exit 1; }
	@echo "built ($(FLAVOUR)); the compiler's words are in build/$(FLAVOUR).log"

build: setup compile ## compile the modules in place

run: build ## serve on 127.0.0.1:1053 from ./Corefile
	exec $(PY) -m fastdns -conf Corefile $(ARGS)

test: setup-test compile pytest ## everything that must pass, set-up included

pytest:
	@$(PY) -m pytest -m "not nightly" -p no:cacheprovider -q $(ARGS)

debug: setup ## compile with checks, symbols and annotated HTML (build/debug)
	@$(MAKE) --no-print-directory compile FLAVOUR=debug

trace: setup-test ## run the tests with line tracing and show the coverage
	@$(PY) -m pip install -q --disable-pip-version-check coverage
	@$(MAKE) --no-print-directory compile FLAVOUR=trace
	@$(PY) -m coverage run -m pytest -q --timeout 600 $(ARGS)
	@$(PY) -m coverage combine -q && $(PY) -m coverage report

lint: setup-test ## ruff and cython-lint
	@$(PY) -m pytest -q tests/meta/test_lint.py

type: setup-test ## mypy
	@$(PY) -m mypy

bench: setup-test compile ## the load scenarios, short, against the servers that are installed; writes bench/results, README
	@$(PY) -m bench.load --short --save $(ARGS)

# A run is kept below .benchmarks; one that compares is not, so that it is never its own measure.
bench-micro: setup-test compile ## the micro benchmarks; COMPARE=1: against the last run (THRESHOLD=10%)
	@[ -z "$(COMPARE)" ] || ls .benchmarks/*/*.json >/dev/null 2>&1 \
	    || { echo "no run is kept to compare with; make bench-micro keeps one" >&2; exit 2; }
	@$(PY) -m pytest -q bench/micro --benchmark-only --benchmark-name=long --benchmark-sort=fullname $(if $(COMPARE), \
	    --benchmark-columns=min --benchmark-compare --benchmark-compare-fail=min:$(THRESHOLD), \
	    --benchmark-columns=min,median,iqr,rounds --benchmark-save=run) $(ARGS)

instructions: setup-test compile ## instructions per query by callgrind, written to bench/instructions
	@$(PY) -m bench.instructions $(ARGS)

interleavings: CASES = 1000
interleavings: setup-test compile ## CASES=n random orders of reload, upgrade, stop and death; SEED=n is the first one
	@FASTDNS_CASES=$(CASES) FASTDNS_SEED=$(or $(SEED),0) $(PY) -m pytest -q -p no:cacheprovider -m nightly \
	    tests/faults/test_interleavings.py $(ARGS)

reloads: setup-test compile ## 20 reloads and 20 upgrades at half of what this machine can serve: what is lost, failed, old; wants a quiet machine
	@$(PY) -m pytest -q -p no:cacheprovider -m nightly tests/faults/test_half_load.py $(ARGS)

fuzz-query fuzz-reply fuzz-cache: fuzz-%: ## CASES=n inputs through the query parser, the reply parser, the cache's reader
	@VENV=$(VENV) tests/setup.sh fuzz
	@PYTHON=$(PY) tests/fuzz/run.sh fuzz_$* $(CASES)

sanitize: ## the suite with address and undefined-behaviour sanitizers, in a copy of the tree
	@tests/sanitize.sh $(ARGS)

wheel: setup ## a wheel in dist/
	@$(PY) -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	@ls -l dist

clean: ## remove what a build generates (the virtual environment stays)
	@rm -rf build dist *.egg-info
	@find fastdns plugins tests bench \( -name '*.so' -o -name '*.html' \) -delete
	@find fastdns plugins -name '*.c' -delete
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf
