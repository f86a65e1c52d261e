#!/usr/bin/env bash
# Train with several processes: tools/dist_train.sh [CONFIG] GPUS [arguments of tools/train.py]
# CONFIG defaults to configs/vit3d_cot_contrastive.py. On a machine without GPUs, the processes run on the CPU.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
usage="Usage: tools/dist_train.sh [CONFIG] GPUS [arguments of tools/train.py]"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then echo "$usage"; exit 0; fi
config=$here/../configs/vit3d_cot_contrastive.py
if [[ $# -gt 0 && ! $1 =~ ^[0-9]+$ ]]; then config=$1; shift; fi
if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "error: found '${1:-}'; expected a number of processes. $usage" >&2
    exit 2
fi
processes=$1; shift
exec "${PYTHON:-python}" "$here/dist_run.py" "$processes" "$here/train.py" "$config" "$@"
