#!/bin/sh
# GitLab's custom executor: starts the VM of a job.
set -eu

vm=gitlab-$CUSTOM_ENV_CI_JOB_ID
# A definition of the runner: a job chooses among those, and does not write its own.
definition=${MAQET_CI_DEFINITIONS:-/etc/maqet-ci}/${CUSTOM_ENV_CI_JOB_IMAGE:-default}.yaml
case $definition in
*/../*) exit "$SYSTEM_FAILURE_EXIT_CODE" ;;
esac

if ! maqet add "$definition" --name "$vm" >&2 ||
    ! maqet start "$vm" --wait agent --timeout "${MAQET_CI_BOOT_TIMEOUT:-5m}" >&2; then
    maqet logs "$vm" --lines 20 >&2 || true
    exit "$SYSTEM_FAILURE_EXIT_CODE"
fi
