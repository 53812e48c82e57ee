# `make compare` runs the main job, `make test` the tests; each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= results

.PHONY: help compare test browser lint format typecheck clean

help:
	@echo "make compare   one fast-weight memory on every substrate: $(OUT)/report.html"
	@echo "make test      the tests"
	@echo "make browser   install Chromium for the report's tests (Debian, as root)"
	@echo "make lint      ruff and mypy"
	@echo "make format    put the code in ruff's format"
	@echo "make clean     remove what was built; results stay"

compare: $(READY)
	$(BIN)/fwbio compare --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest

# The report's tests are skipped without a browser, unless FWBIO_BROWSER=required.
CHROMIUM := chromium chromium-browser google-chrome google-chrome-stable

browser:
	@for name in $(CHROMIUM); do command -v $$name && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    apt-get update -qq && apt-get install -qq --no-install-recommends chromium; \
	else \
	    echo "no Chromium here: install chromium or Google Chrome by your system's packages" >&2; exit 1; \
	fi

lint: $(READY) typecheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers don't follow the package-dir mapping: they see a plain installation.
typecheck: $(READY)
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/installed .
	cd build/installed && ../../$(BIN)/python -m mypy --config-file ../../pyproject.toml -p fwbio

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

# The pins of constraints.txt hold for every install; what builds the package is pinned there too.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip setuptools wheel
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@
