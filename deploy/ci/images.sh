#!/bin/sh
# The images of a release. REGISTRY and TAG name them: REGISTRY/modelbook-service:TAG,
# REGISTRY/modelbook-stages:TAG.
#   build    build both from this checkout
#   check    build the sample book in the stages' image, serve it from the service's, and send a request
#   push     push both, and write release.env: each image by its digest
#   scan     look for known vulnerabilities (grype)
#   sign     sign what release.env names (cosign), and attach the service's SBOM
# Without COSIGN_KEY cosign signs with the identity of the running workflow.
set -eu
cd "$(dirname "$0")/../.."
REGISTRY=${REGISTRY:?where the images are pushed, as ghcr.io/owner/name} TAG=${TAG:?the tag of the release}
GRYPE=${GRYPE:-docker.io/anchore/grype:v0.110.0}
service=$REGISTRY/modelbook-service:$TAG stages=$REGISTRY/modelbook-stages:$TAG

build() {
  commit=$(git describe --always --exclude '*' --abbrev=10 --dirty=+) # with + for uncommitted changes
  docker build --file deploy/Dockerfile --build-arg "COMMIT=$commit" --tag "$service" .
  docker build --file deploy/stages.Dockerfile --build-arg "COMMIT=$commit" --tag "$stages" .
}

check() {
  book="--env PLOOMBER_ENV_FILENAME=env.sample.yaml --volume check-models:/book/models --volume check-data:/book/data"
  closed="--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges:true"
  trap 'docker rm --force check >/dev/null 2>&1; docker volume rm --force check-models check-data check-reports >/dev/null 2>&1' EXIT
  # Both variables hold several arguments.
  # shellcheck disable=SC2086
  docker run --rm $closed $book --volume check-reports:/book/reports "$stages" build
  # shellcheck disable=SC2086
  docker run --detach --name check $closed $book "$service"
  for _ in $(seq 60); do
    [ "$(docker inspect --format '{{.State.Health.Status}}' check)" = healthy ] && break
    sleep 1
  done
  docker exec --interactive check python - http://127.0.0.1:8000 <deploy/ci/smoke.py
}

name_by_digest() { docker inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" | grep "^${1%:*}@sha256:"; }

push() {
  docker push "$service"
  docker push "$stages"
  {
    echo "TAG=$TAG"
    echo "COMMIT=$(git rev-parse HEAD)"
    echo "SERVICE_IMAGE=$(name_by_digest "$service")"
    echo "STAGES_IMAGE=$(name_by_digest "$stages")"
  } >release.env
  cat release.env
}

# A fixable vulnerability of severity high or critical stops the release; deploy/ci/grype.yaml lists
# those that are accepted, and why. Offline an existing database is used, whatever its age; without
# one nothing is scanned, which fails with SCAN=required.
scan() {
  cache=${GRYPE_CACHE:-$PWD/.grype}
  mkdir -p "$cache"
  run_grype() {
    docker run --rm --volume "$cache:/cache" --volume "$PWD/deploy/ci/grype.yaml:/grype.yaml:ro" \
      --volume /var/run/docker.sock:/var/run/docker.sock --env GRYPE_DB_CACHE_DIR=/cache \
      --env GRYPE_DB_AUTO_UPDATE=false --env GRYPE_DB_VALIDATE_AGE=false "$GRYPE" --config /grype.yaml "$@"
  }
  run_grype db update || echo "scan: the database of vulnerabilities was not updated" >&2
  if ! run_grype db status; then
    echo "scan: there is no database of vulnerabilities, and nothing was scanned" >&2
    [ "${SCAN:-}" != required ]
    return
  fi
  for image in "$service" "$stages"; do run_grype "docker:$image" --only-fixed --fail-on high; done
}

attest() {
  cosign attest --yes ${COSIGN_KEY:+--key "$COSIGN_KEY"} --type cyclonedx --predicate "$1" "$2"
}

sign() {
  SERVICE_IMAGE=$(sed -n 's/^SERVICE_IMAGE=//p' release.env) STAGES_IMAGE=$(sed -n 's/^STAGES_IMAGE=//p' release.env)
  cosign sign --yes ${COSIGN_KEY:+--key "$COSIGN_KEY"} "$SERVICE_IMAGE" "$STAGES_IMAGE"
  attest deploy/sbom/service.cdx.json "$SERVICE_IMAGE"
  attest deploy/sbom/stages.cdx.json "$STAGES_IMAGE"
}

case ${1:-} in
  build | check | push | scan | sign) "$1" ;;
  *) echo "images.sh build | check | push | scan | sign" >&2; exit 2 ;;
esac
