# Everything needs only Python (>= 3.11, with venv) and make. A private certificate authority is honoured
# through SSL_CERT_FILE, which pip knows by another name. `uv`, which reads uv.lock, is installed into a virtual
# environment of its own.
PYTHON ?= python3
export PYTHONDONTWRITEBYTECODE :=
UV := .venv/tools/bin/uv
UV_VERSION := 0.13.9

.PHONY: help demo test test-all simulate lint format bench sql docs clean
help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(UV):
	$(PYTHON) -m venv .venv/tools
	PIP_CERT="$${PIP_CERT:-$$SSL_CERT_FILE}" \
		.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# The application as a user has it: not editable, its bytecode compiled.
.venv/app/.made: $(UV) uv.lock pyproject.toml $(shell find ledger providers cli migrations -name '*.py')
	rm -rf build  # setuptools would put stale modules of it into the wheel
	UV_PROJECT_ENVIRONMENT=.venv/app $(UV) sync --quiet --python $(PYTHON) --frozen --no-dev --no-editable --compile-bytecode --reinstall-package rentroll
	@touch $@

# The same with the development tools, and the checkout itself importable.
.venv/dev/.made: $(UV) uv.lock pyproject.toml
	UV_PROJECT_ENVIRONMENT=.venv/dev $(UV) sync --quiet --python $(PYTHON) --frozen
	@touch $@

demo: .venv/app/.made  ## lease, work, give back: the whole story on the built-in emulator
	@.venv/app/bin/rentroll demo

# A process for each core, four at most: most of the time is waiting for other processes.
PYTEST := .venv/dev/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test: .venv/dev/.made  ## the tests
	$(PYTEST)

test-all: .venv/dev/.made  ## the tests, with every pair of deaths of every flow: minutes
	$(PYTEST) -m ""

SEEDS := 100000
FROM := 0
simulate: .venv/dev/.made  ## seeded runs of a hostile world; SEEDS=how many, FROM=the first
	.venv/dev/bin/python -m tests.simulation --seeds $(SEEDS) --from $(FROM)

lint: .venv/dev/.made  ## ruff, mypy, import-linter, deptry
	.venv/dev/bin/ruff check .
	.venv/dev/bin/ruff format --check .
	.venv/dev/bin/mypy
	.venv/dev/bin/lint-imports
	.venv/dev/bin/deptry .

format: .venv/dev/.made  ## lets ruff mend what it can
	.venv/dev/bin/ruff check --fix .
	.venv/dev/bin/ruff format .

bench: .venv/app/.made  ## ratios against the bare tools, side by side in one run
	.venv/app/bin/python tests/bench/run.py --venv .venv/app

sql: .venv/dev/.made  ## compiles the statements of the hot path to text
	.venv/dev/bin/python -m ledger.store.compile_sql

docs: .venv/dev/.made  ## rewrites the generated parts of the documents
	.venv/dev/bin/python -m ledger.domain.diagram docs/lifecycle.md
	.venv/dev/bin/python -m cli.reference docs/commands.md
	.venv/dev/bin/python -m tests.behaviours.page docs/behaviours.md

clean:  ## removes what make made
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
