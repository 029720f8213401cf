# `make demo` and `make test` each do all their own set-up; PYTHON names the interpreter (3.11 or newer) to start from.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fast check clean

demo: .venv/installed
	$(BIN)/python run_sweep.py sweeps/quick.toml
	$(BIN)/python analyze.py ~/ray_results/quick

test: check fast
	$(BIN)/pytest -m "ray or assets or slow"

fast: .venv/installed
	$(BIN)/pytest -n auto -m "not (ray or assets or slow)"

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A file is newer than all that it was made from only once everything is installed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
