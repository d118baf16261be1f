#!/bin/sh
# Batch scoring, for any scheduler: scores the rows of a day, SCORE_IN/DAY, to SCORE_OUT/DAY, both
# folders or URIs such as s3://lake/rows, with SCORE_MODEL (default: champion); SCORE_JOURNAL=1
# journals the predictions. Counts of scored and rejected rows, and drift, are written to
# reports/scored-DAY.json. Argument: the day (default: today, UTC). A day that was scored before is
# refused.
set -eu
cd "${MODELBOOK_ROOT:-$(dirname "$0")/../..}"
PATH="$PWD/.venv/bin:$PATH"
day=${1:-$(date -u +%F)}
if [ -z "${SCORE_IN:-}" ] || [ -z "${SCORE_OUT:-}" ]; then
  echo "SCORE_IN or SCORE_OUT is empty: there is nothing to score"
  exit 0
fi
exec modelbook score "$SCORE_IN/$day" "$SCORE_OUT/$day" --model "${SCORE_MODEL:-champion}" \
  ${SCORE_JOURNAL:+--journal} --report "reports/scored-$day.json" --json
