#!/bin/sh
#SBATCH --job-name=suite
#SBATCH --array=0-9
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --time=0:30:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue

result=$(mktemp)
trap 'rm -f "$result"' EXIT
maqet run suite.yaml --set "labels.slurm=$SLURM_JOB_ID" -e SLURM_ARRAY_TASK_ID --timeout 25m \
    --collect /root/results:"results-$SLURM_ARRAY_TASK_ID" --report "$result" -- ./suite "$SLURM_ARRAY_TASK_ID" &
run=$!
trap 'kill -TERM "$run"' TERM
# A signal ends the wait, and not the run.
while :; do
    wait "$run"
    code=$?
    kill -0 "$run" 2>/dev/null || break
done

# What says nothing about the suite is run again, on another node if need be, at most three times; a cancelled job is not,
# and neither is one whose program (126, 127) is missing in the guest.
if grep -Eq '"outcome": "(not-started|vm-ended|lost)"' "$result" && [ "$code" -ne 126 ] && [ "$code" -ne 127 ] &&
    [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
