#!/bin/sh
# make sbom: what requirements/serve.txt installs, as CycloneDX and as a list of licences. The same lock gives the same files.
set -eu
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for name in serve sbom; do
  "$UV" venv --quiet --python "$VENV/bin/python" "$place/$name"
  "$UV" pip install --quiet --python "$place/$name/bin/python" --require-hashes -r "requirements/$name.txt"
done
mkdir -p deploy/sbom
"$place/sbom/bin/cyclonedx-py" environment --output-reproducible --short-PURLs --pyproject pyproject.toml \
  --output-file deploy/sbom/service.cdx.json "$place/serve/bin/python"
"$VENV/bin/python" deploy/sbom/licences.py deploy/sbom/service.cdx.json > deploy/sbom/licences.md
echo "deploy/sbom/service.cdx.json deploy/sbom/licences.md"
