#!/bin/sh
# GitLab's custom executor: removes the VM of a job, also after a failed prepare, in which there may be none.
set -eu

vm=gitlab-$CUSTOM_ENV_CI_JOB_ID
removed=$(maqet --format json rm "$vm" --force --delete-storage) || exit 0
entry=$(echo "$removed" | sed -n 's/.*"entry": "\([^"]*\)".*/\1/p')
[ -z "$entry" ] || maqet storage trash empty "$entry" >/dev/null
