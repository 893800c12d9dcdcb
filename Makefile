# One word for each habit. Python and make are all that has to be there already.

UV := .uv/bin/uv
RUN := $(UV) run --frozen
export UV_COMPILE_BYTECODE := 1
export UV_PROJECT_ENVIRONMENT := .venv
# pytest: one worker for each core
JOBS ?= auto
BENCHMARKS ?= gate monitoring retraining_events schedules faults serving images rollout backtest

.PHONY: help install demo demo-down test check bench fix up down clean

help:  ## Say what each word does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 12

$(UV):
	python3 scripts/install_uv.py .uv

.venv/.installed: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --all-extras
	@touch $@

install: .venv/.installed  ## Install the project and what it needs into .venv

demo: install  ## Run the whole loop on a simulated city; TARGET=docker for containers
	$(RUN) python scripts/demo.py --target $(or $(TARGET),local)

demo-down: install  ## End what the demo started
	$(RUN) python scripts/demo.py --down

test: check  ## Run all tests; REQUIRE_DOCKER=1 fails where no Docker engine answers
	$(RUN) pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

check: install  ## Lint, types, import contracts
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) lint-imports
	$(RUN) pyright

bench: install  ## Measure every claim beside its peers; BENCH_ARGS=--quick for a small run
	@for file in $(BENCHMARKS); do \
	    $(RUN) python -m benchmarks.$$file $(BENCH_ARGS) --json $$file.json || failed=1; \
	done; exit $${failed:-0}

fix: install  ## Mend what can be mended by itself
	$(RUN) ruff check --fix
	$(RUN) ruff format

up: install  ## Start the local platform
	$(RUN) modelyard up

down: install  ## Stop it
	$(RUN) modelyard down

clean:  ## Remove caches and environments, keep what ModelYard wrote
	rm -rf .venv .uv .pytest_cache .ruff_cache .import_linter_cache .hypothesis
