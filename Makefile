# Two commands: `make serve` and `make test`. The rest is what they are made of.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= configs/serve/cpu.yaml
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
RUNTIME := $(VENV)/.runtime-$(shell cat requirements/cpu.lock requirements/torch-cpu.lock pyproject.toml | sha256sum | cut -c1-16)
DEV := $(VENV)/.dev-$(shell cat requirements/*.lock pyproject.toml | sha256sum | cut -c1-16)
# Unit tests need nothing but a core each. Graph tests share one cluster, which is gone before the engine tests begin.
UNIT := -n logical --maxprocesses 4 tests/unit
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help serve test test-fast test-offline check check-config model clean
help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

serve: model ## start everything on this machine and answer a first question; Ctrl-C stops it
	@$(BIN)/python -m graph.launch --config "$(CONFIG)"

test: $(DEV) model ## every test: unit, graph, engine
	@$(BIN)/python -m pytest $(UNIT)
	@$(BIN)/python -m pytest tests/graph
	@$(BIN)/python -m pytest tests/engine

test-fast: $(DEV) ## unit and graph tests, without the real engine and those marked exhaustive
	@$(BIN)/python -m pytest -m "not exhaustive" $(UNIT)
	@$(BIN)/python -m pytest -m "not exhaustive" tests/graph

test-offline: $(DEV) model ## the same as test, with no network but this machine's own (Linux, unshare)
	@unshare --net $(if $(filter-out 0,$(shell id -u)),--map-current-user --keep-caps) \
	  sh -c 'ip link set lo up && exec $(MAKE) --no-print-directory test'

check: $(DEV) ## format, lint, types, unit tests
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/python -m pytest $(UNIT)

check-config: $(RUNTIME) ## FILE=...: every unknown or misspelt key of a Serve configuration
	@$(BIN)/python -m graph.check_config "$(FILE)"

model: $(RUNTIME) ## prepare the packaged model (once)
	@$(BIN)/python -c 'from deployments.generator.model_store import packaged_model_dir as d; import sys; sys.exit(not (d() / "prepared").exists())' \
	  || { echo "preparing the model (once, about 30 s) ..." && $(BIN)/python -m deployments.generator.model_store; }

$(RUNTIME):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else f"Python 3.11 or 3.12 is needed, {sys.executable} is {v[0]}.{v[1]}; run: make PYTHON=/path/to/python3.11 ...")'
	@echo "installing the pinned packages into $(VENV) (once, a few minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/cpu.lock
	@$(BIN)/python -m pip install --quiet --no-deps -r requirements/torch-cpu.lock 2>/dev/null \
	  || { echo "the CPU build of torch is not on the default index; taking it from PyTorch's own, $(TORCH_CPU_INDEX)"; \
	       $(BIN)/python -m pip install --quiet --no-deps --index-url $(TORCH_CPU_INDEX) -r requirements/torch-cpu.lock; } \
	  || { echo "torch could not be installed; see above"; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.runtime-* && touch $@

$(DEV): $(RUNTIME)
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/dev.lock
	@rm -f $(VENV)/.dev-* && touch $@

clean: ## remove the environment; data and the prepared model stay
	@rm -rf $(VENV)
