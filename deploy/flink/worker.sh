#!/bin/sh
# One Python worker, as a task manager starts it (--environment_type=PROCESS): Beam's boot program,
# which asks the runner for the job's options and starts the SDK with the first `python` of PATH.
# HASHBEAM_BOOT names the boot program; where it is missing, that of Beam's images.
exec "${HASHBEAM_BOOT:-/opt/apache/beam/boot}" --semi_persist_dir="${TMPDIR:-/tmp}" "$@"
