"""Kubernetes overlays: schemas, security, settings, and alerts shared with other deployments."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_project import BIN, ROOT

from modelbook.registry import location
from modelbook.serving.settings import load_settings

MANIFESTS = ROOT / "deploy/kubernetes"
OVERLAYS = ("dev", "staging", "prod")
OPERATOR = ("ServiceMonitor", "PrometheusRule", "AlertmanagerConfig")  # custom resource kinds
pytestmark = pytest.mark.requires("kubectl")


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    command = ["kubectl", "kustomize", MANIFESTS / "overlays" / request.param]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    path = tmp_path_factory.mktemp("rendered") / f"{request.param}.yaml"
    path.write_text(result.stdout)
    return request.param, path


def resources(path: Path, *kinds: str) -> list[dict[str, Any]]:
    return [
        resource
        for resource in yaml.safe_load_all(path.read_text())
        if not kinds or resource["kind"] in kinds
    ]


def pods(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for resource in resources(path, "Deployment", "CronJob"):
        spec = (
            resource["spec"]
            if resource["kind"] == "Deployment"
            else resource["spec"]["jobTemplate"]["spec"]
        )
        yield resource["metadata"]["name"], spec["template"]


@cache
def read_help(command: str) -> str:
    return subprocess.run(
        [BIN / "modelbook", command, "--help"], capture_output=True, text=True
    ).stdout


@pytest.mark.long
def test_overlay_matches_kubernetes_schema(rendered):
    result = subprocess.run(
        [BIN / "kubernetes-validate", "--strict", rendered[1]], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = (result.stdout + result.stderr).splitlines()
    unknown = [line for line in lines if "passed" not in line]  # of the operator's own
    assert all(any(f"kind {kind}" in line for kind in OPERATOR) for line in unknown)
    operator = resources(rendered[1], *OPERATOR)
    assert sum("passed" in line for line in lines) == len(resources(rendered[1])) - len(operator)
    kinds = {resource["kind"] for resource in resources(rendered[1])}
    assert {"HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "CronJob"} <= kinds
    assert ("Ingress" in kinds) is (rendered[0] != "dev")


def test_resources_are_in_restricted_namespace_of_overlay(rendered):
    name, path = rendered
    [space] = resources(path, "Namespace")
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {resource["metadata"].get("namespace") for resource in resources(path)} == {
        f"modelbook-{name}",
        None,
    }


def test_pods_are_unprivileged_and_read_only(rendered):
    for name, template in pods(rendered[1]):
        spec, [container] = template["spec"], template["spec"]["containers"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {"cpu", "memory"} == container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        mounts = {volume["name"] for volume in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in spec["volumes"]}
        assert mounts == ({"tmp"} if name == "modelbook-mlflow" else {"book", "tmp"})


@pytest.mark.long
def test_secrets_are_referenced_and_documented(rendered):
    text, result = rendered[1].read_text(), (ROOT / "docs/deploy/kubernetes.md").read_text()
    assert resources(rendered[1], "Secret") == []
    assert not re.search(r"://\w+:[^@\s]+@", text)
    expected = {
        entry["valueFrom"]["secretKeyRef"]["key"]
        for _, template in pods(rendered[1])
        for entry in template["spec"]["containers"][0]["env"]
        if "valueFrom" in entry
    }
    watching = resources(rendered[1], "ServiceMonitor")[0]
    expected.add(watching["spec"]["endpoints"][0]["authorization"]["credentials"]["key"])
    [alertmanager_config] = resources(rendered[1], "AlertmanagerConfig")
    expected |= {
        entry["urlSecret"]["key"]
        for receiver in alertmanager_config["spec"]["receivers"]
        for entry in receiver["webhookConfigs"]
    }
    actual = set(re.findall(r"--from-(?:literal|file)=([\w-]+)=", result))
    keys = {
        "journal-password", "keyring", "webhook", "metrics-key", "s3-key", "s3-secret",
        "page-webhook", "ticket-webhook",
    }  # fmt: skip
    assert expected == (keys if rendered[0] == "dev" else keys | {"stream-url"})
    assert actual == keys | {"stream-url"}


@pytest.mark.long
def test_selectors_ports_and_probes_match_service(rendered):
    path = rendered[1]
    deployment, service = (
        next(
            resource
            for resource in resources(path, kind)
            if resource["metadata"]["name"] == "modelbook"
        )
        for kind in ("Deployment", "Service")
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    [budget], [scaler] = (
        resources(path, "PodDisruptionBudget"),
        resources(path, "HorizontalPodAutoscaler"),
    )
    service_monitor, policies = (
        resources(path, "ServiceMonitor")[0],
        resources(path, "NetworkPolicy"),
    )
    assert service["spec"]["selector"].items() <= labels
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels
    assert (
        service_monitor["spec"]["selector"]["matchLabels"].items()
        <= service["metadata"]["labels"].items()
    )
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    pod_labels = [template["metadata"]["labels"].items() for _, template in pods(path)]
    picked = [resource["spec"]["podSelector"]["matchLabels"].items() for resource in policies]
    assert all(sum(selector <= result for selector in picked) == 1 for result in pod_labels)
    [resource] = deployment["spec"]["template"]["spec"]["containers"]
    assert {resource[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {
        "/health/live"
    }
    assert resource["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert service["spec"]["ports"][0]["targetPort"] == resource["ports"][0]["name"] == "http"


def test_service_config_map_is_valid_settings(rendered, tmp_path, monkeypatch):
    name, path = rendered
    result, *dashboard = resources(path, "ConfigMap")
    assert len(dashboard) == (name != "dev")
    for key, value in result["data"].items():
        monkeypatch.setenv(key, value)
    inputs = load_settings(tmp_path, "tiny")
    assert inputs.log_level == {"dev": "debug", "staging": "info", "prod": "warning"}[name]
    assert inputs.journal.url.startswith("postgresql+psycopg://")
    assert (ROOT / result["data"]["PLOOMBER_ENV_FILENAME"]).is_file()


@pytest.mark.long
def test_stream_worker_has_matching_probes_and_scrape_config(rendered, tmp_path, monkeypatch):
    name, path = rendered
    pod_template = dict(pods(path)).get("modelbook-stream")
    assert (pod_template is None) == (name == "dev")
    if pod_template is None:
        return
    [container] = pod_template["spec"]["containers"]
    values = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    for key, value in values.items():
        monkeypatch.setenv(key, value)
    port = int(load_settings(tmp_path, "tiny").stream.metrics_address.rpartition(":")[2])
    assert container["ports"] == [{"name": "metrics", "containerPort": port}]
    probes = {
        kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
    }
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert probes["liveness"]["path"] == "/health/live"
    assert probes["readiness"]["path"] == "/health/ready"
    service_monitor, service = (
        next(
            entry
            for entry in resources(path, kind)
            if entry["metadata"]["name"] == "modelbook-stream"
        )
        for kind in ("ServiceMonitor", "Service")
    )
    labels = service["metadata"]["labels"]
    assert service_monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0][
        "rules"
    ]
    [down] = [rule["expr"] for rule in alerts if rule["alert"] == "StreamDown"]
    assert down == f'up{{job="{labels[service_monitor["spec"]["jobLabel"]]}"}} == 0'


def test_overlays_differ_in_replicas_and_schedules(rendered):
    name, path = rendered
    [scaler] = resources(path, "HorizontalPodAutoscaler")
    least_and_most = scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]
    assert least_and_most == {"dev": (1, 1), "staging": (2, 6), "prod": (3, 20)}[name]
    assert {cronjob["spec"].get("suspend", False) for cronjob in resources(path, "CronJob")} == {
        name == "dev"
    }


@pytest.mark.long
def test_cronjobs_run_existing_commands(rendered):
    for cronjob in resources(rendered[1], "CronJob"):
        assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"
    result = {name: template["spec"]["containers"][0] for name, template in pods(rendered[1])}
    assert (ROOT / result["modelbook-score"]["command"][1]).is_file()
    assert (ROOT / result["modelbook-monitor"]["command"][1]).is_file()
    command, option, _ = result["modelbook-retrain"]["args"]
    assert option in read_help(command)


@pytest.mark.long
def test_staging_and_prod_use_postgresql_s3_and_tls(rendered, tmp_path, monkeypatch):
    name, path = rendered
    if name == "dev":
        return
    settings = resources(path, "ConfigMap")[0]["data"]
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    assert location.get_tracking_uri(tmp_path) == "http://modelbook-mlflow:5000"
    assert str(location.get_cache_folder(tmp_path)) == "/tmp/cache"
    assert settings["MODELBOOK_STORE_ARTIFACTS"].startswith("s3://")
    for url in (settings["MLFLOW_DATABASE"], settings["MODELBOOK_SERVE_JOURNAL__URL"]):
        assert re.match(r"postgresql\+psycopg://modelbook@postgres\.\w+\.example\.com/", url)
        assert url.endswith("sslmode=require")
    mlflow = dict(pods(path))["modelbook-mlflow"]["spec"]["containers"][0]
    assert mlflow["command"][-2:] == ["--backend-store-uri", "$(MLFLOW_DATABASE)"]
    [ingress] = resources(path, "Ingress")
    [tls] = ingress["spec"]["tls"]
    assert tls["hosts"] == [ingress["spec"]["rules"][0]["host"]]
    paths = {rule["path"] for rule in ingress["spec"]["rules"][0]["http"]["paths"]}
    assert {"/predict", "/health"} <= paths
    assert "/metrics" not in paths


def to_snake_case(value: Any) -> Any:
    """The operator's words as Alertmanager's own: ``groupWait`` is ``group_wait``."""
    if isinstance(value, list):
        return [to_snake_case(element) for element in value]
    if not isinstance(value, dict):
        return value
    if value.keys() - {"matchType"} == {"name", "value"}:
        return f"{value['name']} {value.get('matchType', '=')} {value['value']}"
    names = {"sourceMatch": "source_matchers", "targetMatch": "target_matchers"}
    return {
        names.get(key, re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", key)): to_snake_case(
            element
        )
        for key, element in value.items()
    }


def test_alertmanager_configuration_matches_other_deployments(rendered):
    [alertmanager_config] = resources(rendered[1], "AlertmanagerConfig")
    kubernetes_config, compose_config = (
        to_snake_case(alertmanager_config["spec"]),
        yaml.safe_load((ROOT / "deploy/prometheus/alertmanager.yml").read_text()),
    )
    for receiver in (*kubernetes_config["receivers"], *compose_config["receivers"]):
        [webhook] = receiver["webhook_configs"]
        assert webhook.pop("url_secret", None) or webhook.pop("url")
    assert kubernetes_config == compose_config


def test_alerts_and_dashboard_match_other_deployments(rendered):
    name, path = rendered
    [rule] = resources(path, "PrometheusRule")
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert rule["spec"] == alerts
    if name != "dev":
        board = resources(path, "ConfigMap")[1]
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert (
            board["data"]["modelbook.json"] == (ROOT / "deploy/grafana/modelbook.json").read_text()
        )
