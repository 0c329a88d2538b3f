#!/bin/bash
# Training on two machines with Slurm: sbatch examples/cluster/slurm.sh input.yml
#SBATCH --job-name=sr-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --dependency=singleton
#SBATCH --requeue

# One worker on each machine. The port must be free on all of them.
export SR_SETTINGS=$1 SR_PORT=$((20000 + SLURM_JOB_ID % 10000))

srun --kill-on-bad-exit=1 bash -c '
workers=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$SR_PORT\"/" | paste -sd,)
export TF_CONFIG="{\"cluster\": {\"worker\": [$workers]},
                   \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
exec python main.py "$SR_SETTINGS" train --distribution multi_worker --resume'
