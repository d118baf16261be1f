"""make deploy: dry run without credentials, Kubernetes and ECS."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import servers
import yaml
from small_project import BIN, ROOT
from text_facts import missing_facts

KUBECTL = """case "$*" in
  "kustomize "*) cat {manifests}; cat "$2/kustomization.yaml" >> {manifests}.seen ;;
  "config current-context") {context} ;;
  "get --raw /readyz"*) {ready} ;;
  *) echo "kubectl $*" ;;
esac"""
AWS = """case "$*" in
  "sts get-caller-identity"*) {identity} ;;
  *) echo "aws $*" ;;
esac"""
IMAGE = "registry.example.com/modelbook-service:1"
MANIFESTS = f"kind: Deployment\nmetadata:\n  name: modelbook\nspec:\n      - args: []\n        image: {IMAGE}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(
        ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("parameters", "key")
    )
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "manifests").write_text(MANIFESTS)
    (tmp_path / "bin").mkdir()
    for name in (
        "sh",
        "dirname",
        "cat",
        "awk",
        "ls",
        "paste",
        "grep",
        "make",
        "mktemp",
        "rm",
        "sed",
    ):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def command(project: Path, name: str, script: str) -> None:
    path = project / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def kubectl(project: Path, context: str = "echo modelbook-dev", ready: str = "true") -> None:
    command(
        project,
        "kubectl",
        KUBECTL.format(manifests=project / "manifests", context=context, ready=ready),
    )


def deploy(project: Path, *args: str) -> tuple[int, str, str]:
    result = subprocess.run(
        ["make", "-s", "deploy", *args],
        cwd=project,
        env={
            "PATH": str(project / "bin"),
            **{name: os.environ[name] for name in os.environ if name.startswith("COSIGN_")},
        },
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout, result.stderr


def test_unknown_overlay_is_rejected(project):
    code, _, result = deploy(project, "TARGET=moon")
    assert code != 0
    assert "TARGET=moon" in result
    assert "make deploy TARGET=kubernetes|ecs" in result
    kubectl(project)
    code, _, result = deploy(project, "TARGET=kubernetes", "OVERLAY=moon")
    assert code != 0
    assert "deploy/kubernetes/overlays/moon" in result
    assert "OVERLAY=dev|prod|staging" in result


@pytest.mark.parametrize(
    ("context", "args", "message"),
    [("exit 1", (), "kubectl"), ("echo modelbook-dev", ("DRY=1",), "DRY")], ids=["no cluster", "DRY"],
)  # fmt: skip
def test_deploy_without_cluster_prints_rendered_manifests(project, context, args, message):
    kubectl(project, context)
    code, result, _ = deploy(project, "TARGET=kubernetes", *args)
    assert code == 0
    assert re.search(rf"Deployment modelbook\n +{IMAGE}\ndry run\b.*\b{message}\b", result)
    assert "apply" not in result


DIGESTS = [f"sha256:{digit * 64}" for digit in "ab"]


@pytest.fixture
def release(project: Path) -> Path:
    """The file that a release has, in the project's folder."""
    lines = ["TAG=v1.2.0", "COMMIT=c0ffee"]
    lines += [
        f"{name}=ghcr.io/me/book/{image}@{digest}"
        for name, image, digest in zip(
            ("SERVICE_IMAGE", "STAGES_IMAGE"), ("modelbook-service", "modelbook-stages"), DIGESTS
        )
    ]
    (project / "release.env").write_text("\n".join(lines) + "\n")
    return project / "release.env"


def test_deploy_applies_release_images_and_waits(project, release):
    kubectl(project, context="echo modelbook-prod")
    args = ["TARGET=kubernetes", "OVERLAY=prod", "RELEASE=release.env"]
    code, result, error = deploy(project, *args)
    assert code == 0, error
    *_, cluster, applied, waited = result.splitlines()
    assert "modelbook-prod" in cluster.split()
    assert re.fullmatch(r"kubectl apply -k deploy/kubernetes/release\.\w+", applied)
    assert waited == (
        "kubectl -n modelbook-prod rollout status deployment/modelbook --timeout=300s"
    )
    pinned = yaml.safe_load((project / "manifests.seen").read_text())
    assert pinned["resources"] == ["../overlays/prod"]
    assert [image["digest"] for image in pinned["images"]] == DIGESTS
    assert {image["newName"] for image in pinned["images"]} == {
        "ghcr.io/me/book/modelbook-service", "ghcr.io/me/book/modelbook-stages"
    }  # fmt: skip
    assert not list((project / "deploy/kubernetes").glob("release.*"))


@pytest.mark.parametrize(
    ("context", "args", "expected"),
    [
        ("modelbook-dev", ["RELEASE=release.env"], ["modelbook-dev", "modelbook-prod"]),
        ("modelbook-prod", [], ["RELEASE=release.env"]),
        ("modelbook-prod", ["RELEASE=absent.env"], ["absent.env"]),
        ("modelbook-prod", ["RELEASE=tag.env"], ["book/modelbook-service:1"]),
    ],
)
def test_other_context_or_image_without_digest_is_rejected(
    project, release, context, args, expected
):
    kubectl(project, context=f"echo {context}")
    (project / "tag.env").write_text("SERVICE_IMAGE=book/modelbook-service:1\n")
    code, result, error = deploy(project, "TARGET=kubernetes", "OVERLAY=prod", *args)
    assert code != 0
    assert missing_facts(error, *expected) == []
    assert "apply" not in result


@pytest.mark.parametrize("signed", [True, False])
def test_signatures_are_verified_before_applying(project, release, signed, monkeypatch):
    kubectl(project, context="echo modelbook-prod")
    command(project, "cosign", f'echo "$*" > {project}/verified; exit {int(not signed)}')
    monkeypatch.setenv("COSIGN_IDENTITY", "https://github.com/me/book/release.yml@refs/tags/v1")
    args = ["TARGET=kubernetes", "OVERLAY=prod", "RELEASE=release.env"]
    code, result, _ = deploy(project, *args)
    assert ((code == 0), ("apply" in result)) == (signed, signed)
    verified = (project / "verified").read_text().split()
    assert verified[verified.index("--certificate-identity") + 1].endswith("@refs/tags/v1")
    assert [image.rpartition("@")[2] for image in verified[-2:]] == DIGESTS


def test_unreachable_cluster_is_reported(project):
    kubectl(project, ready="exit 1")
    code, result, error = deploy(project, "TARGET=kubernetes")
    assert code != 0
    assert "modelbook-dev" in error.split()
    assert "apply" not in result


def test_deploy_without_credentials_is_a_dry_run_listing_resources(project):
    code, result, _ = deploy(project, "TARGET=ecs")
    assert code == 0
    assert "  Service AWS::ECS::Service\n" in result
    assert re.search(r"^dry run\b.*\baws\b", result, re.M)
    command(project, "aws", AWS.format(identity="echo Unable to locate credentials >&2; exit 255"))
    code, result, _ = deploy(project, "TARGET=ecs")
    assert code == 0
    assert re.search(r"^dry run\b.*\baws\b.*credentials", result, re.M)
    assert "aws cloudformation" not in result


def test_rejected_credentials_are_reported(project):
    command(project, "aws", AWS.format(identity="echo The security token is expired >&2; exit 255"))
    code, result, error = deploy(project, "TARGET=ecs")
    assert code != 0
    assert "The security token is expired" in error
    assert "aws cloudformation" not in result


def test_deploy_creates_stack_with_parameters(project):
    command(project, "aws", AWS.format(identity="echo arn:aws:iam::1:user/me"))
    code, _, error = deploy(project, "TARGET=ecs")
    assert code != 0
    assert "deploy/ecs/parameters" in error
    (project / "deploy/ecs/parameters").write_text("# ours\nVpc=vpc-1\nLeast=3\n")
    code, result, _ = deploy(project, "TARGET=ecs", "STACK=book")
    assert code == 0
    assert re.search(r"\bbook\b.*arn:aws:iam::1:user/me", result)
    assert "--template-file deploy/ecs/service.yaml" in result
    assert "--parameter-overrides Vpc=vpc-1 Least=3\n" in result


def test_stack_uses_images_of_release(project, release):
    command(project, "aws", AWS.format(identity="echo arn:aws:iam::1:user/me"))
    (project / "ours").write_text("Vpc=vpc-1\nServiceImage=book/modelbook-service:1\n")
    args = ["TARGET=ecs", "PARAMETERS=ours", "RELEASE=release.env"]
    code, result, error = deploy(project, *args)
    assert code == 0, error
    overrides = re.search(r"--parameter-overrides (.+)", result)[1].split()
    assert overrides[0] == "Vpc=vpc-1"
    assert [override.rpartition("@")[2] for override in overrides[1:]] == DIGESTS


@pytest.fixture
def aws(tmp_path: Path) -> Path:
    """Folder of the AWS CLI, installed in its own environment."""
    uv, folder = [BIN / "uv", "--quiet"], tmp_path / "aws"
    subprocess.run([*uv, "venv", "--python", sys.executable, folder], check=True)
    command = [
        "pip",
        "install",
        "--python",
        folder / "bin/python",
        "--exclude-newer",
        "2026-06-20",
        "awscli",
    ]
    subprocess.run([*uv, *command], check=True)
    return folder / "bin"


@pytest.mark.integration
def test_aws_cli_creates_stack_on_moto(project, aws, monkeypatch):
    import boto3

    with servers.simulated_aws() as address:
        access = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL": address,
        }
        for name, value in (access | {"AWS_DEFAULT_REGION": "eu-central-1"}).items():
            monkeypatch.setenv(name, value)
        ec2 = boto3.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        (
            stack_name,
            two,
        ) = (  # in different zones: moto draws zones at random, possibly the same twice
            ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone)["Subnet"][
                "SubnetId"
            ]
            for cidr, zone in (("10.0.1.0/24", "eu-central-1a"), ("10.0.2.0/24", "eu-central-1b"))
        )
        inputs = {
            "Vpc": vpc, "SubnetA": stack_name, "SubnetB": two, "JournalUrl": "postgresql+psycopg://modelbook@db/journal",
            "Certificate": boto3.client("acm").request_certificate(DomainName="book.example.com")["CertificateArn"],
            "ServiceImage": "modelbook-service:1", "StagesImage": "modelbook-stages:1",
            "JournalPassword": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:p",
            "Keyring": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:k",
            "MetricsKey": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:m",
            "Webhook": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:w",
            "AlarmTopic": boto3.client("sns").create_topic(Name="alarms")["TopicArn"],
        }  # fmt: skip
        (project / "deploy/ecs/parameters").write_text(
            "".join(f"{key}={value}\n" for key, value in inputs.items())
        )
        command = ["make", "-s", "deploy", "TARGET=ecs"]
        result = subprocess.run(
            command,
            cwd=project,
            env={**os.environ, "PATH": f"{aws}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        [cluster] = boto3.client("ecs").list_clusters()["clusterArns"]
        assert len(boto3.client("ecs").list_services(cluster=cluster)["serviceArns"]) == 1
