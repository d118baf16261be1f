#!/bin/sh
# make sbom: the packages of environments as CycloneDX, and the licences of the service's packages.
# The same locks give the same files. Arguments: NAME=LOCK=PYTHON; a name that ends in -3.N needs
# Python 3.N.
set -eu
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

install() { # LOCK PYTHON
  "$UV" venv --quiet --clear --python "$2" "$place/$1"
  "$UV" pip install --quiet --python "$place/$1/bin/python" --no-deps --require-hashes -r "requirements/$1.txt"
}

mkdir -p deploy/sbom
for argument in "$@"; do
  name=${argument%%=*} python=${argument##*=}
  case $name in *-3.*)
    found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$found" != "${name##*-}" ]; then
      echo "$name needs Python ${name##*-}, and $python is $found: install it, then run make sbom again" >&2
      exit 1
    fi
  esac
done
install sbom "${1##*=}"
for argument in "$@"; do
  name=${argument%%=*} python=${argument##*=}
  lock=${argument#*=} lock=${lock%=*}
  install "$lock" "$python"
  "$place/sbom/bin/cyclonedx-py" environment --output-reproducible --short-PURLs --pyproject pyproject.toml \
    --output-file "deploy/sbom/$name.cdx.json" "$place/$lock/bin/python"
  rm -r "${place:?}/$lock"
  echo "deploy/sbom/$name.cdx.json"
done
"$VENV/bin/python" deploy/sbom/licences.py deploy/sbom/service.cdx.json > deploy/sbom/licences.md
echo deploy/sbom/licences.md
