#!/bin/sh
# What the last build came to, in Markdown: what the gate decided, and what changed since the build before.
cd "${MODELBOOK_ROOT:-$(dirname "$0")/../..}" || exit 1
PATH="$PWD/.venv/bin:$PATH"
echo "## What the gate decided"
printf '\n```text\n'
modelbook history --limit 1
printf '```\n\n## What changed since the build before\n\n```text\n'
modelbook diff 2>/dev/null || modelbook runs # a first build has none before it
printf '```\n'
