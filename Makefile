# DPO from Zero: every command of the project. `make help` lists them.
#
#   make book                          the environment (.venv) and the site in both languages
#   make book PYTHON=python3.12        with another Python, 3.11 or later
#   make book TORCH_INDEX=https://download.pytorch.org/whl/cpu      Linux without a GPU: the small build of torch

PYTHON      ?= python3
TORCH_INDEX ?=
PORT        ?= 8000
WORKERS     ?= 2
ARGS        ?=

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
SITE  := book/_build/html

CHAPTER_FORMAT := --config line-length=88 $(wildcard chapters/[0-9]*.py)

DONE  := book/_build/.done
PAPER := book/_build/paper
PRINTS = $(wildcard $(PAPER)/*.pdf $(PAPER)/*.epub)
FROM  := $(shell find book chapters dpo_core tests/conformance -type f -not -path '*/_build/*' -not -path '*/.*' -not -path '*/__pycache__/*')

.DEFAULT_GOAL := help
.PHONY: help env book slides pdf epub serve read test test-reader test-slow chapters models real conformance bench lint format lock clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

env: $(READY)  ## the environment alone: .venv with the packages of requirements.lock and dpo_core, editable

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or later is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there). Name one: make $(or $(firstword $(MAKECMDGOALS)),book) PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the packages of requirements.lock into $(VENV) (some minutes the first time)"
	@if [ "$$(uname)" = Linux ] && [ -z "$(TORCH_INDEX)$(PIP_FIND_LINKS)" ] && ! command -v nvidia-smi >/dev/null; then \
	  echo "No NVIDIA driver here. The small build of torch: make $(or $(firstword $(MAKECMDGOALS)),book) TORCH_INDEX=https://download.pytorch.org/whl/cpu"; fi
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $@

book: $(DONE)  ## build the site, both languages, from the stored notebooks; warnings are errors
	@echo "The book is built. Open $(SITE)/index.html, or run: make serve"

$(DONE): $(READY) $(FROM) $(PRINTS)
	@echo "Building both editions"
	@$(BIN)/python -m book.build >/dev/null
	@touch $@

slides: book  ## the slides of every chapter; they are a part of the site
	@echo "The slides are in $(SITE)/slides/en and $(SITE)/slides/zh; each chapter's page links to its own."

# What these two make, `make book` offers on the site; by itself it needs neither.
pdf: $(READY)  ## the book as a PDF in each language, in book/_build/paper (needs Chromium)
	@$(BIN)/python -m book.paper pdf

epub: $(READY)  ## the book as an EPUB in each language, in book/_build/paper (needs Chromium)
	@$(BIN)/python -m book.paper epub

serve: book  ## build the site and serve it on localhost (PORT=8000)
	@echo "English: http://localhost:$(PORT)/en/    中文: http://localhost:$(PORT)/zh/    Ctrl-C stops"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(SITE)

# LANG is the system's too; a locale by that name need not exist, so what runs gets a plain one.
read: $(READY)  ## open the book in Jupyter, in one language (LANG=en or zh), at chapter 0 (ARGS=07)
	@LANG=C.UTF-8 $(BIN)/python -m book.read --lang $(if $(filter zh%,$(LANG)),zh,$(if $(filter command line,$(origin LANG)),$(LANG),en)) $(ARGS)

test: $(READY)  ## run everything: unit, property and parity tests, every chapter, the site (ARGS="-k losses")
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-reader: $(READY)  ## every chapter as a reader runs it: bars, default threads, each cell twice
	@$(BIN)/python -m pytest --nbval-lax --as-a-reader chapters $(ARGS)

test-slow: $(READY)  ## run the tests that take minutes
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow $(ARGS)

chapters: $(READY)  ## pair each chapter's .py with its .ipynb, execute it, store the outputs
	@$(BIN)/python -m book.notebooks $(ARGS)

models: $(READY)  ## train the two shipped models again from nothing (about 5 minutes)
	@$(BIN)/dpo-core train-gen --output dpo_core/pretrained/gen.model
	@$(BIN)/dpo-core train-dpo --model dpo_core/pretrained/gen.model --output dpo_core/pretrained/dpo.model

real: $(READY)  ## get a real language model for chapter 14: SmolLM2-135M-Instruct, 271 MB (the book does not need it)
	@$(BIN)/python -m book.real_model $(ARGS)

conformance: $(READY)  ## score dpo_core and TRL on the conformance cases (ARGS="--adapter package.module:Class")
	@$(BIN)/python -m tests.conformance $(ARGS)

bench: $(READY)  ## compare the speed with TRL and transformers; writes build/bench.json (minutes)
	@$(BIN)/python tests/bench.py $(ARGS)

lint: $(READY)  ## check the style of the code (make format puts most of it right)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m ruff format --check $(CHAPTER_FORMAT)

format: $(READY)  ## format the code
	@$(BIN)/python -m ruff format .
	@$(BIN)/python -m ruff format $(CHAPTER_FORMAT)

# One version of each package for every Python and system. What torch needs for CUDA is left to torch: it differs by machine.
lock:  ## write requirements.lock anew from pyproject.toml (ARGS=--upgrade takes newer versions)
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --all-extras \
	  --no-annotate --custom-compile-command "make lock" $(ARGS) --output-file requirements.lock pyproject.toml >/dev/null
	@sed -i.old -E '/^(nvidia-|cuda-|triton)/d' requirements.lock && rm requirements.lock.old
	@echo "requirements.lock: $$(grep -c == requirements.lock) packages. Now: make env && make test"

clean:  ## remove what was built (the environment stays: rm -rf .venv)
	@rm -rf book/_build build dist .pytest_cache .ruff_cache .hypothesis .jupyter_cache
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
