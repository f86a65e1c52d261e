#!/usr/bin/env bash
# Train as a SLURM job step: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [arguments of tools/train.py]
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
usage="Usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [arguments of tools/train.py]"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    echo "$usage"
    echo "Example: GPUS=16 tools/slurm_train.sh gpu align CONFIG --amp --resume"
    "$here/slurm_run.sh" --help | sed -n '/^Environment/,$p'
    exit 0
fi
if [[ $# -lt 3 ]]; then
    echo "error: found the arguments '$*'; expected a partition, a job name and a config. $usage" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3; shift 3
work_dir=()
if [[ $# -gt 0 && $1 != -* ]]; then work_dir=(--work-dir "$1"); shift; fi
exec "$here/slurm_run.sh" "$partition" "$job_name" "$here/train.py" "$config" "${work_dir[@]}" "$@"
