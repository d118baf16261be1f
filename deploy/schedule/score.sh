#!/bin/sh
# Batch scoring, for whatever runs things by the clock: the rows of a day, SCORE_IN/DAY, to
# SCORE_OUT/DAY, both folders or addresses such as s3://lake/rows, by SCORE_MODEL (default:
# champion); with SCORE_JOURNAL=1 the predictions are journaled. What was scored, rejected and has
# drifted goes to reports/scored-DAY.json. Words: the day (default: today, UTC). A day that was
# scored before is refused.
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
