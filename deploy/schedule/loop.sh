#!/bin/sh
# One iteration of the monitor-retrain cycle, for any scheduler: monitor the served predictions, and
# retrain if the verdict is retrain. Arguments are those of `modelbook monitor`; default: --since 1d.
# Exits with 0 unless one of the two commands failed.
cd "${MODELBOOK_ROOT:-$(dirname "$0")/../..}" || exit 1
PATH="$PWD/.venv/bin:$PATH"
[ $# -gt 0 ] || set -- --since 1d
modelbook monitor "$@"
case $? in
  0 | 10) ;;                 # healthy, watch: the webhook has the verdict, nothing to do
  20) modelbook retrain ;;   # the gate promotes or holds the new version
  *) exit 1 ;;
esac
