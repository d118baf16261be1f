#!/bin/sh
# make sbom: what the images install, as CycloneDX, and the licences of the service's packages. The
# same locks give the same files. PYTHON is that of the images' base.
set -eu
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
for name in serve extras sbom; do
  "$UV" venv --quiet --python "$PYTHON" "$place/$name"
  "$UV" pip install --quiet --python "$place/$name/bin/python" --no-deps --require-hashes -r "requirements/$name.txt"
done
mkdir -p deploy/sbom
for image in service:serve stages:extras; do
  "$place/sbom/bin/cyclonedx-py" environment --output-reproducible --short-PURLs --pyproject pyproject.toml \
    --output-file "deploy/sbom/${image%:*}.cdx.json" "$place/${image#*:}/bin/python"
done
"$VENV/bin/python" deploy/sbom/licences.py deploy/sbom/service.cdx.json > deploy/sbom/licences.md
echo "deploy/sbom/service.cdx.json deploy/sbom/stages.cdx.json deploy/sbom/licences.md"
