#!/usr/bin/env bash
# Lint and the whole test suite, in .venv. Takes about 12 minutes on two cores.
# usage: bash sh/test.sh [pytest's arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
bash sh/setup.sh test

.venv/bin/ruff check .
.venv/bin/python -m pytest "$@"
