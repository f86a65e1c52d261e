#!/usr/bin/env bash
# Start a script of tools/ as a SLURM job step: tools/slurm_run.sh PARTITION JOB_NAME SCRIPT [arguments of the script]
set -euo pipefail
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    cat <<'USAGE'
Usage: tools/slurm_run.sh PARTITION JOB_NAME SCRIPT [arguments of SCRIPT]

SCRIPT takes --launcher, such as tools/train.py. One process runs per GPU.

Environment variables:
  GPUS            number of processes (default: 8)
  GPUS_PER_NODE   processes and GPUs per machine (default: GPUS, at most 8)
  CPUS_PER_TASK   CPU cores per process (default: 5)
  SRUN_ARGS       further arguments of srun, such as "--time=12:00:00 --account=lab"; --gres=none for the CPU
  PY_ARGS         further arguments of SCRIPT
  PYTHON          Python interpreter (default: python)
  MASTER_PORT     port of rank 0 (default: derived from the job id)
USAGE
    exit 0
fi
fail() { echo "error: $1. --help lists the arguments" >&2; exit 2; }
[[ $# -ge 3 ]] || fail "found the arguments '$*'; expected PARTITION JOB_NAME SCRIPT"
partition=$1 job_name=$2 script=$3; shift 3
number='^[1-9][0-9]*$'
gpus=${GPUS:-8}
[[ $gpus =~ $number ]] || fail "GPUS is '$gpus'; expected a positive number"
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
[[ $per_node =~ $number ]] || fail "GPUS_PER_NODE is '$per_node'; expected a positive number"
cpus=${CPUS_PER_TASK:-5}
[[ $cpus =~ $number ]] || fail "CPUS_PER_TASK is '$cpus'; expected a positive number"
options=(--partition="$partition" --job-name="$job_name" --gres=gpu:"$per_node" --ntasks="$gpus")
options+=(--ntasks-per-node="$per_node" --cpus-per-task="$cpus")
# SRUN_ARGS and PY_ARGS are split at spaces.
if [[ -n ${SLURM_BATCH:-} ]]; then  # of slurm_train.sh: a command for a batch job
    seconds=${SAVE_SECONDS:-300}
    [[ $seconds =~ $number ]] || fail "SAVE_SECONDS is '$seconds'; expected a positive number"
    command -v sbatch > /dev/null || fail "sbatch is not installed; run this script where SLURM jobs are submitted"
    batch=$SLURM_BATCH
    unset SLURM_BATCH
    # The processes of the training receive the signal, not the shell of the job.
    # shellcheck disable=SC2086
    exec sbatch "${options[@]}" --requeue --signal="USR1@$seconds" --open-mode=append ${SRUN_ARGS:-} --wrap "$batch"
fi
command -v srun > /dev/null || fail "srun is not installed; run this script where SLURM jobs are submitted"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$cpus}
# shellcheck disable=SC2086
exec srun "${options[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$script" "$@" --launcher slurm ${PY_ARGS:-}
