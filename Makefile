# make setup | setup-exports | demo | explore | test | test-fast | lint | docs | gpu-check | faults
#      help-pages | figures | constraints | clean-demo
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: setup setup-exports demo explore test test-fast lint docs gpu-check faults clean-demo help-pages figures
.PHONY: constraints

# One environment, made once; quick when requirements.txt has not changed since. A half-made or moved one is made anew.
READY = import sys, pip; assert sys.version_info >= (3, 11)
ifneq ($(shell $(PY) -c "$(READY)" 2>/dev/null && echo yes),yes)
.PHONY: $(VENV)/.requirements
endif

setup: $(VENV)/.requirements
$(VENV)/.requirements: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"Error: Python 3.11 or newer is needed, $(PYTHON) is %d.%d; for example: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PY) -c "$(READY)" 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# What the tests of exports need beside it: the packages of ONNX, and onnxruntime-web by npm.
setup-exports: $(VENV)/.optional-requirements
	$(PY) -c "from dnnlib.console import report_user_errors as plain; \
	from explorer.web_runtime import require_archive; print(plain(require_archive)())"
$(VENV)/.optional-requirements: requirements-optional.txt $(VENV)/.requirements
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-optional.txt
	touch $@

# The main job: data -> training -> pictures -> scores. Interrupt it and run it again: it goes on where it was.
demo: setup
	$(PY) demo.py

# The map of a network's pictures, in the browser; ARGS="--network runs/photos" for another one.
explore: setup
	$(PY) explore.py $(ARGS)

# A process a core, eight at most: each may take 2 GB. `.venv/bin/python -m pytest` runs the same in one.
test: setup
	@$(PY) -m tests.left_out
	$(PY) -m pytest -n auto --maxprocesses 8 --dist worksteal

# Without the tests that take a second or start processes: under a minute on two cores.
test-fast: setup
	$(PY) -m pytest -n auto --maxprocesses 8 --dist worksteal -m "not slow and not multi_process"

# Mistakes that show without running anything; pyproject.toml has the rules.
lint: setup
	$(PY) -m ruff check .
	$(PY) -m mypy

# The site of the documentation, in build/site. Every link is checked; a broken one is an error.
docs: $(VENV)/.docs-requirements
	$(PY) -m mkdocs build --strict
$(VENV)/.docs-requirements: docs/requirements.txt $(VENV)/.requirements
	$(PY) -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	touch $@

# On a machine with a GPU: commands, gpu tests, benchmarks, sanitizer (docs/gpu_check.md).
# `PYTHON=python3 make gpu-check` takes that interpreter as it is and installs nothing.
ifeq ($(origin PYTHON),file)
gpu-check: setup
	$(PY) -m benchmarks.gpu_check
else
gpu-check:
	$(PYTHON) -m benchmarks.gpu_check
endif

# Commands are killed, disks filled and files damaged; the record says what was lost. 5 minutes.
faults: setup
	$(PY) -m benchmarks.faults --json benchmarks/results/$$(date +%F)-faults.json

clean-demo:
	rm -rf runs/demo runs/demo-flowers

# docs/help/*.txt from the commands' own --help; a test compares them.
help-pages: setup
	$(PY) docs/help/write.py

# The measured figures of README.md and docs/*.md from the records in benchmarks/results/, and the
# counted costs of the recipes; tests compare them.
figures: setup
	$(PY) docs/figures.py
	$(PY) docs/cost_table.py

# The versions of this environment, once CI has passed with them, with those of exports and of the
# documentation, so that an audit sees them. Tags such as +cpu exist on one index only.
constraints: $(VENV)/.optional-requirements $(VENV)/.docs-requirements
	echo "# The versions that CI passed with last: pip install -r requirements.txt -c constraints.txt" > constraints.txt
	$(PY) -m pip freeze --all --exclude pip | sed "s/+[a-z0-9.]*$$//" >> constraints.txt
