#!/bin/bash
# A training on several machines of a cluster with Slurm: sbatch docs/slurm/train.sh --data pictures --epochs 100
# The job may be preempted, reach its time limit or lose a machine: it is queued again, and resumes exactly.
#SBATCH --job-name=im2colnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=train-%j.txt
set -u
run=${RUN:-runs/job-$SLURM_JOB_ID}

if [ -e "$run/checkpoint.safetensors" ]; then
    set -- --resume "$run/checkpoint.safetensors"
else
    set -- "$@" --save-every "10 min" --out "$run"
fi
srun --mpi="${MPI:-pmix}" im2colnet train "$@"
code=$?

if [ $code -ne 0 ] && ! grep -q '"done": true' "$run/run.json" 2>/dev/null; then
    # 143: SIGTERM, of a preemption or two minutes before the time limit; the ranks have saved a checkpoint
    [ $code -eq 143 ] && scontrol requeue "$SLURM_JOB_ID"
    exit $code
fi
