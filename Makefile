# Everything a contributor runs. Needs GNU make (3.81 will do) and Python 3.11 or
# newer; all else goes into $(VENV), which is made on first use and refreshed when
# pyproject.toml changes. Nothing outside this directory is touched.

# The tests start hundreds of programs: none of them has to compile the agent again.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# Most tests wait for servers and processes: more workers than processors pay.
WORKERS ?= 8
# Those that take minutes start programs of many processes.
LONG_WORKERS ?= 6
# A candidate must run, not just exist: a pyenv shim of a version that is not
# selected is on the PATH and fails.
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for candidate in python3.14 python3.13 python3.12 python3.11 python3; do \
	"$$candidate" -c '$(RECENT)' >/dev/null 2>&1 && echo "$$candidate" && break; done)
# The benchmarks compare with what the agent itself must never depend on.
BENCH_VENV := benchmarks/.venv
BENCH := $(BENCH_VENV)/bin/python -m benchmarks
DEFINITION := pyproject.toml instrumentation/resilience_instrument/__init__.py

# Files with tests that nothing may run at the expense of: others need not be read.
ALONE = $(shell grep -rl --include='*.py' 'mark\.alone' tests)

# Which of the suites named in ARGS run against database servers; without, all run.
UPSTREAM_DATABASES = $(filter psycopg2% pymysql% sqlalchemy%,$(ARGS))
UPSTREAM_CLIENTS = $(filter-out $(UPSTREAM_DATABASES),$(ARGS))

# Needs neither servers nor other agents: runs on every version that we support.
CORE := tests/policies tests/signals tests/bootstrap tests/cli tests/test_agent.py \
	tests/test_engine.py tests/test_hedging.py tests/test_fastpath.py tests/test_cycles.py \
	tests/test_fork.py tests/agent/test_launcher.py \
	tests/agent/test_start_up.py tests/agent/test_one_port.py

.DEFAULT_GOAL := help
.PHONY: $(shell awk -F : '/^[a-z-]+:.*\043\043 / {print $$1}' Makefile)

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo ## Watch a service fail with and without the agent
	@$(BIN)/python examples/cascade/demo.py $(ARGS)

test: $(VENV)/.test ## Run the tests; ARGS="-k breaker" runs some, without the coverage gate
	@$(BIN)/python -m coverage erase
ifdef ARGS
	$(BIN)/python -m coverage run -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)
else
	@rm -f $(VENV)/alone.failed; status=0; \
	$(MAKE) --no-print-directory -k -j 2 .mixed .beside || status=$$?; \
	cat $(VENV)/alone.txt; \
	if [ -e $(VENV)/alone.failed ]; then \
	    echo "Once more, with nothing beside it:"; \
	    $(MAKE) --no-print-directory .alone || status=$$?; \
	    cat $(VENV)/alone.txt; \
	fi; \
	exit $$status
endif
	@$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report $(if $(ARGS),--fail-under=0 || true)

# What runs beside a story in real time steps back: it has a processor when it wants one.
# Only what fails without anything beside it has failed.
.PHONY: .mixed .beside .alone
.mixed:
	nice -n 10 $(BIN)/python -m coverage run -m pytest -n $(WORKERS) --dist loadgroup -m "not alone and not long and not scenario"
.beside:
	@$(MAKE) --no-print-directory .alone || touch $(VENV)/alone.failed
.alone:
	$(BIN)/python -m coverage run -m pytest -m "alone and not long" $(ALONE) > $(VENV)/alone.txt 2>&1

test-long: $(VENV)/.test ## Run the tests that take minutes: all kinds of processes, whole outages
	$(BIN)/python -m pytest -n $(LONG_WORKERS) --dist loadgroup -m "(long or scenario) and not alone" $(ARGS)
	$(BIN)/python -m pytest -m "long and alone" $(or $(ARGS),$(ALONE))

test-python: ## Run the core's tests on another Python, PYTHON=python3.13
	@$(MAKE) --no-print-directory VENV=.venv-$(subst /,-,$(PYTHON)) .core

.PHONY: .core
.core: $(VENV)/.core
	$(BIN)/python --version
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(or $(ARGS),$(CORE))

lint: $(VENV)/.lint ## Check style, types, layers and changelog fragments
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/build.py --check
	$(BIN)/python dashboards/build.py --check
	@said=$$($(BIN)/python -m towncrier build --draft --version next 2>&1) \
	    && echo "Changelog fragments are well named." || { echo "$$said" >&2; exit 1; }

format: $(VENV)/.lint ## Rewrite the sources in the project's style
	$(BIN)/python -m ruff check --fix-only --quiet .
	$(BIN)/python -m ruff format .

docs: $(VENV)/.lint ## Write the pages and the dashboard that come from code
	$(BIN)/python docs/build.py
	$(BIN)/python tests/integrations/cases.py
	$(BIN)/python dashboards/build.py

mutate: $(VENV)/.mutate ## See whether the tests of the policies notice changed code
	rm -rf build/mutate
	mkdir -p build/mutate/src
	cp -R instrumentation/resilience_instrument build/mutate/src/
	cp -R tests pyproject.toml build/mutate/
	cd build/mutate && $(CURDIR)/$(BIN)/python -m mutmut run $(ARGS)
	@cd build/mutate && $(CURDIR)/$(BIN)/python -m mutmut results

preview: $(VENV)/.test ## Draw the dashboard in a browser (optional: 700 MB of packages)
	@$(PIP) install playwright
	$(BIN)/python dashboards/preview/run.py

build: $(VENV)/.release ## Build the sdist and, from it, the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build

changelog: $(VENV)/.release ## Show what the next release's changelog will say
	@$(BIN)/python -m towncrier build --draft --version next

upstream: $(VENV)/.test ## Run test suites of HTTP clients, drivers and SQLAlchemy under the agent
	@status=0; \
	$(if $(or $(UPSTREAM_CLIENTS),$(if $(ARGS),,all)),$(BIN)/python tests/upstream/compare.py $(UPSTREAM_CLIENTS) || status=1;) \
	$(if $(or $(UPSTREAM_DATABASES),$(if $(ARGS),,all)),$(BIN)/python tests/upstream/databases.py $(UPSTREAM_DATABASES) || status=1;) \
	exit $$status

bench: $(BENCH_VENV)/.bench ## Measure what the agent costs; ARGS="calls" runs some of it
	@$(BENCH) $(ARGS)

bench-full: $(BENCH_VENV)/.bench ## Measure with more rounds, stacks and targets
	@$(BENCH) --full $(ARGS)

bench-instructions: $(BENCH_VENV)/.bench ## Count instructions a call; needs valgrind
	@$(BENCH) instructions $(ARGS)

bench-compare: $(BENCH_VENV)/.bench ## Fail if a call takes 3 % more than at the merge base
	@$(BENCH).compare $(ARGS)

clean: ## Remove everything that was made, the virtual environment too
	rm -rf "$(VENV)" .venv-* "$(BENCH_VENV)" build dist htmlcov .coverage .coverage.*
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps below say which dependencies $(VENV) already holds.
$(VENV)/.created:
	@python="$(PYTHON)"; \
	if ! "$${python:-false}" -c '$(RECENT)' 2>/dev/null; then \
	    echo "error: no Python 3.11 or newer found$${python:+ as $$python}; install one or say where it is: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	elif "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    "$$python" -m venv "$(VENV)"; \
	elif "$$python" -m virtualenv --version >/dev/null 2>&1; then \
	    "$$python" -m virtualenv -q "$(VENV)"; \
	else \
	    echo "error: $$python cannot make virtual environments; install the package python3-venv (Debian, Ubuntu: sudo apt-get install python3-venv)" >&2; \
	    exit 1; \
	fi
	@$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.created $(DEFINITION)
	@$(PIP) install -e ".[demo]"
	@touch $@

$(VENV)/.test: $(VENV)/.created $(DEFINITION)
	@$(PIP) install -e . --group test
	@# Compiles the tests once; otherwise each worker does, and all at the same time.
	@$(BIN)/python -m pytest --collect-only -q > /dev/null || true
	@touch $@

$(VENV)/.core: $(VENV)/.created $(DEFINITION)
	@$(PIP) install -e . --group core
	@touch $@

$(VENV)/.lint: $(VENV)/.created $(DEFINITION)
	@$(PIP) install -e . --group lint
	@touch $@

$(VENV)/.mutate: $(VENV)/.created $(DEFINITION)
	@$(PIP) install -e . --group mutate
	@touch $@

$(BENCH_VENV)/.bench: $(VENV)/.created $(DEFINITION) benchmarks/requirements.txt
	@$(BIN)/python -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check -q install -e . -r benchmarks/requirements.txt
	@touch $@

$(VENV)/.release: $(VENV)/.created $(DEFINITION)
	@$(PIP) install --group release
	@touch $@
