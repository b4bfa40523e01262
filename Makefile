# Two commands: `make app` serves the workbench with its demo, `make test` runs the tests; with CI set in the
# environment, as .ci/run sets it, those marked long too.
# Everything is installed into .venv on first use; nothing is needed but Python 3.10 to 3.13 and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
ROOT   ?=
PORT   ?= 7860
ARGS   ?=

# Workers, kernels and started verbs share what one of them compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: app test test-slow suite style types venv lint check bench pictures diagnosis-suite demo notebooks browser clean

app: venv
	$(BIN)/workbench app $(if $(ROOT),"$(ROOT)") --port $(PORT) $(ARGS)

# One file of tests for each worker at a time: fixtures of a file are made once. tests/conftest.py has put the
# long files first, so that no worker is left with one at the end. Three workers keep two cores busy: a test that
# waits for a browser or a server leaves its own idle.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 25

# The check of types keeps one core for a minute, while browsers and servers leave some idle.
test: venv browser style
	@$(MAKE) --no-print-directory -j2 types suite

suite: venv
	$(PYTEST) $(if $(CI),-m "not slow and not gpu") $(ARGS)

# What the default run leaves out: `long` tests (CI runs them) and `slow` ones, which take minutes each.
test-slow: venv browser
	$(PYTEST) -m "(long or slow) and not gpu" $(ARGS)

venv: $(READY)

# torch first, at the tested version: a bare range would fetch the newest build and replace it later.
# Python 3.12 and later: mmpose's own requirements (chumpy, xtcocotools) do not build there, and
# workbench/models/mmpose_compat.py stands in for what mmpose really needs of them.
# opencv-python wants libGL.so.1; where a machine has none, the headless build of the same version does.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 14) else f"expected Python 3.10 to 3.13, got {v.major}.{v.minor}: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[test]"
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 12))' || \
	  $(BIN)/python -m pip install --disable-pip-version-check -q --no-deps mmpose==1.3.2
	$(BIN)/python -c 'import cv2' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt --force-reinstall --no-deps opencv-python-headless
	@touch $(READY)

diagnosis-suite: venv
	$(BIN)/python -m benchmarks.diagnosis $(ARGS)

lint: style types

style: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/pyright

# The browser tests want a Chromium. Where none is found and none can be installed they skip and say so.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && \
	    { echo "installing chromium for the browser tests"; apt-get update -qq && \
	      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }; } || \
	  echo "no chromium here and none could be installed: the browser tests will skip"

bench: venv
	$(BIN)/python -m benchmarks.run

# The README's pictures; look at them before they are committed.
pictures: venv browser
	$(BIN)/python -m apps.screenshots.take

demo: venv
	$(BIN)/python checkpoints/make_demo.py

notebooks: venv
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .cache .tmp build *.egg-info
