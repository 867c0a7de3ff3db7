#!/usr/bin/env bash
# Check selftrain on the GPUs of this machine, in ten minutes at most; results go to docs/gpu.md. See benchmarks/gpu.py.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

exec .venv/bin/python benchmarks/gpu.py "$@"
