#!/usr/bin/env bash
# Creates .venv if it does not exist and installs the pinned requirements; does nothing the second time.
# usage: bash sh/setup.sh [test] [jax] [hub] [lite] [track] [tune] [remote]    also installs requirements/test.txt, jax.txt, hub.txt, ...
# Needs: Python 3.11 to 3.13 with venv, a network, and 1.8 GB of disk (4 GB with an NVIDIA GPU).
# Time: about a minute; most of it is TensorFlow.
set -euo pipefail
cd "$(dirname "$0")/.."

files=(requirements.txt)
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
  files=(requirements/gpu.txt)
fi
for name in "$@"; do files+=("requirements/$name.txt"); done

# An interrupted first run leaves a .venv without pip; it is created again.
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
    case "$(python3 -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null)$(uname -s)" in
      *Darwin) advice="brew install python@3.13" ;;
      3.11Linux | 3.12Linux | 3.13Linux) advice="sudo apt install python3-venv (Debian, Ubuntu)" ;;
      3.10Linux) advice="sudo apt install python3.11 python3.11-venv (Ubuntu 22.04)" ;;
      3.14Linux) advice="TensorFlow has no packages for 3.14 yet" ;;
      *) advice="sudo apt install python3 python3-venv (Debian, Ubuntu)" ;;
    esac
    echo "sh/setup.sh: needs Python 3.11, 3.12 or 3.13 with venv; python3 is $(python3 --version 2>&1): $advice;" \
      "on any system: uv venv --seed --python 3.13 .venv, or conda create -p .venv python=3.13; then run this again" >&2
    exit 2
  fi
  "$python" -m venv --clear .venv
fi

for file in "${files[@]}"; do
  # The stamp holds the content of all requirements, because a file may name others.
  stamp=.venv/installed-$(basename "$file")
  wanted=$(cat requirements.txt requirements/*.txt)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing $file into .venv ..." >&2
    quiet=(--quiet)
    [ -t 2 ] && quiet=()  # a terminal gets pip's bar, for up to a gigabyte
    if ! .venv/bin/python -m pip install "${quiet[@]}" --disable-pip-version-check -r "$file"; then
      echo "sh/setup.sh: $file was not installed; behind a proxy set HTTPS_PROXY, with a mirror" \
        "PIP_INDEX_URL; what has been downloaded is kept, so run this again" >&2
      exit 1
    fi
    printf '%s' "$wanted" >"$stamp"
  fi
done
