#!/usr/bin/env bash
# Trains in several processes on JAX: the worked example for several machines, here all on this one.
# usage: bash sh/train_multinode.sh [more options of `run.py --mode train`]
# On several machines, start the same command on each, with the address of the machine that runs
#   process 0 and a PROCESS_ID of its own: docs/several-machines.md has Slurm and Kubernetes.
# Needs: what sh/setup.sh needs; PROCESSES is 2 unless set.
# Time: about 4 minutes on two cores for two epochs of the demo's digits. The processes share the
#   cores, so they are not faster than one.
# Expect: that it runs and exports; two epochs are too few for a useful accuracy.
set -euo pipefail
cd "$(dirname "$0")/.."
bash sh/setup.sh jax

PROCESSES=${PROCESSES:-2}
DATA=${DATA:-datasets/digits}
RUN=${RUN:-multinode}
python=.venv/bin/python
PORT=${PORT:-$($python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

[ -d "$DATA" ] || $python run.py --mode demo_data --target "$DATA"

process() { # number, more options
  local number=$1
  shift
  $python run.py --mode train --backend jax --run "$RUN" --overwrite \
    --coordinator "127.0.0.1:$PORT" --num_processes "$PROCESSES" --process_id "$number" \
    --train_data "$DATA/train_datasets" --val_data "$DATA/val_datasets" \
    --weights none --input_size 32 --batch_size 64 --epochs 2 --drop_connect 0 \
    --horizontal_flip no --random_eraser 0 "$@"
}

others=()
for ((number = 1; number < PROCESSES; number++)); do
  process "$number" "$@" 2> >(sed "s/^/process $number: /" >&2) &
  others+=($!)
done
status=0
process 0 "$@" || status=$?
for other in "${others[@]}"; do wait "$other" || status=$?; done
[ "$status" = 0 ] || exit "$status"

echo; echo "== exporting the run with TensorFlow, and checking it on one device"
$python run.py --mode save_pb --run "$RUN" --multigpu
