# `make demo` and `make test` each do all their own set-up; PYTHON names the interpreter (3.11 or newer) to start from.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fast check audit fuzz load chaos browser gpu clean

demo: .venv/installed
	$(BIN)/python run_sweep.py sweeps/quick.toml
	$(BIN)/python analyze.py ~/ray_results/quick

test: browser check fast
	$(BIN)/pytest -m "(ray or assets or slow) and not chaos"

fast: .venv/installed
	$(BIN)/pytest -n auto --dist loadfile -m "not (ray or assets or slow)"

# What CI has no time for: every fault once, then ROUNDS sweeps with three random kills each.
ROUNDS ?= 5
chaos: .venv/installed
	$(BIN)/pytest -m chaos
	$(BIN)/python -m tests.chaos.soak --rounds $(ROUNDS)

# The report is tested in a real browser: installed where that can be done, else those tests are skipped and say so.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -q update && DEBIAN_FRONTEND=noninteractive \
	  apt-get -qy install --no-install-recommends chromium chromium-driver fonts-dejavu-core; \
	} || echo "no chromium and chromedriver here: the tests of the report in a browser will be skipped"

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.audit.packages

audit: .venv/installed
	$(BIN)/python -m tests.audit.packages

# Mutated files at every reader, for SECONDS, then hostile folders for every command, for FOLDER_SECONDS; a sweep of TRIALS tiny trials, watched for what it does not let go.
fuzz: .venv/installed
	$(BIN)/python -m tests.fuzz.readers $(or $(SECONDS),60)
	$(BIN)/python -m tests.fuzz.hostile_folders $(or $(FOLDER_SECONDS),600)

load: .venv/installed
	$(BIN)/python -m tests.load.many_trials $(or $(TRIALS),200)

# A GPU's minutes: what matters most first, for BUDGET seconds, and again for the rest; DEVICE=cpu tries the list at tiny
# size. With the packages that are there: a GPU machine may have no network to install from.
gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu --budget $(or $(BUDGET),600) --device $(or $(DEVICE),cuda)

# A file is newer than all that it was made from only once everything is installed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
