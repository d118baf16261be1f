#!/bin/sh
# Changes of a book's last build, in Markdown: the gate's decision, and the metrics compared with
# the previous build.
#   PLOOMBER_ENV_FILENAME=env.claims.yaml deploy/ci/changes.sh
cd "${MODELBOOK_ROOT:-$(dirname "$0")/../..}" || exit 1
PATH="$PWD/.venv/bin:$PATH"
printf '## %s: decision of the gate\n\n```text\n' "${PLOOMBER_ENV_FILENAME:-env.yaml}"
modelbook history --limit 1
printf '```\n\n## Changed since the build before\n\n```text\n'
modelbook diff 2>/dev/null || modelbook runs # a first build has none before it
printf '```\n'
