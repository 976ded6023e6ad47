.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TREES := kedge/bundle/libtrees.so
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

.PHONY: help install demo test test-cluster tools promtool lint format specs lock images clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed $(TREES) ## Create .venv with the command `kedge` in it, from the locks only

$(VENV)/.installed: requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"kedge needs Python 3.11 to 3.13, $(PYTHON) is {v[0]}.{v[1]}; try: make install PYTHON=python3.12")'
	@echo "making $(VENV), with what installs the rest"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@echo "installing $$(grep -c '^[a-z0-9]' requirements/dev.txt) packages of requirements/dev.txt: a minute or a few, by the network"
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@echo "installing kedge itself: $(BIN)/kedge"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(TREES): kedge/bundle/trees.c tools/compile requirements/compiler.txt | $(VENV)/.installed
	@echo "compiling what scores trees: $@"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target build/compiler --require-hashes -r requirements/compiler.txt
	@PYTHONPATH=build/compiler tools/compile $(BIN)/python $< $@

demo: install ## Watch the loop close: drift, retraining, canary, promotion, rollback (about 5 minutes)
	$(BIN)/kedge demo

test: install ## Run the tests (below 10 minutes on 2 cores)
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m "not cluster and not ci"

test-cluster: install ## Run the tests that need a Kubernetes API, against $KUBECONFIG
	$(BIN)/python -m pytest --timeout 1800 -m cluster tests/cluster

tools: install ## Install helm, kustomize, kubeconform, kube-score and schemas for the tests of chart and manifests (needs Go)
	PYTHON=$(CURDIR)/$(BIN)/python tools/install

promtool: ## The same with promtool for the tests of the alerts, as large a build as all the others together
	PROMTOOL=1 $(MAKE) tools

images: ## Build the container images with docker, podman or buildah, whichever is there
	images/build

lint: install ## Style, types, import contract, words
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/words.py

format: install ## Rewrite files in the one style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

specs: install ## Compile the pipelines to the specs that the package carries, after a change of pipelines/ or components/
	$(BIN)/python -m pipelines.compile

lock: install ## Write the hash-locked requirements anew
	$(BIN)/$(LOCK) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(BIN)/$(LOCK) requirements/compiler.in -o requirements/compiler.txt
	$(BIN)/$(LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	$(BIN)/$(LOCK) --no-deps requirements/catboost.in -c requirements/dev.txt -o requirements/catboost.txt
	for image in step serve collect; do \
	  $(BIN)/$(LOCK) pyproject.toml --extra $$image -c requirements/dev.txt \
	    $$(ls images/$$image/excludes.txt 2> /dev/null | sed 's/^/--excludes /') -o images/$$image/requirements.txt; \
	done

clean: ## Remove what was built here
	rm -rf $(VENV) $(TREES) build dist .mypy_cache .ruff_cache .pytest_cache
