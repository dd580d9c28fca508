# Every target creates $(VENV) and installs what it needs by itself; stamp files make the second run fast.
PYTHON ?= python3
VENV ?= .venv
# Extra pytest arguments: make test ARGS="-k pairing -x"; with -n 0 in one process, as --pdb needs it
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
METADATA := setup.py setup.cfg pyproject.toml constraints.txt package.xml
# Without a local part: a CPU wheel of it (2.13.0+cpu) that the machine offers is preferred.
TORCH := 2.13.0
KERNELS := $(wildcard depth_sr_ros/native/*)
# A sourced ROS 2 brings its own rclpy: the one from PyPI would shadow it.
ifdef ROS_DISTRO
RUN_EXTRAS :=
DEV_EXTRAS := [train,dev]
else
RUN_EXTRAS := [ros]
DEV_EXTRAS := [ros,train,dev]
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint install clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-run  ## synthetic camera -> node -> viewer over DDS; prints a table, writes a picture
	@$(BIN)/depth-sr demo

test: $(VENV)/.stamp-dev  ## linters and all tests but the long ones
	@$(BIN)/python -m pytest -m "not long" -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

test-long: $(VENV)/.stamp-dev  ## soaks, big fuzzing runs, tutorials
	@$(BIN)/python -m pytest -m long $(ARGS)

lint: $(VENV)/.stamp-dev  ## ruff and mypy alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

install: $(VENV)/.stamp-dev  ## the environment alone: runtime, training and development tools

clean:  ## remove the environment and all build outputs
	rm -rf $(VENV) depth_sr_ros/_native*.so build dist install log out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v < (3, 15) or sys.exit("Python %d.%d is \
	not supported: run make with PYTHON=python3.10 up to python3.14" % v)'
	$(PYTHON) -m venv $(VENV)

# torch goes first: what is installed after it then keeps this build instead of choosing its own.
$(VENV)/.stamp-torch: constraints.txt Makefile | $(BIN)/python
	$(PIP) torch==$(TORCH)
	@touch $@

$(VENV)/.stamp-run: $(METADATA) $(KERNELS) $(VENV)/.stamp-torch
	@echo "installing depth_sr_ros and its dependencies into $(VENV)"
	$(PIP) -qq --editable ".$(RUN_EXTRAS)"
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo "installing the training and development tools into $(VENV)"
	$(PIP) -qq --editable ".$(DEV_EXTRAS)"
	@touch $@
