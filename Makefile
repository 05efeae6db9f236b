# Two commands: `make demo` shows it, `make test` proves it. Each makes the environment it needs.
PYTHON ?= python3
SLOW ?= slow
BIN := .venv/bin

# Whatever the shell says: without its caches every process of a test run compiles all tests anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: install wheel demo test test-slow soak fuzz mutations bench docs lint lock clean

install: .venv/.installed

# What is imported is compiled then: to compile all of it here takes a third of the time, and most of it nobody imports.
.venv/.installed: requirements.lock tests/duckdb-1.2.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fincon needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
		--upgrade --target .venv/duckdb-1.2 --requirement tests/duckdb-1.2.lock
	@touch $@

wheel: install
	$(BIN)/python -m hatchling build --target wheel --directory dist
	@ls dist/*.whl

demo: install
	@$(BIN)/fincon demo

test: install lint
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal -m "not slow"

test-slow: install
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal -m "$(SLOW)"

soak: install
	$(BIN)/python -m tests.soak --syncs 200 --seed 1
	$(BIN)/python -m tests.soak.observations --sequences 10000 --seed 1

fuzz: install
	$(BIN)/python -m tests.fuzz --seconds 600

mutations: install
	$(BIN)/python -m tests.mutations

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m tests.benchmarks

# The dictionary, which a test holds to the views; and the notebooks on the demo's lake as HTML, which git does not keep.
docs: demo
	$(BIN)/fincon schema --format markdown > docs/data-dictionary.md
	FINCON_DATA=$(CURDIR)/data/demo $(BIN)/jupyter nbconvert --execute --to html --output-dir docs \
		--HTMLExporter.mathjax_url= --HTMLExporter.require_js_url= notebooks/*.ipynb

# Needs uv (pip install uv). The lock holds versions and hashes for every platform, and no registry's address.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --group dev --extra dask --extra notebooks --extra s3 pyproject.toml \
		--output-file requirements.lock

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
