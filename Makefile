# One script for each task; CI runs the same targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE # imports would be compiled again at every start
export PYTHON
BIN := .venv/bin

.PHONY: help setup up demo demo-review test check export docs pictures bench clean

help: ## List the targets
	@grep -E '^[a-z%-]+:.*## ' Makefile | awk 'BEGIN{FS=":.*## "}{printf "  make %-12s %s\n",$$1,$$2}'

setup: ## Set everything up inside this folder
	@tools/setup.sh

up: setup ## Start the workbench, run the flight-delay pipeline, say where to click; Ctrl-C stops it
	@$(BIN)/python -m hub_config.workbench up

demo: setup ## The same, then verify every step and exit
	@$(BIN)/python -m hub_config.workbench demo

demo-review: setup ## A model that is refused as unfair, mended, decided by three people; verify and exit
	@$(BIN)/python -m hub_config.workbench demo-review

test: ## Set up what the tests need and run them all
	@tools/setup.sh test
	@$(BIN)/python -m pytest

export: setup ## Format the notebooks and write the library from them
	@$(BIN)/ruff format --quiet nbs
	@$(BIN)/nbdev-clean
	@$(BIN)/python tools/drop_warnings.py
	@$(BIN)/nbdev-export

check: setup ## What CI's static part runs: format, lint, types, notebooks against the library
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/check.sh

docs: setup ## Build the notebooks into a site (_docs/)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/docs.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "docs: _docs/index.html"

pictures: setup ## Take the documentation's pictures (nbs/images/) anew, from the browser tests
	@tools/setup.sh test
	@MAJLIS_PICTURES=1 $(BIN)/python -m pytest tests/browser/test_story.py tests/browser/test_four_accounts.py

bench-%: ## Measure one thing against its peers, side by side (bench-serving, bench-audit, ...)
	@tools/setup.sh bench
	@$(BIN)/python -m tests.bench.bench_$*

bench: $(patsubst tests/bench/bench_%.py,bench-%,$(wildcard tests/bench/bench_*.py)) ## All of them, one after the other

clean: ## Remove everything the workbench keeps (asks first)
	@printf 'Remove var/ with all its data? [y/N] ' && read answer && [ "$$answer" = y ] && rm -rf var || true
