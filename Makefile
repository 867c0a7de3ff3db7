# `make demo` and `make test` need only Python 3.11, g++, make and git; the first one builds .venv.
PROCESSES ?= 1
PY := .venv/bin/python

# Not `accelerate launch`: without a precision it warns, and `no` means fp32 even if bf16 is faster.
LAUNCH := $(if $(filter 1,$(PROCESSES)),$(PY),.venv/bin/torchrun --nproc_per_node $(PROCESSES))

.PHONY: help env demo test slow faults faults-bite bench gpu check format site wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST)

env: ## build .venv (the other targets do it by themselves)
	@scripts/setup_env.sh

demo: env ## a whole run on the embedded data set, into runs/demo (PROCESSES=2 on a machine with two GPUs)
	@$(LAUNCH) -m selftrain.run recipe=noisy_student out=runs/demo

# One thread per worker: two workers with a thread per core each would slow each other down.
test: env ## run the tests
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --maxprocesses 8 --dist loadfile

slow: env ## run the long tests that `make test` leaves out: every recipe, whole runs (about 11 minutes on two cores)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --maxprocesses 8 --dist worksteal -m slow

faults: env ## cause every fault of docs/faults.md (about 20 minutes; as root, also on small mounted disks)
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --maxprocesses 8 --dist worksteal -m promise --faults-table=docs/faults.md

faults-bite: env ## break a copy in ten ways and show that the fault tests notice
	@$(PY) scripts/faults_bite.py

bench: env ## measure every promise, side by side with plain code, into docs/performance.md (CAMVID=its data.root)
	@$(PY) benchmarks/all.py $(if $(CAMVID),--camvid $(CAMVID))

gpu: env ## check the GPUs of this machine, in ten minutes at most, into docs/gpu.md; skips without one
	@scripts/gpu_check.sh

check: env ## lint, format and types, without changing anything
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: env ## sort imports, fix what the linter can, format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

site: env ## build the documentation into build/site
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@ls build/site/index.html

wheel: env ## build dist/selftrain-*.whl
	@$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/selftrain-*.whl

clean: ## remove caches and built files; keeps .venv and runs
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find selftrain tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
