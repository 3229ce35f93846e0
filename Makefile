# Needs make and Python 3.11 or newer; everything else comes into .venv by pip. No system package, no Java installed.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
# Two threads on busy cores wait for each other: one per process is quicker.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo serve test lint bench audit clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/stamp  ## from nothing to three served tasks; writes demo/result.png
	$(RUN) -m demo.run

serve: $(VENV)/stamp  ## serve the three tasks on 127.0.0.1:8080 until Ctrl-C
	$(RUN) -m model_archives.build
	$(RUN) -m model_archives.server

test: lint  ## all tests that need neither a GPU nor minutes of compiling
	$(RUN) -m pytest -m "not gpu and not compiles"

lint: $(VENV)/stamp  ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/stamp  ## measure everything into benchmarks/results/ and print the tables
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[bench,onnx,openvino]'
	$(RUN) -m benchmarks.report --run

audit: $(VENV)/stamp  ## look all installed packages up in the advisories of PyPI; needs the network
	$(RUN) -m pip freeze --exclude-editable | $(RUN) -m pip_audit -r /dev/stdin --no-deps --disable-pip --strict

clean:  ## remove what the other targets made, the environment included
	rm -rf $(VENV) model_archives/store demo/result.png demo/inputs dist build

# The stamp is written last, so a broken install is tried again.
$(VENV)/stamp: pyproject.toml training/judges.txt
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: no $(PYTHON) here. Install Python 3.11, or name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is older than 3.11. Name another: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r training/judges.txt
	@touch $@
