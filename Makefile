# Everything runs from .venv, which the first target that needs it sets up. Paths are relative and quoted: the
# checkout may lie in a folder with a space in its name.
PYTHON ?= python3
DATA ?= ../shared/data
PY := .venv/bin/python
BACKSIGHT := .venv/bin/backsight
PACKAGES := packages/features packages/ingest packages/model

.DEFAULT_GOAL := demo
.PHONY: demo journey test check prove bench clean

.venv/ready: constraints.txt pyproject.toml $(PACKAGES:=/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit("error: backsight needs Python 3.11 or newer; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(PY) -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt --group dev $(addprefix --editable ,$(PACKAGES))
	@touch $@

# The whole way on a made-up world: raw files in, a judged forecast out. No key, no server, no network.
demo: export BACKSIGHT_HOME := build/demo
demo: .venv/ready
	rm -rf build/demo build/world
	$(BACKSIGHT) sample build/world --seed 7

# The same on real files, which are not part of the project: make journey DATA=folder
journey: export BACKSIGHT_HOME := build/journey
journey: .venv/ready
	rm -rf build/journey

test: .venv/ready
	$(PY) -m pytest

check: .venv/ready
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

prove: .venv/ready
	$(PY) -m pytest -m prove

bench: .venv/ready
	for script in benchmarks/*.py; do $(PY) "$$script" || exit 1; done

clean:
	rm -rf .venv build .backsight
