"""Fire alerts for real: a Prometheus with the project's rules scrapes a service that breaks."""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

from modelbook.extras.drill.services import (
    WAIT_SECONDS,
    DrillSkipped,
    Measurements,
    ServiceCopy,
    find_free_port,
    wait_until,
)
from modelbook.registry.aliases import CHAMPION
from modelbook.yaml_reading import load_yaml

RULES_FILE = Path("deploy/prometheus/alerts.yml")
N_INVALID_REQUESTS = 20


def fire_alerts(copy: ServiceCopy) -> Measurements:
    """Seven failures fire their alerts in Prometheus, without the waiting times of its rules."""
    rules = copy.project_root / RULES_FILE
    if shutil.which("prometheus") is None:
        raise DrillSkipped("Prometheus is not installed")
    if not rules.is_file():
        raise DrillSkipped(f"the project has no {RULES_FILE}")
    seconds: Measurements = {}
    process = copy.start(JOURNAL__ON_FAILURE="predict", JOURNAL__TIMEOUT_SECONDS=1)
    with _run_prometheus(copy, rules) as prometheus:

        def require_alert(name: str) -> None:
            seconds_to_fire = wait_until(
                lambda: name in prometheus.list_firing_alerts(), f"{name} did not fire"
            )
            seconds[f"{name}, s"] = round(seconds_to_fire, 1)

        wait_until(prometheus.has_samples, "Prometheus does not scrape the service")
        for _ in range(N_INVALID_REQUESTS):
            copy.send("POST", "/predict", '{"no such field": 1}')
        require_alert("ContractViolations")
        row = json.dumps(copy.read_example())
        with _lock_journal(copy.journal_path):
            copy.send("POST", "/predict", row)
            require_alert("JournalDown")
            require_alert("PredictionsNotJournaled")
        wait_until(
            lambda: copy.metric_equals("modelbook_journal_up", 1), "the journal does not come back"
        )
        copy.send("POST", "/predict", row)
        for path in copy.journal_path.parent.glob(f"{copy.journal_path.name}*"):
            path.unlink()
        require_alert("JournalReplaced")
        version, folder = copy.add_version()
        shutil.rmtree(folder)
        copy.set_alias(CHAMPION, version)
        require_alert("VersionNotLoaded")
        process.terminate()
        process.wait(WAIT_SECONDS)
        require_alert("ServiceDown")
        copy.start(wait=False)
        require_alert("NoVersionInService")
    return seconds


@contextmanager
def _lock_journal(journal: Path) -> Iterator[None]:
    with closing(sqlite3.connect(journal, timeout=30)) as connection:
        connection.execute("begin exclusive")
        yield
        connection.rollback()


class _Prometheus:
    """Client of Prometheus's HTTP API."""

    def __init__(self, port: int) -> None:
        self._port = port

    def _read(self, path: str) -> Any:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as client:
                client.request("GET", f"/api/v1/{path}")
                return json.loads(client.getresponse().read())["data"]
        except (OSError, http.client.HTTPException, ValueError):  # it is not up yet
            return {}

    def has_samples(self) -> bool:
        """Whether it has scraped the service twice, as rates need."""
        result = self._read("query?query=count_over_time(modelbook_journal_up[1m])%3E1")
        return bool(result.get("result"))

    def list_firing_alerts(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self._read("alerts").get("alerts", [])
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


@contextmanager
def _run_prometheus(copy: ServiceCopy, rules: Path) -> Iterator[_Prometheus]:
    """Run a Prometheus that scrapes the service each second; its rules have no ``for``."""
    folder = copy.root / "prometheus"
    port = find_free_port()
    folder.mkdir()
    content = load_yaml(rules.read_text(encoding="utf-8"))
    for group in content["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    (folder / "alerts.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    job = {"job_name": "modelbook", "static_configs": [{"targets": [f"127.0.0.1:{copy.port}"]}]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stderr=log
        )
    try:
        yield _Prometheus(port)
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)
