"""`make deploy`: a dry run until there are credentials, and then it does what it has shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import BIN, ROOT

KUBECTL = """case "$*" in
  "kustomize "*) cat {manifests} ;;
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
    for name in ("sh", "dirname", "cat", "awk", "ls", "paste", "grep", "make"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def command(project: Path, name: str, script: str) -> None:
    path = project / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def kubectl(project: Path, context: str = "echo here", ready: str = "true") -> None:
    command(
        project,
        "kubectl",
        KUBECTL.format(manifests=project / "manifests", context=context, ready=ready),
    )


def deploy(project: Path, *words: str) -> tuple[int, str, str]:
    told = subprocess.run(
        ["make", "-s", "deploy", *words],
        cwd=project,
        env={"PATH": str(project / "bin")},
        capture_output=True,
        text=True,
    )
    return told.returncode, told.stdout, told.stderr


def test_a_target_that_is_none_is_refused(project):
    code, _, told = deploy(project, "TARGET=moon")
    assert code != 0
    assert "TARGET=moon" in told
    assert "make deploy TARGET=kubernetes|ecs" in told
    kubectl(project)
    code, _, told = deploy(project, "TARGET=kubernetes", "OVERLAY=moon")
    assert code != 0
    assert "deploy/kubernetes/overlays/moon" in told
    assert "OVERLAY=dev|prod|staging" in told


@pytest.mark.parametrize(
    ("context", "words", "why"),
    [("exit 1", (), "kubectl"), ("echo here", ("DRY=1",), "DRY")], ids=["no cluster", "DRY"],
)  # fmt: skip
def test_without_a_cluster_it_shows_what_would_be_applied(project, context, words, why):
    kubectl(project, context)
    code, told, _ = deploy(project, "TARGET=kubernetes", *words)
    assert code == 0
    assert re.search(rf"Deployment modelbook\n +{IMAGE}\ndry run\b.*\b{why}\b", told)
    assert "apply" not in told


def test_with_a_cluster_it_applies_the_overlay_and_waits(project):
    kubectl(project)
    code, told, _ = deploy(project, "TARGET=kubernetes", "OVERLAY=prod")
    assert code == 0
    assert "here" in told.splitlines()[-3].split()
    assert told.splitlines()[-2:] == [
        "kubectl apply -k deploy/kubernetes/overlays/prod",
        "kubectl -n modelbook-prod rollout status deployment/modelbook --timeout=300s",
    ]


def test_a_cluster_that_does_not_answer_is_told(project):
    kubectl(project, ready="exit 1")
    code, told, error = deploy(project, "TARGET=kubernetes")
    assert code != 0
    assert "here" in error.split()
    assert "apply" not in told


def test_without_credentials_it_shows_what_the_template_makes(project):
    code, told, _ = deploy(project, "TARGET=ecs")
    assert code == 0
    assert "  Service AWS::ECS::Service\n" in told
    assert re.search(r"^dry run\b.*\baws\b", told, re.M)
    command(project, "aws", AWS.format(identity="echo Unable to locate credentials >&2; exit 255"))
    code, told, _ = deploy(project, "TARGET=ecs")
    assert code == 0
    assert re.search(r"^dry run\b.*\baws\b.*credentials", told, re.M)
    assert "aws cloudformation" not in told


def test_credentials_that_are_refused_are_told(project):
    command(project, "aws", AWS.format(identity="echo The security token is expired >&2; exit 255"))
    code, told, error = deploy(project, "TARGET=ecs")
    assert code != 0
    assert "The security token is expired" in error
    assert "aws cloudformation" not in told


def test_with_credentials_it_deploys_the_stack_with_its_parameters(project):
    command(project, "aws", AWS.format(identity="echo arn:aws:iam::1:user/me"))
    code, _, error = deploy(project, "TARGET=ecs")
    assert code != 0
    assert "deploy/ecs/parameters" in error
    (project / "deploy/ecs/parameters").write_text("# ours\nVpc=vpc-1\nLeast=3\n")
    code, told, _ = deploy(project, "TARGET=ecs", "STACK=book")
    assert code == 0
    assert re.search(r"\bbook\b.*arn:aws:iam::1:user/me", told)
    assert "--template-file deploy/ecs/service.yaml" in told
    assert "--parameter-overrides Vpc=vpc-1 Least=3\n" in told


@pytest.fixture
def aws(tmp_path: Path) -> Path:
    """The folder of the AWS CLI's command, installed in an environment of its own."""
    uv, place = [BIN / "uv", "--quiet"], tmp_path / "aws"
    subprocess.run([*uv, "venv", "--python", sys.executable, place], check=True)
    words = [
        "pip",
        "install",
        "--python",
        place / "bin/python",
        "--exclude-newer",
        "2026-06-20",
        "awscli",
    ]
    subprocess.run([*uv, *words], check=True)
    return place / "bin"


@pytest.mark.integration
def test_the_real_aws_makes_the_stack_on_a_cloud_for_tests(project, aws, monkeypatch):
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
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
            one,
            two,
        ) = (  # in zones of their own: the cloud for tests draws one where none is named, and may draw it twice
            ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone)["Subnet"][
                "SubnetId"
            ]
            for cidr, zone in (("10.0.1.0/24", "eu-central-1a"), ("10.0.2.0/24", "eu-central-1b"))
        )
        given = {
            "Vpc": vpc, "SubnetA": one, "SubnetB": two, "JournalUrl": "postgresql+psycopg://modelbook@db/journal",
            "Certificate": boto3.client("acm").request_certificate(DomainName="book.example.com")["CertificateArn"],
            "ServiceImage": "modelbook-service:1", "StagesImage": "modelbook-stages:1",
            "JournalPassword": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:p",
            "Keyring": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:k",
        }  # fmt: skip
        (project / "deploy/ecs/parameters").write_text(
            "".join(f"{key}={value}\n" for key, value in given.items())
        )
        words = ["make", "-s", "deploy", "TARGET=ecs"]
        told = subprocess.run(
            words,
            cwd=project,
            env={**os.environ, "PATH": f"{aws}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        [cluster] = boto3.client("ecs").list_clusters()["clusterArns"]
        assert len(boto3.client("ecs").list_services(cluster=cluster)["serviceArns"]) == 1
    finally:
        server.stop()
