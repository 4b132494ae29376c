#!/bin/sh
# GitLab's custom executor: removes the VM of a job, also after a failed prepare, in which there may be none.
set -eu

vm=gitlab-$CUSTOM_ENV_CI_JOB_ID
code=0
removed=$(maqet --format json rm "$vm" --force --delete-storage) || code=$?
case $code in
0) ;;
3) exit 0 ;; # There is none.
*) exit "$code" ;;
esac
entry=$(echo "$removed" | sed -n 's/.*"entry": "\([^"]*\)".*/\1/p')
[ -z "$entry" ] || maqet storage trash empty "$entry" >/dev/null
