# Every target sets up what it needs first; a second run finds it done.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := agent controller proto tests deploy
# A file of tests stays in one process: what its tests share is made once.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile
# Tests start hundreds of processes: each would compile its sources anew.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help

.PHONY: help setup setup-tests demo test test-full bench lint types imports generated pytest format lock proto clean

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:[^#]*##/\t/' | expand -t 16

setup:           ## uv, locked packages, llama.cpp compiled once
	@$(PYTHON) deploy/bootstrap.py

setup-tests:
	@$(PYTHON) deploy/bootstrap.py --mosquitto

demo: setup      ## the whole product in one minute (HEADLESS=1: JSON lines, exit status)
	@$(BIN)/python deploy/demo $(if $(HEADLESS),--headless)

test: setup-tests lint types imports generated pytest  ## lint, types, import rules, tests

test-full: setup-tests lint types imports generated  ## the same with the slow tests
	@$(BIN)/python -m pytest -m "full or not full"

bench: setup-tests  ## figures as JSON lines (ONLY=spine ... for one area)
	@$(BIN)/python tests/bench/run.py $(ONLY)

lint:
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

types:
	@$(BIN)/pyright --warnings

imports:
	@$(BIN)/lint-imports --no-logo

generated:       # committed generated files are what their sources say
	@$(BIN)/python deploy/generate.py --check

pytest:
	@$(BIN)/python -m pytest -m "not full" $(PARALLEL)

format: setup    ## rewrite the sources in the house format
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

proto: setup     ## regenerate the committed generated files
	@$(BIN)/python deploy/generate.py

lock: setup      ## resolve requirements/ anew
	@sh deploy/lock.sh .tools/bin/uv

clean:           ## remove what set-up made (the compiled wheel stays in the user's cache)
	rm -rf .venv .tools .pytest_cache .ruff_cache .hypothesis
