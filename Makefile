# Each target works alone on a fresh machine with Python 3.11 to 3.13.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
IMAGE ?= samedge
CASES ?= cases
# For make default-model: folders train/ and val/ of labelled cases, the run's folder, `key=value` over the recipe's; the
# public checkpoint; the adapter of it to go on from, if it is there, and to write; where the model is written; what the
# model found in the volumes of train/ before (docs/training.md, Views and walks), if anything.
DATA ?= ../shared/data
RUN ?= runs/$@
TRAIN ?=
BASE ?= litemedsam
ADAPTER ?= weights/samedge-litemedsam-lora
MODEL ?= edge/default_model
PREDICTED ?=
# A script whose `up` starts a Docker engine and prints its DOCKER_HOST; used where no engine runs.
ENGINE ?= ../shared/tools/docker-engine

BIN = $(VENV)/bin
NPM = build/npm
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
FIND_ENGINE = { docker info >/dev/null 2>&1 || { [ -x $(ENGINE) ] && eval "$$($(ENGINE) up)" && docker info >/dev/null 2>&1; }; }
PIP_BUILD_ARGS = --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL --build-arg PIP_TRUSTED_HOST

# Of tests side by side: threads that wait for a busy core turn idle and hold up the others.
ALONE = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
SLOW = not slow
PYTEST = $(ALONE) $(BIN)/python -m pytest --durations 10 -m "$(SLOW) and not image and not golden and not browser"

.DEFAULT_GOAL := help
.PHONY: help bench test slow-test test-train test-edge test-export golden-test viewer browser-test fuzz systems-test lint cases default-model results claims docs tables picture plots image image-test lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bench: $(VENV)/.installed  ## segment, time and score the cases that ship with the repository
	$(BIN)/samedge bench $(CASES)

test: $(VENV)/.installed-dev  ## lint, and the tests that need no Docker engine, in four processes side by side
	$(MAKE) --jobs 4 --output-sync test-edge test-export test-train lint

slow-test: $(VENV)/.installed-dev  ## those of them that take longest: exports, a store, clusters, training by several processes
	$(MAKE) --jobs 3 --output-sync test-edge test-export test-train SLOW=slow

test-train test-edge: test-%: $(VENV)/.installed-dev
	$(PYTEST) tests/$*

test-export: $(VENV)/.installed-dev
	$(PYTEST) --ignore tests/train --ignore tests/edge

golden-test: $(VENV)/.installed-dev  ## hold the baseline method to all masks of ../shared/golden-real (10 CPU minutes)
	$(BIN)/python -m pytest -m golden -rs tests/test_golden_real.py

viewer: $(VENV)/.installed  ## fetch NiiVue by npm, for the page of samedge serve and for wheels that are built
	$(BIN)/python -m edge.serve.niivue

browser-test: $(VENV)/.installed-dev $(NPM)/onnxruntime-web viewer  ## the page, and SAM's signature, in headless Chromium
	$(PIP) --editable ".[browser]"
	$(BIN)/python -m pytest -m browser -rs

fuzz: $(VENV)/.installed-dev  ## read 2,000 mutated files of each kind (minutes)
	for kind in nifti dicom picture npz boxes itk; do PYTHONPATH=. $(BIN)/python tests/fuzz.py $$kind 2000 || exit 1; done

systems-test: $(VENV)/.installed-dev  ## train, export and run the four systems on ../shared (25 CPU minutes)
	$(BIN)/python -m pytest -s tests/train/systems.py

lint: $(VENV)/.installed-dev  ## ruff (rules and format) and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

cases: $(VENV)/.installed  ## make the case files of cases/ again
	$(BIN)/samedge cases make --suite small --out $(CASES)

# Stopped, it goes on where it was; done, its folder is put aside, so that the next one goes on from what this one made.
# train/recipes/litemedsam-lora.toml says what to put in TRAIN on a GPU.
default-model: $(VENV)/.installed-dev  ## train an adapter of BASE on DATA, and export what validates best
	$(BIN)/samedge train litemedsam-lora validate_at_start=true $(TRAIN) --base $(BASE) $(if $(wildcard $(ADAPTER)),--adapter $(ADAPTER)) \
		--data $(DATA)/train $(if $(PREDICTED),--predicted $(PREDICTED)) --val $(DATA)/val --out $(RUN) $(if $(wildcard $(RUN)/run.json),--resume)
	$(BIN)/python -c "from pathlib import Path; from train.networks.adapter import halve_adapter; \
		halve_adapter(Path('$(RUN)/adapter'), Path('$(RUN)/$(notdir $(ADAPTER))'))"
	$(BIN)/samedge export $(BASE) $(MODEL) --name $(notdir $(ADAPTER)) --adapter $(RUN)/$(notdir $(ADAPTER)) \
		--views 56,112,224 --walks --weights f16 \
		--calibration $(DATA)/train --holdout $(DATA)/val --holdout-cases 100 --methods-on $(DATA)/val \
		--licence "research use only; see README.md" --training-data "public images listed in README.md"
	mkdir -p $(ADAPTER) && cp $(RUN)/$(notdir $(ADAPTER))/* $(ADAPTER)
	$(BIN)/python -m tests.golden.make
	mv $(RUN) $(RUN)-$$(date +%Y%m%d-%H%M%S)

# The tables of README and docs are of the model that ships, so these are measured again with each new one; on a quiet machine.
results: $(VENV)/.installed-dev  ## measure the model that ships: docs/results/val, bench, process, volumes, oracle, and the tables (half an hour)
	rm -rf runs/$@ && mkdir -p runs/$@
	$(BIN)/samedge bench $(CASES) --json docs/results/bench.json
	$(BIN)/samedge bench $(CASES) --process --compare openvino,public-program --checkpoint litemedsam --json docs/results/process.json
	$(BIN)/samedge predict $(DATA)/val runs/$@/val --report runs/$@/val.json
	$(BIN)/samedge evaluate runs/$@/val $(DATA)/val --spacing-order zyx --report runs/$@/val.json --json docs/results/val.json
	$(BIN)/samedge bench $(DATA)/val --match '3DBox*' --by dataset --spacing-order zyx \
		--compare openvino:tracked,openvino:propagated --json docs/results/volumes.json
	$(BIN)/python -m measure.oracle $(DATA)/val docs/results/oracle.json
	$(MAKE) tables

# Runs that are done stay in runs/claims, so that it goes on after a stop.
claims: $(VENV)/.installed-dev  ## hold LoRA, INT8, views, merging up to cases, with intervals (some four CPU hours; litemedsam fetched)
	$(BIN)/python -m measure.claims runtime $(DATA)/val
	$(BIN)/python -m measure.claims training $(DATA)/val $(DATA)/train runs/$@

docs: tables  ## build the pages of docs/ into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

tables: $(VENV)/.installed-docs  ## fill the tables of README and docs from docs/results/*.json and the command line
	$(BIN)/python -m docs.tables

picture: $(VENV)/.installed  ## make the picture of README again
	$(BIN)/python -m docs.picture

plots: $(VENV)/.installed-dev  ## draw the plots of the docs from docs/results
	$(BIN)/python -m docs.plots

image:  ## build the predictor image
	@$(FIND_ENGINE) || { echo "make image: no Docker engine answers; start one or set DOCKER_HOST" >&2; exit 1; }; \
	docker build --network=host $(PIP_BUILD_ARGS) --tag $(IMAGE) .

image-test: $(VENV)/.installed-dev  ## build the image and test it in real containers
	@if $(FIND_ENGINE); then $(MAKE) image; fi && \
	IMAGE=$(IMAGE) $(BIN)/python -m pytest -m image -rs

lock: $(VENV)/.installed-dev  ## pin the image's dependencies again
	$(PIP) uv
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --generate-hashes --no-annotate --no-header \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --output-file requirements.lock

# Packages of npm at one version and hash, unpacked; nothing in them is run.
$(NPM)/onnxruntime-web: PACKAGE = onnxruntime-web@1.30.0
$(NPM)/onnxruntime-web: SHA256 = d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71
$(NPM)/%:
	mkdir -p $@.part
	file=$$(npm pack --silent --pack-destination $(NPM) $(PACKAGE)) && echo "$(SHA256)  $(NPM)/$$file" | sha256sum --check --quiet && \
		tar -xzf $(NPM)/$$file --strip-components 1 -C $@.part && rm $(NPM)/$$file && mv $@.part $@

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist out site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "samedge needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	touch $@

# torch comes first and alone, so that TORCH (a version, a wheel, a CPU build) decides which one the extras find.
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) "$(TORCH)"
	$(PIP) --editable ".[train,export,dev]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(PIP) --editable ".[docs]"
	touch $@ $(VENV)/.installed
