#!/bin/sh
# One turn of the loop, for whatever runs things by the clock: judge what was served, and retrain
# where monitor asks for it. Words are those of `modelbook monitor`; none: --since 1d. Exits 0
# unless one of the two commands failed.
cd "${MODELBOOK_ROOT:-$(dirname "$0")/../..}" || exit 1
PATH="$PWD/.venv/bin:$PATH"
[ $# -gt 0 ] || set -- --since 1d
modelbook monitor "$@"
case $? in
  0 | 10) ;;                 # healthy, watch: the verdict is told, and there is nothing to do
  20) modelbook retrain ;;   # the gate decides what comes of it
  *) exit 1 ;;
esac
