# make setup | demo | test | help-pages | clean-demo
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: setup demo test clean-demo help-pages

# One environment, made once; quick when requirements.txt has not changed since.
setup: $(VENV)/.requirements
$(VENV)/.requirements: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# The main job: data -> training -> pictures -> scores. Interrupt it and run it again: it goes on where it was.
demo: setup
	$(PY) demo.py

test: setup
	$(PY) -m pytest

clean-demo:
	rm -rf runs/demo

# docs/help/*.txt from the commands' own --help; a test compares them.
help-pages: setup
	$(PY) docs/help/write.py
