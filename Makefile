# What CI calls is what a person calls. `make quickstart` and `make test` set up everything they need.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STORE ?= results
DATA ?= ../shared/data
MODEL ?= ../shared/models/smollm2-135m-instruct-gguf
# Two files of tests at a time: the tests of a file share what it has made for them. In their order, so that the short ones of
# tests/unit come last and both end together.
PYTEST ?= -n 2 --dist loadfile --no-loadscope-reorder
# The exact versions the project was tested with. Compiling all that is installed takes longer than compiling what is used.
PIP = $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

.PHONY: quickstart test slow packed lint types check wheel bench clean

quickstart: $(VENV)/.train
	$(BIN)/peftbench run quickstart --store $(STORE)/quickstart --threads 1

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST)

# What takes minutes and seldom changes: every method on further architectures.
slow: $(VENV)/.dev
	$(BIN)/python -m pytest --slow $(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types test

# What needs packed weights. The package lies beside the environment: inside, every process that imports peft would import it.
packed: $(VENV)/.dev
	$(PIP) --no-deps --upgrade --target build/packed bitsandbytes
	PYTHONPATH=build/packed $(BIN)/python -m pytest -m packed $(PYTEST) tests/contract

# The wheel, installed into an empty environment, has to stand on its own.
wheel: $(VENV)/.dev
	rm -rf dist build/wheel-venv
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	build/wheel-venv/bin/peftbench --version
	build/wheel-venv/bin/peftbench list tasks
	build/wheel-venv/bin/peftbench show suite quickstart

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/warm_worker.py
	if [ -d $(DATA) ]; then $(BIN)/python benchmarks/read_rows.py --data-root $(DATA); fi
	if [ -d $(DATA) ]; then $(BIN)/python benchmarks/token_cache.py --data-root $(DATA) --model $(MODEL); fi

clean:
	rm -rf $(VENV) build dist

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version: left to a range, the index may send a build with gigabytes of CUDA.
$(VENV)/.train: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -e '.[train,gguf]'
	touch $@

$(VENV)/.dev: $(VENV)/.train
	$(PIP) -e '.[train,hub,gguf,frame,dev]'
	touch $@
