#!/bin/sh
# One Python worker, as a runner starts it (--environment_type=PROCESS): Beam's boot program, which
# asks the runner for the job's options and starts the SDK with the first `python` of PATH.
# HASHBEAM_BOOT names the boot program; where it is missing, that of Beam's images.
for argument; do
  shift
  case "$argument" in
    # Prism 2.77 puts quotes around the worker's id, which are no part of it.
    --id=\'*\') argument="--id=${argument#--id=?}" && argument="${argument%?}" ;;
  esac
  set -- "$@" "$argument"
done
exec "${HASHBEAM_BOOT:-/opt/apache/beam/boot}" --semi_persist_dir="${TMPDIR:-/tmp}" "$@"
