# Every target sets up what it needs, from a bare clone: Python 3.11 to 3.13, git, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
# Two states of one environment: what the demo needs, then the development tools beside it.
DEMO := .venv/demo
INSTALLED := .venv/installed
# An environment of its own: the site is built from the source, without the packages and what they need.
DOCS := .venv/docs
INDEX := demo-index
SEARCH = $(BIN)/polyvec search --location $(INDEX)

# Nothing is compiled on installation, so what Python compiles on the first import must be kept.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs clean

help:
	@echo "make demo    index this repository's files and a folder of page images, then search them"
	@echo "make test    run the tests"
	@echo "make check   lint, types, import directions"
	@echo "make bench   measure speed and memory against a plain loop and against the machine; the longest of these"
	@echo "make docs    build the site of the guides and the API reference, site/html/index.html"
	@echo "make clean   remove what the other targets made"

# pip would compile every module of torch and transformers; Python compiles what it imports, once, if it may write it.
unexport PYTHONDONTWRITEBYTECODE
$(DEMO): constraints.txt packages/core/pyproject.toml packages/qdrant/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d; try: make PYTHON=python3.12 …" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e packages/core -e packages/qdrant
	@touch $@

$(INSTALLED): $(DEMO) pyproject.toml $(wildcard packages/*/pyproject.toml)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt --group dev -e "packages/core[build,data,evaluate,fonts,pdf,pooling,ray,sentence-transformers,train]" -e "packages/qdrant[office,pdf]" \
		-e "packages/langchain[pdf,qdrant]" -e "packages/llamaindex[pdf,qdrant]"
	@touch $@

demo: $(DEMO)
	$(BIN)/polyvec index $$(git ls-files '*.md' 'packages/core/src/polyvec/engine/*.py' 'packages/qdrant/*.py') --location $(INDEX)
	$(BIN)/polyvec index README.md CONTRIBUTING.md docs --task text-matching --location $(INDEX)
	$(BIN)/polyvec index examples/pages --collection pages --location $(INDEX)
	$(SEARCH) "how are batches planned" --task retrieval
	$(SEARCH) "mean of the tokens in each row and column of a page" --task code
	$(SEARCH) "A folder belongs to one process." --task text-matching
	$(SEARCH) "Line chart of attendance in Osaka 2008" --collection pages
	$(SEARCH) "Which department had the highest emissions at Lunar Horizon Energy in 2020?" --collection pages \
		--explain demo-match.png

# Two processes of one thread each are faster than one process of two: the tests' tensors are small.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/exports.py
	$(BIN)/python tools/duplicates.py

bench: $(INSTALLED)
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/callers.py
	$(BIN)/python benchmarks/peak.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/gradcache.py
	$(BIN)/python benchmarks/maxsim.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/wire.py
	$(BIN)/python benchmarks/frameworks.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/analyze.py
	$(BIN)/python benchmarks/mean_removal.py

$(DOCS)/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(DOCS)/bin/python -m pip install --quiet --no-compile -c constraints.txt --group docs
	@touch $@

docs: $(DOCS)/installed
	$(DOCS)/bin/python tools/docs_site.py

clean:
	rm -rf .venv site $(INDEX) demo-match.png .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
