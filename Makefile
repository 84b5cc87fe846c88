# `make sweep` sets up and runs the default sweep; `make test` sets up and runs the fast tests.
PYTHON ?= python3.11
BIN := .venv/bin
# uv does not read pip's variable for local wheels; elsewhere this is empty and changes nothing.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

INSTALL := VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode -c constraints.txt

SWEEP ?= sweeps/thresholds.yaml

.PHONY: sweep test test-slow test-integration test-chaos test-radosgw lint bench bench-sweeps bench-gpu ui clean

sweep: .venv/.installed
	$(BIN)/python -m orchestrator.sweep $(SWEEP)

test: .venv/.installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile

# What `test` leaves out because a test takes a second or more of a processor.
test-slow: .venv/.installed-test
	$(BIN)/python -m pytest -m "slow and not integration and not gpu" -n auto --dist loadfile

test-chaos: .venv/.installed-test
	$(BIN)/python -m benchmarks.chaos

test-integration: .venv/.installed-test
	$(BIN)/python -m pytest -m "integration" --durations=20

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed-test
	$(BIN)/python -m benchmarks.run

# Against plain Ray Tune, and on a simulated cluster.
bench-sweeps: .venv/.installed-test
	$(BIN)/python -m benchmarks.run --sweeps

# At most 8 minutes on any CUDA machine.
bench-gpu: .venv/.installed-test
	$(BIN)/python -m benchmarks.gpu

# Needs Ceph's programs; tests/radosgw.sh names their packages.
test-radosgw: .venv/.installed-test
	$(BIN)/python -m benchmarks.radosgw

ui: .venv/.installed
	$(BIN)/aream ui

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

.venv/.installed: .venv/bin/uv pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/.installed-test: .venv/.installed pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	touch $@

clean:
	rm -rf .venv runs
