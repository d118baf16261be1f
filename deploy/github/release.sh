#!/bin/sh
# A release in two steps. train: build the book, where the gate only says what it thinks. promote V: let a person's yes
# carry that out; `modelbook promote` refuses a version that the gate held. version: the one that was trained.
set -eu
cd "${MODELBOOK_ROOT:-$(dirname "$0")/../..}"
PATH="$PWD/.venv/bin:$PATH"
case ${1:-} in
  train) ploomber build --env--gate dry_run ;;
  version) modelbook history --limit 1 --json | python -c 'import json, sys; print("version=" + str(json.load(sys.stdin)[0]["version"]))' ;;
  promote) modelbook promote "$2" --why "released" ;;
  *) echo "release.sh train | version | promote V" >&2; exit 2 ;;
esac
