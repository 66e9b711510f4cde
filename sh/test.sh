#!/usr/bin/env bash
# Checks the code with ruff and runs the whole test suite, in .venv.
# usage: bash sh/test.sh [quick] [pytest's arguments]      quick leaves out what needs training
# Needs: what sh/setup.sh needs. Chromium is installed where apt-get and root allow it.
# Time: about an hour on two slow cores; quick about 15 minutes.
# Expect: no failures; tests whose device or program is missing are skipped and say so.
set -euo pipefail
cd "$(dirname "$0")/.."
bash sh/setup.sh test

# A browser for the tests that open a page; without one they are skipped and say so.
if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "installing chromium for the tests that open a page ..." >&2
  { timeout 120 apt-get update && timeout 300 apt-get install -y --no-install-recommends chromium; } \
    >/dev/null 2>&1 || echo "chromium could not be installed: those tests will be skipped" >&2
fi

selection=()
if [ "${1:-}" = quick ]; then
  selection=(-m "not training")
  shift
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet . || {
  echo "the layout of some files is not ruff's: .venv/bin/ruff format . mends it" >&2
  exit 1
}
# Tests of one file share what they have trained, so they stay in one process. A process that dies
# ends the suite, which names the test; when it was restarted instead, the suite hung.
.venv/bin/python -m pytest -n 2 --dist loadfile --max-worker-restart 0 ${selection[@]+"${selection[@]}"} "$@"
