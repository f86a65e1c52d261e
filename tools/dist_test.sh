#!/usr/bin/env bash
# Test a checkpoint with several processes: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
usage="Usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then echo "$usage"; exit 0; fi
if [[ $# -lt 3 || ! $3 =~ ^[1-9][0-9]*$ ]]; then
    echo "error: found the arguments '$*'; expected a config, a checkpoint and a number of processes. $usage" >&2
    exit 2
fi
config=$1 checkpoint=$2 processes=$3; shift 3
exec "${PYTHON:-python}" "$here/dist_run.py" "$processes" "$here/test.py" "$config" "$checkpoint" "$@"
