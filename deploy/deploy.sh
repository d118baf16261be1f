#!/bin/sh
# make deploy TARGET=kubernetes [OVERLAY=dev], or TARGET=ecs [STACK=modelbook]: prints the
# resources, and deploys them if there are credentials. DRY=1 only prints. RELEASE names the
# release.env of a release, whose images are deployed by digest; staging and prod require one. With
# COSIGN_IDENTITY (of the workflow that signed) or COSIGN_KEY signatures are verified first.
set -eu
cd "$(dirname "$0")/.."

stop() { echo "deploy: $1" >&2; echo "  next: $2" >&2; exit 1; }
dry() { echo "dry run, nothing was changed: $1"; exit 0; }
released() { sed -n "s/^$1=//p" "$RELEASE"; }

read_release() {
  [ -n "${RELEASE:-}" ] || return 0
  [ -f "$RELEASE" ] || stop "there is no $RELEASE" "download it: gh release download TAG --pattern release.env"
  SERVICE_IMAGE=$(released SERVICE_IMAGE) STAGES_IMAGE=$(released STAGES_IMAGE)
  for image in "$SERVICE_IMAGE" "$STAGES_IMAGE"; do
    case $image in
      *@sha256:*) ;;
      *) stop "$RELEASE names ${image:-no image}, which has no digest" "take the release.env that images.sh push wrote" ;;
    esac
  done
  echo "release $(released TAG), commit $(released COMMIT)"
}

verify() { # before anything is changed
  [ -n "${RELEASE:-}" ] || return 0
  if [ -n "${COSIGN_KEY:-}" ]; then
    set -- --key "$COSIGN_KEY"
  elif [ -n "${COSIGN_IDENTITY:-}" ]; then
    set -- --certificate-identity "$COSIGN_IDENTITY" \
      --certificate-oidc-issuer "${COSIGN_ISSUER:-https://token.actions.githubusercontent.com}"
  else
    echo "signatures were not verified: neither COSIGN_KEY nor COSIGN_IDENTITY is set"
    return 0
  fi
  cosign verify "$@" "$SERVICE_IMAGE" "$STAGES_IMAGE" >/dev/null || stop "an image is not signed by what was expected" \
    "see the line above; correct COSIGN_KEY or COSIGN_IDENTITY, or release again"
}

pin_images() { # a kustomization of the overlay with the release's images; kustomize requires it inside the project
  pinned=$(mktemp -d deploy/kubernetes/release.XXXXXX)
  trap 'rm -rf "$pinned"' EXIT
  {
    echo "resources: [../overlays/${OVERLAY:-dev}]"
    echo "images:"
    for name in modelbook-service modelbook-stages; do
      image=$SERVICE_IMAGE
      [ $name = modelbook-service ] || image=$STAGES_IMAGE
      echo "  - {name: $name, newName: ${image%@*}, digest: ${image#*@}}"
    done
  } >"$pinned/kustomization.yaml"
}

kubernetes() {
  overlay=deploy/kubernetes/overlays/${OVERLAY:-dev}
  [ -d "$overlay" ] || stop "there is no $overlay" "OVERLAY=$(ls deploy/kubernetes/overlays | paste -sd '|' -)"
  command -v kubectl >/dev/null || stop "there is no kubectl" "install it: https://kubernetes.io/docs/tasks/tools/"
  read_release
  pinned=$overlay
  [ -z "${RELEASE:-}" ] || pin_images
  kubectl kustomize "$pinned" | awk '/^kind:/ {kind = $2} /^  name:/ {print "  " kind, $2} /^ +(- )?image:/ {print "    " $NF}'
  [ -z "${DRY:-}" ] || dry "DRY is set"
  context=$(kubectl config current-context 2>/dev/null) || dry "kubectl has no cluster; next: kubectl config use-context NAME"
  wanted=$(cat "$overlay/context")
  [ "$context" = "$wanted" ] || stop "the context is $context, and the overlay ${OVERLAY:-dev} is for $wanted" \
    "kubectl config use-context $wanted; another name of that cluster goes into $overlay/context"
  [ -n "${RELEASE:-}" ] || [ "${OVERLAY:-dev}" = dev ] || stop "the overlay $OVERLAY is deployed from a release" \
    "gh release download TAG --pattern release.env, then RELEASE=release.env"
  verify
  kubectl get --raw /readyz --request-timeout=10s >/dev/null || stop "the cluster of the context $context does not respond" \
    "see the line above; kubectl config get-contexts lists the others"
  echo "to the cluster of the context $context"
  kubectl apply -k "$pinned"
  kubectl -n "modelbook-${OVERLAY:-dev}" rollout status deployment/modelbook --timeout=300s
}

ecs() {
  template=deploy/ecs/service.yaml given=${PARAMETERS:-deploy/ecs/parameters} stack=${STACK:-modelbook}
  read_release
  awk '/^  [A-Za-z]+:/ {name = substr($1, 1, length($1) - 1)} /^    Type: AWS::/ {print "  " name, $2}' "$template"
  [ -z "${DRY:-}" ] || dry "DRY is set"
  command -v aws >/dev/null || dry "there is no aws; next: install the AWS CLI"
  who=$(aws sts get-caller-identity --query Arn --output text 2>&1) || case $who in
    *"locate credentials"*) dry "aws has no credentials; next: aws configure" ;;
    *) stop "$who" "see whether the credentials are still good: aws sts get-caller-identity" ;;
  esac
  [ -f "$given" ] || stop "there is no $given" "write it, one Name=value a line: docs/deploy/ecs.md"
  verify
  echo "to the stack $stack, as $who"
  images=
  [ -z "${RELEASE:-}" ] || images="ServiceImage=$SERVICE_IMAGE StagesImage=$STAGES_IMAGE"
  # Each line and each image is one argument; none contains a space.
  # shellcheck disable=SC2046,SC2086
  aws cloudformation deploy --stack-name "$stack" --template-file "$template" --capabilities CAPABILITY_IAM \
    --no-fail-on-empty-changeset --parameter-overrides \
    $(grep -v -e '^#' ${images:+-e '^ServiceImage=' -e '^StagesImage='} "$given") $images
  aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].Outputs[].[OutputKey,OutputValue]' --output text
}

case ${TARGET:-} in
  kubernetes | ecs) $TARGET ;;
  *) stop "TARGET=${TARGET:-} is no target" "make deploy TARGET=kubernetes|ecs" ;;
esac
