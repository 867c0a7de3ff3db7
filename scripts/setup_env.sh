#!/usr/bin/env bash
# Build .venv with selftrain in it, ready for `make demo` and `make test`. Instant if nothing has changed.
# Needs Python 3.11 with its headers, and g++ (for the dense CRF). Another interpreter: PYTHON=python3.12 scripts/setup_env.sh
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3.11}
ready=.venv/.ready # written last; names the checkout and the place for which the environment is complete
wanted=$(pwd && sha256sum pyproject.toml constraints.txt hatch_build.py selftrain/labels/*.cpp scripts/setup_env.sh scripts/*torchvision*.py)

if [[ -f $ready && $(<"$ready") == "$wanted" && -f selftrain/labels/_mean_field.so ]]; then
    exit 0
fi

die() {
    echo "error: $*" >&2
    exit 1
}
"$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null ||
    die "'$python' is not a Python 3.11 or 3.12 with venv; install one (python3.11 and python3.11-venv) or set PYTHON"
command -v g++ >/dev/null || die "g++ is needed to build the dense CRF; install a C++ compiler"

# An environment contains its own path: if it was moved, copied or left incomplete, it is rebuilt.
if [[ $(.venv/bin/pip --version 2>/dev/null) != "pip "*" from $PWD/.venv/"* ]]; then
    "$python" -m venv --clear .venv
fi
rm -f "$ready"

echo "Installing selftrain and its dependencies into .venv; the first time takes a few minutes."
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[export,review,sweep,cloud,dev]' -c constraints.txt
.venv/bin/python scripts/mend_torchvision.py
printf '%s\n' "$wanted" >"$ready"
