"""compose.yaml: schema, services, security, and configuration of other deployments."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from small_project import BIN, ROOT

from modelbook.serving.settings import load_settings

FILE = ROOT / "deploy/compose.yaml"
TEXT = FILE.read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]


@pytest.mark.long
def test_compose_file_matches_schema():
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_compose_file_has_all_services_and_their_files_exist():
    assert SERVICES.keys() == {
        "api",
        "stages",
        "loop",
        "stream",
        "redis",
        "mlflow",
        "postgres",
        "store",
        "bucket",
        "prometheus",
        "alertmanager",
        "grafana",
    }
    hosts = set(re.findall(r"(?:http://|redis://|@)([a-z]+)[:/]", TEXT)) | set(
        re.findall(r'targets: \["(\w+):', TEXT)
    )
    assert len(hosts) == 8
    assert hosts <= SERVICES.keys()
    for name, item in SERVICES.items():
        assert set(item.get("depends_on", [])) <= SERVICES.keys(), name
        assert {each["source"] for each in item.get("configs", [])} <= COMPOSE["configs"].keys(), (
            name
        )
        assert {each.split(":")[0] for each in item.get("volumes", [])} <= COMPOSE[
            "volumes"
        ].keys(), name
    for item in COMPOSE["configs"].values():
        assert "content" in item or (FILE.parent / item["file"]).is_file()


def test_ports_are_local_and_containers_are_unprivileged_and_read_only():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        if service["image"].startswith("modelbook-"):
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
        else:
            assert re.search(r":v?\d", service["image"]), f"{name}: no version"


def test_every_secret_is_required_and_documented():
    result = (ROOT / "docs/deploy/containers.md").read_text()
    requests = set(re.findall(r"\$\{(\w+)", TEXT))
    assert requests == {
        "POSTGRES_PASSWORD", "S3_SECRET", "GRAFANA_PASSWORD", "MODELBOOK_KEYRING", "ALERT_WEBHOOK",
        "MODELBOOK_WEBHOOK", "SCORE_IN", "SCORE_OUT",
    }  # fmt: skip
    assert {name for name in requests if f"{name}=" in result} == requests
    assert not re.search(r"://\w+:[^@\s]+@", TEXT), "a password in a URL"


def test_service_environment_is_valid_settings(tmp_path, monkeypatch):
    for name, value in SERVICES["api"]["environment"].items():
        monkeypatch.setenv(name, value)
    assert (
        load_settings(tmp_path, "tiny").journal.url
        == "postgresql+psycopg://modelbook@postgres/journal"
    )
    databases = {
        SERVICES["postgres"]["environment"]["POSTGRES_DB"],
        COMPOSE["configs"]["journal"]["content"].split()[-1],
    }
    assert databases == {"mlflow", "journal;"}


def test_stream_worker_environment_is_valid_settings(tmp_path, monkeypatch):
    stream = SERVICES["stream"]
    for name, value in stream["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings(tmp_path, "tiny").stream
    assert settings.url == "redis://redis:6379"
    assert stream["command"] == ["stream"]
    [scraped] = [
        job
        for job in yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])["scrape_configs"]
        if job["job_name"] == "modelbook-stream"
    ]
    port = settings.metrics_address.rpartition(":")[2]
    assert scraped["static_configs"] == [{"targets": [f"stream:{port}"]}]
    assert f"http://127.0.0.1:{port}/health/ready" in stream["healthcheck"]["test"][-1]


def test_loop_service_runs_same_commands_as_schedules():
    for script in re.findall(r"deploy/\S+\.sh", SERVICES["loop"]["command"][0]):
        assert (ROOT / script).is_file()
    assert SERVICES["loop"]["profiles"] == []  # started by default


@pytest.mark.parametrize("name", ["prometheus", "alertmanager", "source", "folder", "s3"])
def test_embedded_configurations_are_valid(name):
    assert isinstance(yaml.safe_load(COMPOSE["configs"][name]["content"]), dict)


def test_prometheus_and_alertmanager_configurations_match_standalone_files():
    content = COMPOSE["configs"]["alertmanager"]["content"]
    content_of_alertmanager = re.sub(r"\$\{ALERT_WEBHOOK[^}]*\}", "http://127.0.0.1:9095", content)
    single = (ROOT / "deploy/prometheus/alertmanager.yml").read_text()
    assert yaml.safe_load(content_of_alertmanager) == yaml.safe_load(single)
    embedded = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])
    standalone = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert embedded.pop("alerting").keys() == standalone.pop("alerting").keys()
    assert [job["job_name"] for job in embedded["scrape_configs"]] == [
        "modelbook",
        "modelbook-stream",
    ]
    del embedded["scrape_configs"][1]  # the standalone file has the stream job commented out
    embedded["scrape_configs"][0].update(dict.fromkeys(("authorization", "static_configs")))
    standalone["scrape_configs"][0].update(dict.fromkeys(("authorization", "static_configs")))
    assert embedded == standalone
