#!/usr/bin/env bash
# Test as a SLURM job step: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
usage="Usage: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    echo "$usage"
    echo "Example: GPUS=4 tools/slurm_test.sh gpu test CONFIG CHECKPOINT --out metrics.json"
    "$here/slurm_run.sh" --help | sed -n '/^Environment/,$p'
    exit 0
fi
if [[ $# -lt 4 ]]; then
    echo "error: found the arguments '$*'; expected a partition, a job name, a config and a checkpoint. $usage" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3 checkpoint=$4; shift 4
exec "$here/slurm_run.sh" "$partition" "$job_name" "$here/test.py" "$config" "$checkpoint" "$@"
