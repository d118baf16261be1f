"""compose.yaml: it keeps its schema, its parts know one another by name, and what they are told is what they read."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from tiny import BIN, ROOT

from modelbook.serving.settings import load_settings

FILE = ROOT / "deploy/compose.yaml"
TEXT = FILE.read_text()
GIVEN = yaml.safe_load(TEXT)
SERVICES = GIVEN["services"]


def test_it_keeps_the_schema_of_compose():
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_all_parts_are_there_and_what_they_name_is_there():
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
        assert {each["source"] for each in item.get("configs", [])} <= GIVEN["configs"].keys(), name
        assert {each.split(":")[0] for each in item.get("volumes", [])} <= GIVEN[
            "volumes"
        ].keys(), name
    for item in GIVEN["configs"].values():
        assert "content" in item or (FILE.parent / item["file"]).is_file()


def test_nothing_listens_beyond_this_machine_and_our_own_are_no_root_and_read_only():
    for name, item in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in item.get("ports", [])), name
        if item["image"].startswith("modelbook-"):
            assert item["read_only"] is True, name
            assert item["cap_drop"] == ["ALL"], name
        else:
            assert re.search(r":v?\d", item["image"]), f"{name}: no version"


def test_every_secret_is_asked_for_and_stands_in_the_docs():
    result = (ROOT / "docs/deploy/containers.md").read_text()
    requests = set(re.findall(r"\$\{(\w+)", TEXT))
    assert requests == {
        "POSTGRES_PASSWORD", "S3_SECRET", "GRAFANA_PASSWORD", "MODELBOOK_KEYRING", "ALERT_WEBHOOK",
        "MODELBOOK_WEBHOOK", "SCORE_IN", "SCORE_OUT",
    }  # fmt: skip
    assert {name for name in requests if f"{name}=" in result} == requests
    assert not re.search(r"://\w+:[^@\s]+@", TEXT), "a password in a URL"


def test_the_service_takes_the_settings_that_it_is_told(tmp_path, monkeypatch):
    for name, value in SERVICES["api"]["environment"].items():
        monkeypatch.setenv(name, value)
    assert (
        load_settings(tmp_path, "tiny").journal.url
        == "postgresql+psycopg://modelbook@postgres/journal"
    )
    databases = {
        SERVICES["postgres"]["environment"]["POSTGRES_DB"],
        GIVEN["configs"]["journal"]["content"].split()[-1],
    }
    assert databases == {"mlflow", "journal;"}


def test_the_stream_worker_takes_the_settings_that_it_is_told(tmp_path, monkeypatch):
    stream = SERVICES["stream"]
    for name, value in stream["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings(tmp_path, "tiny").stream
    assert settings.url == "redis://redis:6379"
    assert stream["command"] == ["stream"]
    [scraped] = [
        job
        for job in yaml.safe_load(GIVEN["configs"]["prometheus"]["content"])["scrape_configs"]
        if job["job_name"] == "modelbook-stream"
    ]
    port = settings.metrics_address.rpartition(":")[2]
    assert scraped["static_configs"] == [{"targets": [f"stream:{port}"]}]
    assert f"http://127.0.0.1:{port}/health/ready" in stream["healthcheck"]["test"][-1]


def test_the_loop_does_each_day_what_the_schedules_do():
    for script in re.findall(r"deploy/\S+\.sh", SERVICES["loop"]["command"][0]):
        assert (ROOT / script).is_file()
    assert SERVICES["loop"]["profiles"] == []  # it comes up with the others


@pytest.mark.parametrize("name", ["prometheus", "alertmanager", "source", "folder", "s3"])
def test_what_stands_in_it_for_others_can_be_read(name):
    assert isinstance(yaml.safe_load(GIVEN["configs"][name]["content"]), dict)


def test_prometheus_and_alertmanager_do_what_they_do_without_containers():
    content = GIVEN["configs"]["alertmanager"]["content"]
    sent = re.sub(r"\$\{ALERT_WEBHOOK[^}]*\}", "http://127.0.0.1:9095", content)
    single = (ROOT / "deploy/prometheus/alertmanager.yml").read_text()
    assert yaml.safe_load(sent) == yaml.safe_load(single)
    ours = yaml.safe_load(GIVEN["configs"]["prometheus"]["content"])
    other = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert ours.pop("alerting").keys() == other.pop("alerting").keys()
    assert [job["job_name"] for job in ours["scrape_configs"]] == ["modelbook", "modelbook-stream"]
    del ours["scrape_configs"][1]  # commented out where no stream worker need be
    ours["scrape_configs"][0].update(dict.fromkeys(("authorization", "static_configs")))
    other["scrape_configs"][0].update(dict.fromkeys(("authorization", "static_configs")))
    assert ours == other
