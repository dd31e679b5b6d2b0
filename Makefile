# make demo and make test need Python 3.11 to 3.13 and nothing else.
PYTHON ?= python3
VENV ?= .venv
# One release of PyTorch, so that every run of the tests means the same.
TORCH ?= torch==2.13.0
# A worker for each core; a file stays with one, which compiles its models once. In the
# order of their names the files that take long come early.
PARALLEL = -n auto --dist loadfile --no-loadscope-reorder
BIN = $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Where it is set every process compiles TensorFlow's modules anew, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-all test-wheel docs lint clean

help:
	@echo "make install     an environment with everything, in $(VENV)"
	@echo "make demo        train the first paper's network on real digits, export it"
	@echo "make test        the tests, on TensorFlow"
	@echo "make test-all    the tests, on TensorFlow, JAX and PyTorch"
	@echo "make test-wheel  install the wheel into a clean environment and use it"
	@echo "make docs        the site, in build/site"
	@echo "make lint        ruff"
	@echo "make clean       remove environments, builds and runs"

# Without --no-compile pip compiles every module of packages that are hardly used.
$(VENV)/.installed: setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[examples,serve,notebooks,dev]"
	touch $@

$(VENV)/.backends: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[jax,torch]"
	touch $@

install: $(VENV)/.backends

demo: $(VENV)/.installed
	$(BIN)/python examples/train_capsnet.py --dataset digits --epochs 10 \
		--batch-size 16 --resume

test: $(VENV)/.installed
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PARALLEL)

# The examples of docstrings run on the other two: XLA compiles each for seconds.
test-all: $(VENV)/.backends
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest $(PARALLEL)
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(PARALLEL) tests
	KERAS_BACKEND=torch $(BIN)/python -m pytest $(PARALLEL)

test-wheel: $(VENV)/.installed
	$(BIN)/python tests/clean_environment.py

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[docs]"
	touch $@

# A broken link or a docstring that can't be read is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist runs *.egg-info
