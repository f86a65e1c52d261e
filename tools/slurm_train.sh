#!/usr/bin/env bash
# Train as a SLURM job: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [arguments of tools/train.py]
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
usage="Usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [arguments of tools/train.py]"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    echo "$usage"
    echo "Example: GPUS=16 tools/slurm_train.sh gpu align CONFIG --amp --resume"
    "$here/slurm_run.sh" --help | sed -n '/^Environment/,$p'
    echo "  REQUEUE         1: submit a batch job that saves at its time limit, is requeued, and resumes"
    echo "  SAVE_SECONDS    seconds before the time limit at which this job saves (default: 300)"
    exit 0
fi
if [[ $# -lt 3 ]]; then
    echo "error: found the arguments '$*'; expected a partition, a job name and a config. $usage" >&2
    exit 2
fi
# A job has SLURM_JOB_ID. Otherwise slurm_run.sh submits a job that runs this command.
if [[ ${REQUEUE:-0} == 1 && -z ${SLURM_JOB_ID:-} ]]; then
    SLURM_BATCH=$(printf '%q ' "$0" "$@")
    export SLURM_BATCH
fi
partition=$1 job_name=$2 config=$3; shift 3
work_dir=()
if [[ $# -gt 0 && $1 != -* ]]; then work_dir=(--work-dir "$1"); shift; fi
resume=()
if [[ ${SLURM_RESTART_COUNT:-0} -gt 0 && " $* " != *" --resume"* ]]; then resume=(--resume); fi
code=0
"$here/slurm_run.sh" "$partition" "$job_name" "$here/train.py" "$config" "${work_dir[@]}" "$@" "${resume[@]}" || code=$?
# 138: SIGUSR1 ended the training, which has saved a checkpoint. Other codes: finished, failed, or cancelled.
if [[ $code == 138 && ${REQUEUE:-0} == 1 && -n ${SLURM_JOB_ID:-} ]]; then
    echo "requeue: job $SLURM_JOB_ID continues from its last checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
