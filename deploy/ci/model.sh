#!/bin/sh
# Release of a model, from training to an environment. The book is that of PLOOMBER_ENV_FILENAME
# (default: env.yaml).
#   train              build the book in this checkout; the gate decides, and moves no alias
#   describe           the version of finalize's receipt and the gate's decision, one name=value per line
#   export DESTINATION copy that version to DESTINATION/<digest>, and print the URI of this export; it has
#                      the holdout rows, for monitor and the gate of the target environment
#   install URI        register the export at URI in this environment's store, and promote it
set -eu
cd "${MODELBOOK_ROOT:-$(dirname "$0")/../..}"
PATH="$PWD/.venv/bin:$PATH"

describe() {
  python - <<'END'
import json
from modelbook.cli.options import find_book
root, book = find_book(None)
receipts = {stage: json.loads((root / "models" / book / f"{stage}.json").read_text()) for stage in ("finalize", "deploy")}
version = receipts["finalize"]["details"]["version"]
if receipts["deploy"]["details"]["candidate"] != version:
    raise SystemExit(f"the gate's receipt is about version {receipts['deploy']['details']['candidate']}, not {version}: build again")
print(f"version={version}\ndecision={receipts['deploy']['status']}")
END
}

read_number() { python -c 'import json, sys; print(json.load(sys.stdin)["version"])'; }

case ${1:-} in
  train) ploomber build --env--gate dry_run ;;
  describe) describe ;;
  export) modelbook export "$2" --with-rows --version "$(describe | sed -n 's/^version=//p')" ;;
  install)
    imported=$(modelbook import "$2" --json)
    version=$(printf '%s' "$imported" | read_number)
    modelbook promote "$version" --why "${WHY:-installed from its export}"
    ;;
  *) echo "model.sh train | describe | export DESTINATION | install URI" >&2; exit 2 ;;
esac
