# Everything a checkout needs. `make run` and `make test` work on a fresh machine with Python 3.11+, make and a network
# to the package registries; nothing here needs root, Docker or a server installed by hand.

VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(VENV)/.installed-run
DEV    := $(VENV)/.installed-dev
BENCH  := $(VENV)/.installed-bench
INPUTS := pyproject.toml hatch_build.py
# A third of the time tests wait for servers that start, stop or are away.
WORKERS := $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores + (cores + 1) / 2)))

# Where this is set, each process that the tests start would compile every module of ours anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run install test check format docs faults compat celery-worker bench bench-observe clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|' 2>/dev/null || true

run: $(RUN) ## Install what running needs, start everything, run the main job, keep serving (Ctrl-C ends it)
	@sh tools/run.sh

install: $(DEV) ## Install the development set into .venv

test: $(DEV) ## Install the development set, start the servers the tests need, run the tests (ARGS='-k name')
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: $(DEV) ## Lint, format, types, imports, sizes and docs
	@sh tools/check.sh

format: $(DEV) ## Let ruff format and fix what it can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

docs: $(DEV) ## Write the generated parts of the reference pages anew
	@$(BIN)/python -m tools.reference

faults: $(DEV) ## The long form of the tests that break things on purpose
	@$(BIN)/python -m pytest tests/faults tests/acceptance tests/servers tests/managed -m "faults or long" --fault-rounds=50 --timeout=3600 $(ARGS)

compat: $(DEV) ## Run Celery's own suite, other people's applications and releases, unchanged (installed into .venv-compat)
	@$(BIN)/python -m pytest tests/compat --compat $(ARGS)

celery-worker: $(RUN) ## A managed worker of Headway's own application (JOB_REGISTRY_PATH, CELERY_BROKER_URL)
	@$(BIN)/headway worker $(ARGS)

bench: $(BENCH) ## Side by side with the peers, as ratios, in one run (ARGS='--help')
	@$(BIN)/python -m benchmarks.embedded $(ARGS)

bench-observe: $(BENCH) ## Watching a Celery cluster, side by side with Flower (ARGS='--help')
	@$(BIN)/python -m benchmarks.observe $(ARGS)

clean: ## Remove what installing, testing and checking left behind (not the data under var/)
	rm -rf $(VENV) .venv-compat build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf src/headway/console/static/vendor

$(BIN)/python:
	@sh tools/venv.sh $(VENV)

$(RUN): $(BIN)/python $(INPUTS)
	@if [ ! -e $(DEV) ] || [ pyproject.toml -nt $(DEV) ]; then sh tools/install.sh $(VENV) pbpk; fi
	@touch $@

$(DEV): $(BIN)/python $(INPUTS)
	@sh tools/install.sh $(VENV) dev
	@touch $@

$(BENCH): $(DEV) $(INPUTS)
	@sh tools/install.sh $(VENV) bench
	@touch $@
