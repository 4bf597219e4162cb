# Needs python3 (3.11 to 3.13), make and git, and nothing else: everything else comes from the lock.
# Another interpreter: make PYTHON=python3.12 setup
PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-ui ui private-home test collected lines test-all lint kernels security bench dashboard lock clean

# The order of this list is the order of the targets below.
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make the virtual environment from the lock (again when the lock changed)

demo: setup ## Simulate days with planted faults, run the pipeline on them, print the verdicts
	$(BIN)/market-pipeline demo

demo-ui: setup ## Serve the Dagster UI on what `make demo` made
	@# An empty catalogue is there to open before the first run.
	@$(BIN)/python -c 'import market_pipeline; market_pipeline.connect()'
	umask 077 && $(BIN)/dagster dev -h 127.0.0.1 -p $(PORT)

ui: setup ## Serve the Dagster UI on this machine only, at PORT (3000)
	@# An empty catalogue is there to open before the first run.
	@$(BIN)/python -c 'import market_pipeline; market_pipeline.connect()'
	umask 077 && $(BIN)/dagster dev -h 127.0.0.1 -p $(PORT)

# Modules are compiled once, and not again by each worker and by each process that a test starts.
PYTHON_OF_TESTS := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python
PYTEST := $(PYTHON_OF_TESTS) -m pytest

test: setup ## Lint, compile the kernels meanwhile, then run the tests that are not slow
	@$(MAKE) --no-print-directory --jobs=2 lint kernels collected
	$(PYTHON_OF_TESTS) $(COUNTED) -m pytest $(COUNTED_BY)

# The workers start together: each of them would compile every module of the tests, 11 s of CPU.
collected: setup
	@$(PYTEST) --numprocesses=0 --collect-only --quiet --quiet >/dev/null

# slipcover writes its probes into the code, which numba compiles no more. So files that hold kernels
# are left out at first, and then the kernels' tests run once more, with Python in numba's place.
LINES := build/lines
OF_KERNELS := books metrics quality/measures quality/fidelity/test_matching.py \
	quality/fidelity/test_pairing.py sources/test_binance_capture_lines.py \
	sources/test_binance_capture_one_pass.py sources/test_page_headers.py \
	stages/events/test_stream.py warehouse/test_runs.py

lines: setup ## `make test`, and which lines of the package its tests run
	@rm -rf $(LINES) && mkdir -p $(LINES)
	@$(MAKE) --no-print-directory test \
		COUNTED="-m slipcover --json --out $(LINES)/python.json --omit $$(grep \
		--recursive --files-with-matches --extended-regexp --include='*.py' \
		'^ *@(inlined_|callback_)?kernel|^ *@njit|^@intrinsic|OnMessage' market_pipeline \
		| paste --serial --delimiters=,)" COUNTED_BY="-p market_pipeline_tests.counted_lines"
	MARKET_PIPELINE_SAMPLE_DATA=none $(PYTHON_OF_TESTS) -m slipcover --json \
		--out $(LINES)/kernels.json --omit market_pipeline/sources/simulated/_kernel.py -m pytest \
		--quiet --numprocesses=2 -m "not attack" -p market_pipeline_tests.counted_lines \
		-p market_pipeline_tests.plain_kernels \
		--disable-warnings -r "" $(addprefix market_pipeline_tests/,$(OF_KERNELS))
	$(BIN)/python -m slipcover --skip-covered --fail-under 90 --out $(LINES)/all.json \
		--merge $(LINES)/python.json $(LINES)/kernels.json

test-all: setup ## Run the slow tests, which `make test` leaves out: backfills, kills, every fault
	$(PYTEST) -m "slow and not attack"

lint: setup ## Ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

security: setup ## Scan for secrets, review exceptions, write the bill of materials to build/
	$(BIN)/ruff check .
	$(BIN)/python -m supply_chain.secrets
	@mkdir -p build
	$(BIN)/python -m supply_chain.sbom requirements.lock > build/sbom.cdx.json
	$(BIN)/python -m supply_chain.sbom requirements-runtime.lock > build/sbom-runtime.cdx.json
	@$(BIN)/python -m supply_chain.exceptions > build/accepted-vulnerabilities
	@if command -v pip-audit >/dev/null; then \
		for lock in requirements.lock requirements-runtime.lock; do \
			pip-audit --disable-pip --require-hashes --vulnerability-service osv \
				$$(cat build/accepted-vulnerabilities) --requirement $$lock || exit 1; \
		done; \
	else \
		echo 'security: left out: known vulnerabilities of the locked versions. It needs a network' \
			'and pip-audit, and the hosted workflow does it.'; \
	fi

kernels: setup ## Compile the kernels of the rebuild, which the first run does otherwise
	$(BIN)/python -c 'import market_pipeline_tests.defs.warm'
	@$(BIN)/python -c 'import market_pipeline_tests.sources.simulated.compiled'

dashboard: setup ## Write ops/grafana/dashboards again after a change of ops/grafana/dashboard.py
	$(BIN)/python ops/grafana/dashboard.py

bench: setup ## Run the benchmarks, see docs/benchmarks.md (BENCH_FLAGS=--full: 100 M)
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

# Pins are kept where pyproject.toml still allows them. `make lock LOCK_FLAGS=--upgrade` moves all.
# No option that would write an address into the lock is used: it holds versions and hashes only.
UV_COMPILE = $(BIN)/uv pip compile --quiet --system-certs --universal --python-version 3.11 \
	--generate-hashes --no-strip-extras --no-annotate --no-header
lock: setup ## Write the locks again for pyproject.toml
	$(UV_COMPILE) $(LOCK_FLAGS) --all-extras --output-file requirements.lock pyproject.toml
	echo hatchling | $(UV_COMPILE) $(LOCK_FLAGS) --constraints requirements.lock \
		--output-file requirements-runtime.lock pyproject.toml -

clean: ## Remove the environment and every cache; data and run history stay
	rm -rf $(VENV) .bench build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find market_pipeline market_pipeline_tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

# Run history quotes what was found: it is as private as the data.
demo demo-ui ui: private-home
private-home:
	@chmod go= dagster_home

# Run history belongs to the project, whatever DAGSTER_HOME the caller uses elsewhere. Tests make
# their own.
demo demo-ui ui: export DAGSTER_HOME := $(CURDIR)/dagster_home
demo demo-ui: export PIPELINE_DATA_DIR := $(CURDIR)/data/demo
demo demo-ui: export PIPELINE_LAKE_URI := $(CURDIR)/data/demo/lake
demo demo-ui: export PIPELINE_INSTRUMENTS_FILE := $(CURDIR)/data/demo/instruments.yaml
demo demo-ui: export PIPELINE_START_DATE := 2025-01-06

# Two stamps: a changed lock makes the environment anew, so that nothing stale stays in it; a
# changed pyproject.toml only registers the package again.
$(VENV)/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
		echo "Python 3.11, 3.12 or 3.13 is needed and $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Install one of them, then name it, e.g.: make PYTHON=python3.12 setup" >&2; \
		exit 1; }
	@echo 'Installing what requirements.lock names into $(VENV): a minute or two.'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install -qq --disable-pip-version-check --no-input --only-binary :all: \
		--require-hashes -r requirements.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(BIN)/pip install -qq --disable-pip-version-check --no-input --no-deps \
		--no-build-isolation -e .
	@touch $@
