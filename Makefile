# Two commands do everything: `make demo` and `make test`. Both create .venv and install what the lock file names.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo demonstration test slow golden check format lock clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(VENV)/.installed ## Create .venv with everything in it

# uv takes torch and torchvision as a matching pair and checks every hash. Bytecode is written here, where it takes half
# a minute once: a sweep starts many processes, and with PYTHONDONTWRITEBYTECODE set each would compile all it imports.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "secateur needs Python 3.11 or later; say: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q secateur flows tasks
	@touch $@

demo: install ## Run the quickstart study: prune, retrain, measure, report
	$(BIN)/secateur sweep schedules/studies/quickstart.yaml

demonstration: install ## Our champions against their rivals (docs/demonstration.md); hours; ARGS="--smoke" takes minutes
	$(BIN)/python benchmarks/demonstration.py $(ARGS)

test: install ## Run the default tests
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

slow: install ## Run the tests that take minutes
	$(BIN)/pytest -m 'slow and not gpu and not device' -n 3 --dist loadfile --no-loadscope-reorder

golden: install ## Compare with all that the real Distiller computed (../shared/golden)
	@test -d ../shared/golden/distiller || { echo "make golden: ../shared/golden/distiller is not here"; exit 1; }
	$(BIN)/pytest tests/golden -m 'not gpu and not device'

check: install ## Formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Write the lock files anew; they name no index
	@test -x $(BIN)/uv || (test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); $(BIN)/python -m pip install --quiet 'uv>=0.9')
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    --no-header --extra all --extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    --no-header --extra edge pyproject.toml -o requirements-edge.lock

clean: ## Remove .venv and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
