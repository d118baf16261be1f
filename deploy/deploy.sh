#!/bin/sh
# make deploy TARGET=kubernetes [OVERLAY=dev], or TARGET=ecs [STACK=modelbook]: shows what it would do, and where there are
# credentials does it. DRY=1 only shows it.
set -eu
cd "$(dirname "$0")/.."

stop() { echo "deploy: $1" >&2; echo "  next: $2" >&2; exit 1; }
dry() { echo "dry run, nothing was changed: $1"; exit 0; }

kubernetes() {
  overlay=deploy/kubernetes/overlays/${OVERLAY:-dev}
  [ -d "$overlay" ] || stop "there is no $overlay" "OVERLAY=$(ls deploy/kubernetes/overlays | paste -sd '|' -)"
  command -v kubectl >/dev/null || stop "there is no kubectl" "install it: https://kubernetes.io/docs/tasks/tools/"
  kubectl kustomize "$overlay" | awk '/^kind:/ {kind = $2} /^  name:/ {print "  " kind, $2} /^ +image:/ {print "    " $2}'
  [ -z "${DRY:-}" ] || dry "DRY is set"
  context=$(kubectl config current-context 2>/dev/null) || dry "kubectl has no cluster; next: kubectl config use-context NAME"
  kubectl get --raw /readyz --request-timeout=10s >/dev/null || stop "the cluster of the context $context does not answer" \
    "see the line above; kubectl config get-contexts lists the others"
  echo "to the cluster of the context $context"
  kubectl apply -k "$overlay"
  kubectl -n "modelbook-${OVERLAY:-dev}" rollout status deployment/modelbook --timeout=300s
}

ecs() {
  template=deploy/ecs/service.yaml given=deploy/ecs/parameters stack=${STACK:-modelbook}
  awk '/^  [A-Za-z]+:/ {name = substr($1, 1, length($1) - 1)} /^    Type: AWS::/ {print "  " name, $2}' "$template"
  [ -z "${DRY:-}" ] || dry "DRY is set"
  command -v aws >/dev/null || dry "there is no aws; next: install the AWS CLI"
  who=$(aws sts get-caller-identity --query Arn --output text 2>&1) || case $who in
    *"locate credentials"*) dry "aws has no credentials; next: aws configure" ;;
    *) stop "$who" "see whether the credentials are still good: aws sts get-caller-identity" ;;
  esac
  [ -f "$given" ] || stop "there is no $given" "write it, one Name=value a line: docs/deploy/ecs.md"
  echo "to the stack $stack, as $who"
  # Each line is one word of the command; none holds a space.
  # shellcheck disable=SC2046
  aws cloudformation deploy --stack-name "$stack" --template-file "$template" --capabilities CAPABILITY_IAM \
    --no-fail-on-empty-changeset --parameter-overrides $(grep -v '^#' "$given")
  aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].Outputs[].[OutputKey,OutputValue]' --output text
}

case ${TARGET:-} in
  kubernetes | ecs) $TARGET ;;
  *) stop "TARGET=${TARGET:-} is no target" "make deploy TARGET=kubernetes|ecs" ;;
esac
