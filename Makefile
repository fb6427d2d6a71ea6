# Both commands set up everything in .venv; a machine with Python 3.11 or newer is enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
FRAMEWORK ?= torch
# processes that share the tests out by file; each computes with one thread
JOBS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

.PHONY: help demo test nightly damage bench compare lint sample clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo-$(FRAMEWORK).stamp ## Train, export and serve a ttH classifier (FRAMEWORK=tf: Keras).
	@$(BIN)/python examples/tth/demo.py demo --framework $(FRAMEWORK)

test: $(VENV)/test.stamp lint ## Lint, type-check and run all tests: what CI runs.
	@OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 $(BIN)/python -m pytest -q \
		-n $(JOBS) --dist loadfile --no-loadscope-reorder

nightly: $(VENV)/test.stamp ## The plan with 10,000 new examples each; 10,000 damaged baskets and pages.
	@HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -q tests/common/plan
	@FUZZ=1250 $(BIN)/python -m pytest -q tests/common/files/test_fuzz.py

damage: $(VENV)/test.stamp ## What becomes of flipped bits, replaced files, killed processes, full disks.
	@$(BIN)/python -m benchmarks.damage $(if $(ROOT_PYTHON),--root-python $(ROOT_PYTHON))

bench: $(VENV)/test.stamp ## Events/s of this package and its rivals (ONLY="tree root" REPEAT=5 QUICK=1).
	@$(BIN)/python -m benchmarks.speed run $(addprefix --only ,$(ONLY)) $(if $(REPEAT),--repeat $(REPEAT)) \
		$(if $(QUICK),--quick) $(if $(ROOT_PYTHON),--root-python $(ROOT_PYTHON))

compare: $(VENV)/test.stamp ## Every branch of every tree below DATA=folder, by the dataset and by uproot.
	@$(BIN)/python -m tests.compare_branches $(or $(DATA),$(error say DATA=folder))

lint: $(VENV)/test.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --namespace-packages --explicit-package-bases benchmarks/speed

sample: $(VENV)/physics.stamp ## Generate a larger ttH sample in sample/.
	@$(BIN)/python examples/tth/generate.py --events 20000 --files 8 --out sample

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# torch first and alone: pip then takes it as given for all that depends on it
$(VENV)/torch.stamp: constraints.txt | $(BIN)/python
	@echo "installing PyTorch"
	@$(INSTALL) torch
	@touch $@

$(VENV)/demo-torch.stamp: pyproject.toml $(VENV)/torch.stamp
	@echo "installing hepdata-adapters"
	@$(INSTALL) --editable '.[torch,plots,serve]'
	@touch $@

$(VENV)/demo-tf.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing hepdata-adapters with TensorFlow"
	@$(INSTALL) --editable '.[tf,plots,serve]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml $(VENV)/torch.stamp
	@echo "installing hepdata-adapters and what its tests need"
	@$(INSTALL) --only-binary fastjet,pythia8mc --editable '.[dev,physics]'
	@touch $@

$(VENV)/physics.stamp: pyproject.toml | $(BIN)/python
	@$(INSTALL) --only-binary fastjet,pythia8mc --editable '.[physics]'
	@touch $@

clean: ## Remove the virtual environments and the results of the demo.
	rm -rf $(VENV) .venv-root .venv-weaver .venv-f9columnar demo
