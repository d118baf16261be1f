"""Prometheus alerts, Alertmanager routes and the Grafana dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import servers
import yaml
from small_project import ROOT
from test_monitor_command import PARAMS, make_evaluation
from version_store import BOOK, JSON, VersionStore, fit_pipeline, run_server

from modelbook.extras import stream_metrics
from modelbook.monitoring import latest_verdict
from modelbook.monitoring.window_history import WindowHistory
from modelbook.serving.access import ApiKeyStore
from modelbook.serving.metrics import ServiceMetrics

RULES, DASHBOARD = ROOT / "deploy/prometheus", ROOT / "deploy/grafana/modelbook.json"
ALERTS = [
    rule
    for group in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
BOARD = json.loads(DASHBOARD.read_text())
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def replace_variables(expression: str) -> str:
    """An expression of the dashboard as Prometheus takes it."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


def promtool(*args: str, **kwargs: Any) -> None:
    result = subprocess.run(["promtool", *args], capture_output=True, text=True, **kwargs)
    assert result.returncode == 0, result.stdout + result.stderr


def test_alerts_and_dashboard_use_existing_metrics():
    metrics = ServiceMetrics("tiny")
    metrics.set_versions({"champion": 1}, {"champion": 1}, {"champion": 0})
    metrics.observe_request("/predict", 200, 0.001)
    metrics.set_input_drift({"size": 0.1}, {"colour": 0.1})
    metrics.count_error(422)
    metrics.set_verdict("watch", 1.0, 0.1, {"size": 0.1}, {("roc_auc", "live"): 0.7})
    metrics.outcome_delay.observe(60.0)
    stream_metrics.StreamMetrics(SimpleNamespace(metrics=metrics))
    exported = set(re.findall(r"^(modelbook_\w+)", metrics.render().decode(), re.M))
    named = set(
        re.findall(r"modelbook_\w+", " ".join([*EXPRESSIONS, *(rule["expr"] for rule in ALERTS)]))
    )
    assert len(named) > 7
    assert named <= exported


def test_every_alert_has_severity_and_runbook():
    result = (ROOT / "docs/serving.md").read_text()
    runbooks = (ROOT / "docs/deploy/runbooks.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", runbooks, re.M | re.S))
    assert sections.keys() == {rule["alert"] for rule in ALERTS}
    for rule in ALERTS:
        severity, name = rule["labels"]["severity"], rule["alert"]
        assert severity in ("page", "ticket"), name
        assert {"summary", "next", "runbook_url"} == rule["annotations"].keys(), name
        assert rule["annotations"]["runbook_url"].endswith(f"/deploy/runbooks.html#{name.lower()}")
        assert f"**{severity}**" in sections[name], name
        assert all(heading in sections[name] for heading in ("*Look*", "*Do*", "*Ends*")), name
        assert f"`{name}`" in result, name


def test_dashboard_panels_do_not_overlap_and_have_descriptions():
    occupied: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & occupied, panel["title"]
        assert max(x for x, _ in cells) < 24
        assert panel["description"]
        occupied |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.mark.slow
@pytest.mark.requires("prometheus")
def test_promtool_accepts_rules_configuration_and_dashboard_expressions(tmp_path: Path):
    for path in RULES.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "key").touch()
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    promtool("test", "rules", "alerts.test.yml", cwd=tmp_path)
    rules = [
        {"record": f"asked:{i}", "expr": replace_variables(expression)}
        for i, expression in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "asked.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]})
    )
    promtool("check", "rules", "asked.yml", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.requires("alertmanager")
def test_alertmanager_routes_page_and_ticket_to_their_receivers(tmp_path: Path):
    """Alerts inhibited by a service that is down are not sent."""
    config = tmp_path / "alertmanager.yml"
    with servers.webhook() as receiver:
        text = (RULES / "alertmanager.yml").read_text()
        config.write_text(
            re.sub(r"group_wait: \d+s", "group_wait: 1s", text).replace(
                "127.0.0.1:9095", f"127.0.0.1:{receiver.port}"
            )
        )
        subprocess.run(["amtool", "check-config", config], check=True, capture_output=True)
        with servers.alertmanager(tmp_path) as address:
            amtool = ["amtool", f"--alertmanager.url=http://{address}"]
            by_name = {rule["alert"]: rule for rule in ALERTS}
            wait_until(
                lambda: subprocess.run([*amtool, "alert"], capture_output=True).returncode == 0
            )
            for name, instance in (
                ("ServiceDown", "a"),
                ("JournalDown", "a"),
                ("RetrainRecommended", "b"),
            ):
                severity = by_name[name]["labels"]["severity"]
                labels = [f"alertname={name}", f"severity={severity}", f"instance={instance}"]
                subprocess.run([*amtool, "alert", "add", *labels], check=True)
            expected_alerts = {("/page", "ServiceDown"), ("/ticket", "RetrainRecommended")}
            wait_until(lambda: {path for path, _ in receiver.list_alerts()} == {"/page", "/ticket"})
        assert receiver.list_alerts().keys() == expected_alerts


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def scraped(tmp_path: Path, frame, contract) -> Iterator[str]:
    """A Prometheus with our configuration that scrapes a service with keys; gives its address."""
    version_store = VersionStore(tmp_path / "served")
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    monitored = WindowHistory(latest_verdict.get_history_path(version_store.root, BOOK), 1)
    monitored.record_windows([make_evaluation(contract, "4", auc=0.7)], PARAMS)
    for path in RULES.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "key").write_text(
        ApiKeyStore(version_store.root).add_key("prometheus", ["admin"], None)
    )
    with run_server(version_store.root) as server:
        config = (tmp_path / "prometheus.yml").read_text()
        config = config.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(config)
        headers = {**JSON, "x-api-key": (tmp_path / "key").read_text()}
        for size in (5, 95, 500):  # the last one breaks the contract
            with closing(server.connect()) as connection:
                connection.request(
                    "POST",
                    "/predict",
                    json.dumps({"colour": "11", "size": size, "flag": 1}),
                    headers,
                )
                connection.getresponse().read()
        with servers.prometheus(tmp_path) as address:
            yield address


def query_prometheus(address: str, expression: str) -> list[Any]:
    query = urllib.parse.urlencode({"query": expression})
    try:
        return json.load(urllib.request.urlopen(f"{address}/api/v1/query?{query}", timeout=10))[
            "data"
        ]["result"]
    except OSError:  # it is not up yet
        return []


@pytest.mark.slow
@pytest.mark.requires("prometheus")
def test_prometheus_scrapes_service_with_key_and_dashboard_has_data(scraped: str):
    def wait_for(expression: str) -> list[Any]:
        deadline = time.monotonic() + 90
        while not (result := query_prometheus(scraped, expression)):
            assert time.monotonic() < deadline, (expression, query_prometheus(scraped, "up"))
            time.sleep(0.5)
        return result

    quality = 'modelbook_monitor_quality{book="tiny", metric="roc_auc", source="live"} == 0.7'
    assert wait_for(quality)
    result = wait_for('modelbook_predictions_total{variant="champion"} == 2')
    assert result[0]["metric"]["job"] == "modelbook"
    assert (
        query_prometheus(scraped, 'modelbook_rejected_total{reason="contract"}')[0]["value"][1]
        == "1"
    )
    for expression in EXPRESSIONS:  # rates want several readings
        wait_for(replace_variables(expression))
    assert {
        alert["metric"]["alertname"]
        for alert in query_prometheus(scraped, 'ALERTS{alertstate="firing"}')
    } <= {"InputsDrift"}
