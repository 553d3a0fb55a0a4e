# make train | make test | make lint | make mutants | make gpu
# (PYTHON=python3.12 VENV=.venv312 to choose an interpreter)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: train test test-slow lint mutants gpu wheels setup clean
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

# Tests and measures all of CUDA on a GPU machine, in 25 minutes. With WHEELS=DIR, of `make wheels`, nothing
# is fetched: what lies there goes into a folder beside the packages of $(PYTHON), which has torch.
GPU = benchmarks/gpu.py $(if $(DATA),--data $(DATA)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(OUT),--out $(OUT))
ifdef WHEELS
gpu:
	$(PYTHON) -m pip install -q --no-index --no-deps --upgrade --target .wheels_installed $(WHEELS)/*.whl
	PYTHONPATH=$(CURDIR):$(CURDIR)/.wheels_installed $(PYTHON) $(GPU)
else
gpu: setup
	$(BIN)/python $(GPU)
endif

# Fetches the wheels for such a machine: make wheels WHEELS=DIR [HAVE=FILE], FILE of its `pip list`.
wheels: setup
	$(BIN)/python benchmarks/wheels.py $(WHEELS) $(if $(HAVE),--have $(HAVE))

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
