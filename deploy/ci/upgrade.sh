#!/bin/sh
# Regenerate the locks with the newest versions that pyproject.toml allows, run the suite and
# pip-audit, and open a pull request, which lists failures. Requires gh, and GH_TOKEN and
# GITHUB_REPOSITORY of a workflow.
set -eu
cd "${MODELBOOK_ROOT:-$(dirname "$0")/../..}"
branch=upgrade-locks
make lock LOCK=--upgrade
if git diff --quiet -- requirements; then
  echo "The locks are as new as pyproject.toml allows."
  exit 0
fi
make sbom
tests=passed
{ make test && make test-oldest; } >upgrade.log 2>&1 || tests=failed
audit=$(for lock in serve extras; do
  .venv/bin/uvx pip-audit --disable-pip --require-hashes --requirement "requirements/$lock.txt" 2>&1 || true
done)
{
  echo "Tests: $tests"
  printf '\n```diff\n%s\n```\n' "$(git diff --unified=0 -- requirements/test.txt | grep -E '^[-+][a-z0-9]' | sed 's/ *\\$//')"
  printf '\n## pip-audit\n\n```text\n%s\n```\n' "$audit"
  [ $tests = passed ] || printf '\n## Tests\n\n```text\n%s\n```\n' "$(tail -n 40 upgrade.log)"
} >upgrade.md
git switch --quiet --force-create $branch
git -c user.name=upgrade -c user.email=upgrade@localhost commit --quiet --message "Upgrade the locks" -- requirements deploy/sbom
git push --quiet --force "https://x-access-token:$GH_TOKEN@github.com/$GITHUB_REPOSITORY" HEAD:refs/heads/$branch
gh pr create --head $branch --title "Upgrade the locks (tests $tests)" --body-file upgrade.md ||
  gh pr edit $branch --title "Upgrade the locks (tests $tests)" --body-file upgrade.md
[ $tests = passed ]
