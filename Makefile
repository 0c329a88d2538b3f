# make help lists the targets. PYTHON chooses the interpreter that .venv is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := examples/quickstart
PHOTO := examples/photo_srgan
PIX2PIX := examples/pix2pix_voc
PHASES := examples/surgical_phase
# processes of the test suite, each with a TensorFlow of its own
JOBS ?= 2
# a Python that the lowest versions of all packages have wheels for
LOWEST_PYTHON ?= python3.10
# Pythons that the wheel is tried with
PYTHONS ?= $(PYTHON)

.PHONY: help demo photo pix2pix phases qgis test test-kill test-fuzz test-lowest test-newest newest
.PHONY: constraints wheel bench lint docs check format clean

help:  ## list the targets
	@grep -E '^[a-z2-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

$(VENV)/developing: $(VENV)/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## cut patches from a real elevation model, train, test (4 minutes)
	$(BIN)/python -m sr_dataset_builder.dataset $(DEMO)/build.yml
	$(BIN)/python main.py $(DEMO)/espcn.yml train --overwrite
	$(BIN)/python main.py $(DEMO)/espcn.yml test

photo: $(VENV)/installed  ## photographs: train pixel and adversarial stage, test (4 minutes)
	$(BIN)/python -m examples.photo_srgan.collect data/photos
	$(BIN)/python main.py $(PHOTO)/quick.yml train --overwrite
	$(BIN)/python main.py $(PHOTO)/quick.yml test

pix2pix: $(VENV)/installed  ## draw shapes, train pix2pix and its baselines, test (5 minutes)
	$(BIN)/python -m examples.pix2pix_voc.generate data/voc_shapes --overwrite
	$(BIN)/python main.py $(PIX2PIX)/shapes.yml train --baselines --overwrite
	$(BIN)/python main.py $(PIX2PIX)/shapes.yml test

$(VENV)/video: $(VENV)/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[video]'
	touch $@

phases: $(VENV)/video  ## phases of made-up operations: draw videos, train, test (4 minutes)
	$(BIN)/python -m examples.surgical_phase.generate data/phase_clips --overwrite
	$(BIN)/python main.py $(PHASES)/clips.yml train --overwrite
	$(BIN)/python main.py $(PHASES)/clips.yml test

qgis:  ## pack the plugin for QGIS into dist/sr_toolbox_qgis.zip
	$(PYTHON) -m examples.qgis.pack dist/sr_toolbox_qgis.zip

test: $(VENV)/developing  ## run the whole test suite in JOBS=2 processes
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

test-kill: $(VENV)/developing  ## kill training runs and downscale at KILLS=20 random moments
	KILLS=$(or $(KILLS),20) $(BIN)/python -m pytest tests/sr_trainer/test_trainer_kill.py \
		tests/sr_dataset_builder/test_downscale.py -k kill

test-fuzz: $(VENV)/developing  ## take FUZZ_FILES=300 damaged files through the programs
	FUZZ_FILES=$(or $(FUZZ_FILES),300) $(BIN)/python -m pytest tests/fuzz -m fuzz

QUICK = $(shell grep -v '^\#' tests/quick.txt) --numprocesses $(JOBS)
# old packages use what newer ones have deprecated
LENIENT := $(foreach kind,DeprecationWarning PendingDeprecationWarning FutureWarning,-W ignore::$(kind))

test-lowest: $(VENV)/developing  ## run the quick tests with the lowest versions claimed, Python 3.10
	$(LOWEST_PYTHON) -m venv --clear $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --upgrade pip
	$(BIN)/python tests/lowest.py > $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --requirement $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --no-deps --editable .
	$(VENV)-lowest/bin/python -m pytest $(QUICK) $(LENIENT)

newest:
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager \
		--editable '.[dev]'

test-newest: newest  ## run the quick tests with the newest versions of all packages
	$(VENV)-newest/bin/python -m pytest $(QUICK)

constraints:  ## write the versions of a new environment with all extras into constraints.txt
	rm -rf $(VENV)-newest
	$(MAKE) newest
	$(VENV)-newest/bin/python -m pip install --quiet --editable '.[napari]'
	sed '/^[^#]/d' constraints.txt > $(VENV)-newest/constraints.txt
	$(VENV)-newest/bin/python -m pip freeze --exclude-editable --exclude sr-toolbox \
		>> $(VENV)-newest/constraints.txt
	mv $(VENV)-newest/constraints.txt constraints.txt

wheel: $(VENV)/developing  ## build sdist and wheel, try the wheel in new environments of PYTHONS
	rm -rf build dist
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --outdir dist .
	for python in $(PYTHONS); do bash tests/try_wheel.sh $$python dist/*.whl || exit 1; done

bench: $(VENV)/developing  ## all benchmarks in one table; BENCH="--quick --python FILE" for options
	$(BIN)/python -m benchmarks $(BENCH)

docs: $(VENV)/developing  ## build the site in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

check: lint docs  ## lint, format and type checks, and the site

lint: $(VENV)/developing  ## lint, format and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/developing  ## format the code and fix what lint can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and caches
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf docs/_build docs/api docs/gallery docs/sg_execution_times.rst
