# What can be done in a clone; every target sets up what it needs.
#
#   make setup         .venv with everything, at the tested versions
#   make demo          a memory from demonstrations on disk, asked and compared: out/demo/report.html
#   make test          all tests
#   make lint          style, types, direction of dependencies
#   make bench         speed, as ratios in one process
#   make real          the recipes on a language model from the package registry (an hour)
#   make reference     train the bundled model again (hours)
#   make test-matrix   exactness under older transformers, each in its own environment

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
QUIETLY := --quiet --quiet --disable-pip-version-check

.PHONY: setup demo test lint bench real reference test-matrix clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@echo 'Setting up .venv: about 500 MB, a minute or two'
	.ci/venv .venv $(PYTHON)
	$(BIN)/python -m pip install $(QUIETLY) --constraint constraints.txt --editable '.[all]'
	touch $@

demo: setup
	$(BIN)/tasm demo --out out/demo --overwrite

test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope

lint: setup
	$(BIN)/ruff check src tests training benchmarks
	$(BIN)/ruff format --check src tests training benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/tasm bench speed --model random:qwen2_vl-0.15b --out out/bench

real: setup
	$(BIN)/python benchmarks/real.py

reference: setup
	$(BIN)/python -m training.train

test-matrix: .venv-4.57/.installed .venv-5.0/.installed
	.venv-4.57/bin/python -m pytest -m matrix
	.venv-5.0/bin/python -m pytest -m matrix

# Everything at the tested versions but transformers and what its version decides.
.venv-4.57/.installed: TRANSFORMERS := 4.57.6
.venv-5.0/.installed: TRANSFORMERS := 5.0.0
.venv-4.57/.installed .venv-5.0/.installed: pyproject.toml constraints.txt
	.ci/venv $(@D) $(PYTHON)
	sed -E '/^(transformers|tokenizers|huggingface[_-]hub|hf-xet|typer|click|fsspec|datasets)==/d' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install $(QUIETLY) --constraint $(@D)/constraints.txt \
		'transformers==$(TRANSFORMERS)' pytest pytest-xdist hypothesis --editable '.[suites,data]'
	touch $@

clean:
	rm -rf out dist .venv .venv-4.57 .venv-5.0
