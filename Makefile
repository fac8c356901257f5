# fastgw. Every target works in a bare checkout with Python >= 3.11, gcc and make; what is missing is installed in
# .venv on first use. System packages are installed only when run as root, otherwise the line to run is printed.
#
#   make run     start a gateway on 127.0.0.1:4000        make test   all tests, then the pure-Python twins
#   make lint    style, types, house rules                make fmt    format and mend what can be mended
#   make check   lint, ASan, conformance, speed gates     make bench  measure against nginx and HAProxy
#   make soak    by hand: faults for MINUTES=n with SEED=n, new failing examples, KILLS=n processes killed
#   make fuzz    by hand: every parser for SECONDS=n, the native ones under AddressSanitizer
#   make clean   remove what was built
VENV  ?= .venv
TESTS ?= tests
# Two: what the smallest CI machine has.
JOBS  ?= 2
BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip --disable-pip-version-check
APT   := PYTHON=$(BIN)/python tools/apt.sh
PYX   := $(wildcard src/fastgw/_core/*.pyx src/fastgw/_core/*.pxd src/fastgw/_core/*.h)
ASAN  := build/asan-lib

# A first `make run` needs nothing for developers; once they are there, the same files serve it.
READY := $(if $(wildcard $(VENV)/.dev),$(VENV)/.native,$(VENV)/.core)

.DELETE_ON_ERROR:
.PHONY: run test lint fmt check conformance bench bench-gate soak fuzz clean asan native

run: $(READY)
	@$(BIN)/python tools/native.py
	$(BIN)/python -m fastgw serve --auto

test: $(VENV)/.build-tools $(VENV)/.native
	$(BIN)/python tools/native.py --require
	@$(APT) fronts || echo 'fastgw: what is tested behind nginx and HAProxy is skipped'
	$(BIN)/python -m pytest -n $(JOBS) $(TESTS)
	FASTGW_PURE=1 $(BIN)/python -m pytest tests/_core

# cython-lint calls pycodestyle by name, so the environment has to be on PATH.
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	PATH="$(abspath $(BIN)):$$PATH" cython-lint src/fastgw/_core
	$(BIN)/python -m pytest tests/test_house.py

fmt: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint asan conformance bench-gate

# Real clients of four dialects and three frameworks against providers of four; docs/conformance.md must say what they saw.
conformance: $(VENV)/.build-tools $(VENV)/.native
	JOBS=$(JOBS) $(BIN)/python tools/conformance.py --check

# The sanitized modules live in a tree of their own, never beside the plain ones. The tree is made anew each time so
# that a file since deleted cannot serve. PYTHONMALLOC=malloc: pymalloc's arenas would hide small overruns.
# --capture=sys: the sanitizer writes to descriptor 2 and ends the process, and what pytest captured ends with it.
asan: $(VENV)/.build-tools $(VENV)/.native
	$(APT) asan
	rm -rf $(ASAN)
	FASTGW_ASAN=1 $(BIN)/python setup.py -q build --build-lib $(ASAN) --build-temp build/asan-tmp
	PYTHONPATH=$(ASAN):tools FASTGW_ASAN_TREE=$(ASAN) PYTHONMALLOC=malloc \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	  $(BIN)/python -m pytest -p asan -p no:cacheprovider --capture=sys -n $(JOBS) -o timeout=600 tests/_core

bench-gate: $(VENV)/.native
	$(APT) bench
	$(BIN)/python -m bench.gate

bench: $(VENV)/.native
	$(APT) bench
	$(BIN)/python -m bench

# Mixed faults for a while, then the same property tests with examples of their own: what `make test` leaves alone so that
# it fails for a reason.
soak: $(VENV)/.build-tools $(VENV)/.native
	nice -n 10 $(BIN)/python -m tests.soak.run --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)
	HYPOTHESIS_PROFILE=random FASTGW_STRESS_KILLS=$${KILLS:-200} $(BIN)/python -m pytest -n $(JOBS) --hypothesis-seed=$${SEED:-random} $(TESTS)

# Each target so long; the native ones under AddressSanitizer.
fuzz: $(VENV)/.build-tools $(VENV)/.native
	$(APT) asan
	rm -rf $(ASAN)
	FASTGW_ASAN=1 $(BIN)/python setup.py -q build --build-lib $(ASAN) --build-temp build/asan-tmp
	PYTHONPATH=$(ASAN):. FASTGW_ASAN_TREE=$(ASAN) PYTHONMALLOC=malloc \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	  $(BIN)/python -m tests.fuzz.run --target native --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)
	$(BIN)/python -m tests.fuzz.run --target others --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

native: $(VENV)/.native

clean:
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks $(VENV)/.native $(VENV)/.core
	rm -f src/fastgw/_core/*.so src/fastgw/_core/*.c
	find src tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python: tools/venv.sh
	tools/venv.sh $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.python pyproject.toml setup.py $(PYX)
	$(PIP) install -q -e .
	@touch $@

# No native modules from pip here: the rule below builds them with the environment's own Cython, and only what changed.
$(VENV)/.dev: $(VENV)/.python pyproject.toml
	FASTGW_NO_NATIVE=1 $(PIP) install -q -e '.[dev]'
	@touch $@

$(VENV)/.build-tools: $(VENV)/.python tools/apt.sh
	$(APT) build
	@touch $@

$(VENV)/.native: $(VENV)/.dev setup.py $(PYX)
	$(BIN)/python setup.py -q build_ext --inplace
	@$(BIN)/python tools/native.py
	@touch $@
