# make train | make test | make lint | make mutants
# (PYTHON=python3.12 VENV=.venv312 to choose an interpreter)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: train test test-slow lint mutants setup clean
train: setup
	$(BIN)/python tools/train.py configs/tsn_tiny.py

# A file's tests share what is costly to make, and stay in one process; the longest files start.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# Lists small mistakes in the code that the tests do not notice; takes an hour.
mutants: setup
	$(BIN)/python -m pip install -e '.[test,mutants]' -c constraints.txt
	$(BIN)/python benchmarks/mutants.py

setup: $(VENV)/.installed

# The stamp is written last: an installation that was cut off starts again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) \
	    else f'mmact_tiny needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[test]' -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV)
