"""CloudFormation template for AWS ECS: lint, permissions, and the stack on moto."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from small_project import BIN, ROOT

from modelbook.serving.settings import load_settings

TEMPLATE = ROOT / "deploy/ecs/service.yaml"


class PlainLoader(yaml.SafeLoader):
    """Reads ``!Ref x`` as ``{"Ref": x}``, and so on."""


def _short(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    read = {"scalar": loader.construct_scalar, "sequence": loader.construct_sequence}[node.id]
    return {suffix: read(node, deep=True) if node.id == "sequence" else read(node)}


PlainLoader.add_multi_constructor("!", _short)
RESOURCES = yaml.load(TEMPLATE.read_text(), PlainLoader)["Resources"]


def find_resources(resource_type: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == resource_type
    }


@pytest.mark.slow
def test_template_passes_cfn_lint():
    result = subprocess.run([BIN / "cfn-lint", TEMPLATE], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_no_role_has_wildcard_permissions():
    roles = find_resources("AWS::IAM::Role")
    assert roles.keys() == {"Execution", "Reader", "Writer", "Clock"}
    for name, role in roles.items():
        assert "ManagedPolicyArns" not in role
        for statement in (
            s for policy in role["Policies"] for s in policy["PolicyDocument"]["Statement"]
        ):
            actions = (
                statement["Action"]
                if isinstance(statement["Action"], list)
                else [statement["Action"]]
            )
            assert not any("*" in action for action in actions), name
            assert statement["Resource"] != "*" or actions == ["ecr:GetAuthorizationToken"], name
    secrets = [
        s
        for s in roles["Execution"]["Policies"][0]["PolicyDocument"]["Statement"]
        if "secrets" in s["Action"]
    ]
    assert [statement["Resource"] for statement in secrets] == [
        [{"Ref": name} for name in ("JournalPassword", "Keyring", "MetricsKey", "Webhook")]
    ]


def test_containers_are_read_only_and_secrets_are_references():
    for task in find_resources("AWS::ECS::TaskDefinition").values():
        main_container, *collector = task["ContainerDefinitions"]
        for container in [main_container, *collector]:
            assert container["ReadonlyRootFilesystem"] is True
            assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
        assert {mount["SourceVolume"] for mount in main_container["MountPoints"]} == {
            entry["Name"] for entry in task["Volumes"]
        }
        assert {entry["Name"] for entry in main_container["Environment"]}.isdisjoint(
            {"PGPASSWORD", "MODELBOOK_KEYRING"}
        )
        assert all("Ref" in entry["ValueFrom"] for entry in main_container["Secrets"])
    [listener] = find_resources("AWS::ElasticLoadBalancingV2::Listener").values()
    assert (listener["Protocol"], listener["Port"]) == ("HTTPS", 443)
    [targets] = find_resources("AWS::ElasticLoadBalancingV2::TargetGroup").values()
    assert targets["HealthCheckPath"] == "/health/ready"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The template carried out by moto; gives a maker of clients."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        session = boto3.Session(region_name="eu-central-1")
        ec2, secrets = session.client("ec2"), session.client("secretsmanager")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(
                VpcId=vpc, CidrBlock=f"10.0.{i}.0/24", AvailabilityZone=f"eu-central-1{zone}"
            )
            for i, zone in enumerate("ab")
        ]
        inputs = {
            "Vpc": vpc, "SubnetA": subnets[0]["Subnet"]["SubnetId"], "SubnetB": subnets[1]["Subnet"]["SubnetId"],
            "Certificate": session.client("acm").request_certificate(DomainName="book.example.com")["CertificateArn"],
            "ServiceImage": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/modelbook-service:1",
            "StagesImage": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/modelbook-stages:1",
            "JournalUrl": "postgresql+psycopg://modelbook@db.example.com/journal",
            "JournalPassword": secrets.create_secret(Name="password", SecretString="not to be seen")["ARN"],
            "Keyring": secrets.create_secret(Name="keyring", SecretString="[]")["ARN"],
            "MetricsKey": secrets.create_secret(Name="metrics", SecretString="k")["ARN"],
            "StreamUrl": secrets.create_secret(Name="stream", SecretString="redis://r")["ARN"],
            "Webhook": secrets.create_secret(Name="webhook", SecretString="https://h")["ARN"],
            "AlarmTopic": session.client("sns").create_topic(Name="alarms")["TopicArn"],
            "ScoreBucket": "lake",
        }  # fmt: skip
        session.client("cloudformation").create_stack(
            StackName="book", TemplateBody=TEMPLATE.read_text(), Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in inputs.items()],
        )  # fmt: skip
        yield session.client


@pytest.mark.slow
def test_stack_creates_service_behind_load_balancer(stack, tmp_path, monkeypatch):
    result = stack("cloudformation").describe_stacks(StackName="book")["Stacks"][0]
    assert result["StackStatus"] == "CREATE_COMPLETE"
    outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in result["Outputs"]}
    ecs = stack("ecs")
    arns = ecs.list_services(cluster=outputs["Cluster"])["serviceArns"]
    services = ecs.describe_services(cluster=outputs["Cluster"], services=arns)["services"]
    tasks = {
        task["containerDefinitions"][0]["name"]: (service, task)
        for service in services
        for task in [
            ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        ]
    }
    service, task = tasks["api"]
    container, collector = task["containerDefinitions"]
    assert {entry["name"] for entry in collector["secrets"]} == {
        "AOT_CONFIG_CONTENT",
        "METRICS_KEY",
    }
    assert container["image"].endswith("modelbook-service:1")
    assert {entry["name"] for entry in container["secrets"]} == {"PGPASSWORD", "MODELBOOK_KEYRING"}
    assert "not to be seen" not in json.dumps([task, service, result], default=str)
    for entry in container["environment"]:
        monkeypatch.setenv(entry["name"], entry["value"])
    assert (
        load_settings(tmp_path, "tiny").journal.url
        == "postgresql+psycopg://modelbook@db.example.com/journal"
    )
    worker = tasks["stream"][1]["containerDefinitions"][0]
    assert worker["image"].endswith("modelbook-stages:1")
    assert worker["command"] == ["stream"]
    [config] = stack("ssm").get_parameters(Names=["book-collector"])["Parameters"]
    check_collector(yaml.safe_load(config["Value"]), worker)
    [balancer] = stack("elbv2").describe_load_balancers()["LoadBalancers"]
    assert balancer["Scheme"] == "internal"
    assert outputs["Address"] == f"https://{balancer['DNSName']}"
    loop = ecs.describe_task_definition(taskDefinition=outputs["Loop"])["taskDefinition"]
    [stages] = loop["containerDefinitions"]
    assert stages["image"].endswith("modelbook-stages:1")
    assert {"PGPASSWORD", "MODELBOOK_WEBHOOK"} == {entry["name"] for entry in stages["secrets"]}
    environ = {entry["name"]: entry["value"] for entry in stages["environment"]}
    assert (environ["SCORE_IN"], environ["SCORE_OUT"]) == ("s3://lake/rows", "s3://lake/scores")


def check_collector(config: dict[str, Any], worker: dict[str, Any]) -> None:
    """Check that the collector scrapes both services and sends the metrics of all alarms."""
    [scraped] = config["receivers"]["prometheus"]["config"]["scrape_configs"]
    environ = {entry["name"]: entry["value"] for entry in worker["environment"]}
    [targets] = [entry["targets"] for entry in scraped["static_configs"]]
    assert targets == ["127.0.0.1:8000", environ["MODELBOOK_SERVE_STREAM__METRICS_ADDRESS"]]
    assert scraped["authorization"] == {"credentials": "${env:METRICS_KEY}"}
    sender = config["exporters"]["awsemf"]
    assert (sender["namespace"], sender["log_group_name"]) == (
        "Modelbook",
        "/modelbook/book/metrics",
    )
    for alarm in find_resources("AWS::CloudWatch::Alarm").values():
        if alarm["Namespace"] != "Modelbook":
            continue
        [declared] = [
            declaration
            for declaration in sender["metric_declarations"]
            if any(
                re.match(pattern, alarm["MetricName"])
                for pattern in declaration["metric_name_selectors"]
            )
        ]
        assert declared["dimensions"] == [
            [declaration["Name"] for declaration in alarm["Dimensions"]]
        ]


def test_alarms_match_prometheus_alerts():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0][
        "rules"
    ]
    alerts = {rule["alert"]: rule for rule in rules}
    alarms = find_resources("AWS::CloudWatch::Alarm")  # moto makes none of a template
    modelbook_alarms = {name for name, alarm in alarms.items() if alarm["Namespace"] == "Modelbook"}
    assert modelbook_alarms == {
        "NoVersionInService", "JournalDown", "PredictionsNotJournaled", "JournalReplaced", "InputsDrift",
        "RetrainRecommended", "StreamBehind",
    }  # fmt: skip
    assert alarms.keys() - modelbook_alarms == {
        "ServiceDown", "TaskUnhealthy", "HighErrorRate", "HighLatency", "StreamDown"
    }  # fmt: skip
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "AlarmTopic"}]
        severity = alarm["AlarmDescription"].split(" - ")[0]
        assert severity in ("page", "ticket")
        if name in alerts:
            assert severity == alerts[name]["labels"]["severity"], name
        if name in modelbook_alarms:
            assert alarm["MetricName"] in alerts[name]["expr"], name


def test_scheduled_task_scores_daily_rows_and_failure_is_notified():
    schedules = find_resources("AWS::Scheduler::Schedule")
    overridden = json.loads(schedules["Scoring"]["Target"]["Input"])["containerOverrides"]
    assert (ROOT / overridden[0]["command"][0]).is_file()
    [rule] = find_resources("AWS::Events::Rule").values()
    assert rule["EventPattern"]["detail"]["containers"] == {"exitCode": [{"anything-but": 0}]}
    assert rule["Targets"][0]["Arn"] == {"Ref": "AlarmTopic"}


@pytest.mark.slow
def test_autoscaling_accepts_template_values(stack):
    """Moto ignores autoscaling in templates, so the test makes CloudFormation's calls."""
    [scaled] = find_resources("AWS::ApplicationAutoScaling::ScalableTarget").values()
    [policy] = find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    outputs = stack("cloudformation").describe_stacks(StackName="book")["Stacks"][0]["Outputs"]
    cluster = next(output["OutputValue"] for output in outputs if output["OutputKey"] == "Cluster")
    arns = stack("ecs").list_services(cluster=cluster)["serviceArns"]
    [arn] = [arn for arn in arns if "Stream" not in arn]
    target = {name: scaled[name] for name in ("ServiceNamespace", "ScalableDimension")}
    target["ResourceId"] = scaled["ResourceId"]["Sub"].replace("${Cluster}", cluster).replace(
        "${Service.Name}", arn.split("/")[-1]
    )  # fmt: skip
    scaling = stack("application-autoscaling")
    scaling.register_scalable_target(**target, MinCapacity=2, MaxCapacity=10)
    rest = {
        name: policy[name]
        for name in ("PolicyName", "PolicyType", "TargetTrackingScalingPolicyConfiguration")
    }
    scaling.put_scaling_policy(**target, **rest)
    [result] = scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    assert result["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 70
