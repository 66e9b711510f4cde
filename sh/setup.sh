#!/usr/bin/env bash
# Makes .venv if it is not there and installs the pinned requirements; does nothing the second time.
# usage: bash sh/setup.sh [test] [jax] [hub]        and what requirements/test.txt, jax.txt, hub.txt bring
# Takes about a minute and 1.8 GB of disk, most of it TensorFlow (4 GB with an NVIDIA GPU).
set -euo pipefail
cd "$(dirname "$0")/.."

files=(requirements.txt)
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
  files=(requirements/gpu.txt)
fi
for name in "$@"; do files+=("requirements/$name.txt"); done

# An interrupted first run leaves a .venv without pip.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  python=""
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if command -v "$name" >/dev/null &&
      "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      python=$name
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "sh/setup.sh: needs Python 3.11, 3.12 or 3.13 with venv, found: $(python3 --version 2>&1);" \
      "on Debian and Ubuntu: apt install python3 python3-venv" >&2
    exit 2
  fi
  "$python" -m venv --clear .venv
fi

for file in "${files[@]}"; do
  # The stamp holds what was installed, the files that it may name included.
  stamp=.venv/installed-$(basename "$file")
  wanted=$(cat requirements.txt requirements/*.txt)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing $file into .venv ..." >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$file"
    printf '%s' "$wanted" >"$stamp"
  fi
done
