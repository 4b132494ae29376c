#!/bin/sh
# GitLab's custom executor: runs one script of a job in its VM. $1 is the script, $2 the name of the stage.
set -u

vm=gitlab-$CUSTOM_ENV_CI_JOB_ID
result=$(mktemp)
trap 'rm -f "$result"' EXIT

code=0
maqet exec -i "$vm" --report "$result" -- "${MAQET_CI_SHELL:-bash}" -s <"$1" || code=$?

# A VM that ended, or an agent that is gone, is no fault of the job.
grep -Eq '"outcome": "(exited|signalled|timed-out)"' "$result" || exit "$SYSTEM_FAILURE_EXIT_CODE"
[ "$code" -eq 0 ] && exit 0
# The runner shows this code as that of the job (from version 16.6 on).
[ -z "${BUILD_EXIT_CODE_FILE:-}" ] || echo "$code" >"$BUILD_EXIT_CODE_FILE"
exit "$BUILD_FAILURE_EXIT_CODE"
