#!/bin/bash
# Trains under Slurm: torchrun on each node, started again where a process or a node fails.
#
#     sbatch --nodes=2 --gpus-per-node=8 tools/slurm.sh tools/train.py configs/tsn_tiny.py --data DIR
#
# Run it in the project's folder, which all nodes share. NPROC is the number of processes a node: one
# a GPU, else 1. Before the time limit the job saves and is queued again; so it is when another job
# preempts it (PreemptMode=REQUEUE). It then goes on from the newest checkpoint.
#
#SBATCH --job-name=mmact_tiny
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -u

requeue() {
    echo "the job is queued again"
    scontrol requeue "$SLURM_JOB_ID"
    exit
}

save_and_requeue() {
    trap '' USR1
    # To torchrun on each node, which hands it to its processes; srun itself would kill them.
    scancel --signal=TERM "$SLURM_JOB_ID.0"
    wait "$step"
    requeue
}
trap save_and_requeue USR1

# Else machines that remain look for the one that is gone (pytorch issue 135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=0 --wait=0 "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="1:$SLURM_NNODES" \
    --nproc_per_node="${NPROC:-${SLURM_GPUS_ON_NODE:-1}}" \
    --max-restarts=10 \
    --rdzv_backend=c10d \
    --rdzv_endpoint="$first:$((20000 + SLURM_JOB_ID % 20000))" \
    --rdzv_id="$SLURM_JOB_ID" \
    "$@" --launcher pytorch --resume &
step=$!
wait "$step"
status=$?
# A job that is preempted was told by Slurm to save, and would end as failed if it ended now.
if ((status)) && scontrol show job "$SLURM_JOB_ID" | grep -q "PreemptTime=2"; then
    requeue
fi
exit "$status"
