# Everything is built into .venv and target; nothing needs root or system packages, except where a
# target's own help says so.

VENV := .venv
BIN := $(VENV)/bin
DEMO_SECONDS ?=
PYTEST_ARGS ?=
# Tests that wait for no clock, so that they may run side by side on all cores; the others go one by one.
VIRTUAL_TIME := tests/control_plane tests/proto tests/simulations
CHAOS_RUNS ?= 50
CHAOS_ARGS ?=
BENCH_ARGS ?=
CONSUL_ARGS ?=
GUIDE_ARGS ?= --clone
SIM_ARGS ?=
SIM_SEEDS ?= 10
SIM_DIR ?= target/sim
CARGO ?= cargo

RUST_MIN := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find proto/rust simulations/net -name '*.rs' -o -name Cargo.toml)
# Prints requirements of pyproject.toml: its argument is an expression over the parsed file `p`.
requirements = $(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); print(*($(1)), sep="\n")'
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# As setuptools-rust sets them, so that both build the same artifacts.
CARGO_PY := PYO3_PYTHON=$(abspath $(BIN)/python) PYO3_BUILD_EXTENSION_MODULE=1 $(CARGO)

ifndef PYTHON
PYTHON := $(shell for python in python3.13 python3.12 python3.11 python3; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r target text; do \
	    printf '  %-13s %s\n' "$$target" "$$text"; done

.PHONY: demo
demo: $(VENV)/.core ## A network of six regions, a film, a cut cable, live figures (DEMO_SECONDS=N ends it)
	$(BIN)/farcast dev --demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

.PHONY: test
test: $(VENV)/.core $(VENV)/.tools ## Unit, property, in-memory and loopback tests, Python and Rust
	$(if $(PYTEST_ARGS),$(BIN)/pytest $(PYTEST_ARGS),\
	    $(BIN)/pytest --numprocesses auto --dist loadfile $(VIRTUAL_TIME) && \
	    $(BIN)/pytest $(addprefix --ignore=,$(VIRTUAL_TIME)))
	$(CARGO) test --locked

.PHONY: check
check: $(VENV)/.runtime $(VENV)/.tools ## Style, types, import rules, lints, Python and Rust
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(CARGO) fmt --all --check
	$(CARGO_PY) clippy --locked --workspace --all-targets -- -D warnings

.PHONY: format
format: $(VENV)/.tools ## Rewrite Python and Rust sources in the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(CARGO) fmt --all

.PHONY: interop
interop: $(VENV)/.core $(VENV)/.tools ## Other MoQT implementations and a browser against ours
	PYTHON=$(abspath $(BIN)/python) tests/interop/run.sh

.PHONY: consul
consul: $(VENV)/.core $(VENV)/.tools ## Control planes that take over from one another, against a real Consul (CONSUL_ARGS="-k killed")
	FARCAST_CONSUL=$$(tests/consul/install.sh $(abspath $(VENV))/consul) && export FARCAST_CONSUL && \
	    $(BIN)/pytest tests/consul $(CONSUL_ARGS)

.PHONY: chaos
chaos: $(VENV)/.core $(VENV)/.tools ## Break a running network at random moments (CHAOS_RUNS=N)
	$(BIN)/python -m tests.chaos $(CHAOS_RUNS) $(CHAOS_ARGS)

.PHONY: false-alarms
false-alarms: ## Four hours of bursty loss in virtual time: no hop may be taken for dead
	$(CARGO) test --locked --release --package farcast-core --test false_alarms -- --ignored --nocapture

.PHONY: sim
sim: $(VENV)/.core $(VENV)/.tools ## All scenarios in virtual time, short form, a seed twice: do the promises hold?
	@mkdir -p $(SIM_DIR)
	$(BIN)/farcast sim run --all --short --twice --pins simulations/pins.toml --save $(SIM_DIR)/results.json \
	    --junit $(SIM_DIR)/junit.xml --html $(SIM_DIR)/report.html --json $(SIM_ARGS)

.PHONY: sim-long
sim-long: $(VENV)/.core $(VENV)/.tools ## All scenarios in full over many seeds (SIM_SEEDS=N): hours
	@mkdir -p $(SIM_DIR)
	$(BIN)/farcast sim run --all --seeds $(SIM_SEEDS) --save $(SIM_DIR)/results-long.json \
	    --junit $(SIM_DIR)/junit-long.xml --html $(SIM_DIR)/report-long.html --json $(SIM_ARGS)

.PHONY: sim-error
sim-error: $(VENV)/.core ## How wrong the simulator is: against real time, and against other data
	$(BIN)/python bench/sim_error.py $(BENCH_ARGS)

.PHONY: bench-congestion
bench-congestion: $(VENV)/.core ## Our congestion controller beside CUBIC, NewReno, BBR3: loss, queues, harm (BENCH_ARGS=--short)
	$(CARGO) build --locked --release --package farcast-net --example congestion
	$(BIN)/python bench/congestion.py $(BENCH_ARGS)

.PHONY: guide
guide: $(VENV)/.core ## docs/guide.md in network namespaces, command by command (iproute2); GUIDE_ARGS= builds no fresh clone
	consul=$$(tests/consul/install.sh $(abspath $(VENV))/consul || echo $(abspath $(BIN))/none) && \
	    PATH="$$(dirname "$$consul"):$$PATH" $(BIN)/python -m tests.guide $(GUIDE_ARGS)

.PHONY: bench-browser
bench-browser: $(VENV)/.core $(VENV)/.tools ## What a browser's own congestion control makes of a bad uplink, beside farcast publish
	MODULE=tests.interop.uplink PYTHON=$(abspath $(BIN)/python) tests/interop/run.sh $(BENCH_ARGS)

.PHONY: bench-control
bench-control: $(VENV)/.core ## 200 edges reporting to one control plane for a minute: waits, processor, memory
	$(BIN)/python bench/control.py $(BENCH_ARGS)

.PHONY: bench-joins
bench-joins: $(VENV)/.core ## How many viewers one edge takes in a second, beside bare QUIC handshakes
	$(BIN)/python bench/joins.py $(BENCH_ARGS)

.PHONY: bench-planner
bench-planner: $(VENV)/.runtime $(VENV)/.tools ## How long plans take, beside graph libraries; distance to the optimum
	PYTHONPATH=src:tests/support $(BIN)/python bench/planner.py $(BENCH_ARGS)

.PHONY: bench-recovery
bench-recovery: $(VENV)/.runtime ## Film and sound over one hop at 2 to 20 % loss, beside ARQ, SRT, FEC and streams (BENCH_ARGS=--short for CI)
	$(CARGO) build --locked --release --package farcast-net --example recovery
	PYTHONPATH=src $(BIN)/python -m bench.recovery $(BENCH_ARGS)

.PHONY: bench-recovery-sweep
bench-recovery-sweep: $(VENV)/.runtime $(VENV)/.tools ## The same over loss, round trip, burst and budget: a map beside the best fixed mix of ARQ and FEC
	$(CARGO) build --locked --release --package farcast-net --example recovery
	PYTHONPATH=src $(BIN)/python -m bench.recovery_sweep --svg target/recovery-sweep.svg $(BENCH_ARGS)

.PHONY: bench-routes
bench-routes: $(VENV)/.runtime $(VENV)/.tools ## Where planned routes beat direct ones, on measured and synthesised networks
	PYTHONPATH=src $(BIN)/python bench/routes.py

.PHONY: bench-sim
bench-sim: $(VENV)/.core ## The simulator beside QUIC alone on the same kernel: speed, memory; anchors without protocols
	$(CARGO) build --locked --release --package farcast-net --example bare_loop
	FARCAST_NS3=$$(bench/install_ns3.sh $(abspath $(VENV))/ns3 $(BIN)/python || true) && export FARCAST_NS3 && \
	    $(BIN)/python -m bench.simulator $(BENCH_ARGS)

.PHONY: deploy-lint
deploy-lint: $(VENV)/.core $(VENV)/.tools ## Units, rules, dashboards and manifests of deploy/; more where systemd, kubectl are
	prometheus=$$(tests/deploy/install.sh $(abspath $(VENV))/prometheus || echo $(abspath $(BIN))) && \
	    PATH="$$prometheus:$$PATH" $(BIN)/pytest -q tests/deploy

.PHONY: completions
completions: $(VENV)/.core $(VENV)/.tools ## Completion scripts by real bash, zsh and fish (apt, unpacked into .venv)
	FARCAST_SHELLS=$$(tests/cli/install_shells.sh $(abspath $(VENV))/shells) && export FARCAST_SHELLS && \
	    $(BIN)/pytest -q tests/cli/test_completion.py

.PHONY: compose-run
compose-run: $(VENV)/.core $(VENV)/.tools ## What the compose file starts, in network namespaces instead of containers (iproute2)
	consul=$$(tests/consul/install.sh $(abspath $(VENV))/consul) && \
	    PATH="$$(dirname "$$consul"):$$PATH" $(BIN)/python -m tests.deploy.compose_run

.PHONY: package
package: $(VENV)/.core ## Build the wheel into dist and try it in a fresh environment
	PYTHON=$(abspath $(BIN)/python) .ci/package

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(VENV) .venv-peers target build dist proto/_core*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	    .import_linter_cache src/farcast.egg-info tests/interop/node_modules tests/interop/out
	find clients control_plane edge proto simulations src tests -name __pycache__ -prune -exec rm -rf {} +

# ---- What the targets need -------------------------------------------------------------------------

# The project itself, editable, with its Rust core in release mode. Cargo compiles by itself first, for
# its progress and its errors to be seen, while pip downloads; pip then finds everything compiled.
$(VENV)/.core: $(RUST_SOURCES) pyproject.toml $(VENV)/.created | toolchain
	@$(MAKE) --no-print-directory --jobs=2 compile $(VENV)/.runtime
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: compile
compile: $(VENV)/.created
	$(CARGO_PY) build --locked --release -p farcast-py

$(VENV)/.runtime: pyproject.toml $(VENV)/.created
	@echo "Installing the Python packages that Farcast uses"
	@$(call requirements,p["build-system"]["requires"] + p["project"]["dependencies"]) > $(VENV)/runtime.txt
	$(PIP) install --requirement $(VENV)/runtime.txt
	@touch $@

$(VENV)/.tools: pyproject.toml $(VENV)/.created
	@echo "Installing the Python packages that tests and checks use"
	@$(call requirements,sum(p["project"]["optional-dependencies"].values()$(,) [])) > $(VENV)/tools.txt
	$(PIP) install --requirement $(VENV)/tools.txt
	@touch $@

$(VENV)/.created: | python toolchain
	$(PYTHON) -m venv $(VENV)
	@touch $@

, := ,

.PHONY: python
python:
	@test -n "$(PYTHON)" || { \
	    echo "Farcast needs Python 3.11 or newer, and none of python3.13, python3.12, python3.11, python3 is."; \
	    echo "Install one (https://www.python.org/downloads), or name yours: make PYTHON=/path/to/python"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Farcast needs Python 3.11 or newer; PYTHON=$(PYTHON) is not."; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments: its venv module is missing."; \
	    echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; } >&2

.PHONY: toolchain
toolchain:
	@version=$$($(CARGO) --version 2>/dev/null | cut -d' ' -f2); \
	if [ -z "$$version" ]; then found="it is not installed, or cargo is not on PATH"; \
	elif ! printf '%s\n' $(RUST_MIN) "$$version" | sort --check=silent --version-sort; then found="this is Rust $$version"; fi; \
	test -z "$$found" || { \
	    echo "Farcast needs Rust $(RUST_MIN) or newer for its datapath: $$found."; \
	    echo "Get it from https://rustup.rs (no root needed), or update it: rustup update stable"; exit 1; } >&2
	@command -v cc >/dev/null || { \
	    echo "Farcast needs a C compiler (cc) for the cryptography of its datapath."; \
	    echo "On Debian and Ubuntu: apt install build-essential"; exit 1; } >&2
