"""Fault-injection checks: guarantees hold on a copy of a small book, and broken ones are reported."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from text_facts import missing_facts
from version_store import BOOK, VersionStore, fit_pipeline

from modelbook.extras import drill
from modelbook.extras.drill import hostile_requests, services
from modelbook.extras.drill.guarantees import GUARANTEES
from modelbook.extras.drill.services import DrillSkipped, ServiceCopy, require
from modelbook.journal.database import Journal, get_default_url
from modelbook.journal.writer import JournalWriter, PredictionRecord

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def version_store(make_frame, contract, tmp_path_factory) -> VersionStore:
    version_store, frame = VersionStore(tmp_path_factory.mktemp("version_store")), make_frame()
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    return version_store


def write_predictions(root: Path, n_rows: int) -> None:
    journal = Journal(get_default_url(root, BOOK), BOOK, 5.0)
    journal.create_tables()
    rows = [
        PredictionRecord(f"id-{i}", "champion", 1000.0 + i, 1, True, "{}", "1", None, 0.1)
        for i in range(n_rows)
    ]

    async def write() -> None:
        writer = JournalWriter(journal)
        writer.start()
        await writer.write(rows)
        await writer.stop()

    asyncio.run(write())


def test_drill_guarantees_hold_on_copy_and_project_is_unchanged(version_store, monkeypatch):
    write_predictions(version_store.root, 3)  # in the project's journal: not the drill's
    # Durations of health checks and requests depend on the load of the machine.
    monkeypatch.setattr(hostile_requests, "MAX_HEALTH_SECONDS", 60)
    monkeypatch.setattr(hostile_requests, "MAX_CPU_SECONDS", 10)
    before = {path for path in version_store.root.rglob("*") if path.is_file()}
    names = [
        "replace-journal",
        "promote-absent-version",
        "roll-back-canary",
        "poison-requests",
        "send-foreign-requests",
        "serve-pages",
    ]
    results = drill.run_drill(version_store.root, BOOK, names)
    assert {result.name: result.problem for result in results} == dict.fromkeys(names, "")
    assert results[0].numbers["responses"] > 0
    written_files = {path for path in version_store.root.rglob("*") if path.is_file()} - before
    folder = version_store.root / "reports" / BOOK
    assert {folder / "drill.html", folder / "drill.json"} <= written_files
    written_files -= {
        path for path in written_files if path.name.startswith("journal.db-")
    }  # SQLite's
    assert all(path.is_relative_to(folder) or path.suffix == ".lock" for path in written_files)


@pytest.mark.integration
@pytest.mark.requires("prometheus")
def test_failures_fire_as_many_alerts_as_the_report_states(version_store):
    rules = Path(__file__).parents[1] / "deploy/prometheus"
    shutil.copytree(rules, version_store.root / "deploy/prometheus")
    [result] = drill.run_drill(version_store.root, BOOK, ["fire-alerts"])
    assert (result.problem, result.skip_reason, len(result.numbers)) == ("", "", 7)
    assert missing_facts(result.guarantee, "Seven", "without the waiting times") == []


def test_broken_guarantee_is_reported_with_numbers(version_store, monkeypatch):
    def fail_requirement(copy: ServiceCopy) -> dict[str, int]:
        """No failures."""
        require(False, "too many failures", failures=3)
        return {}

    def fail(copy: ServiceCopy) -> dict[str, int]:
        """Nothing fails."""
        raise OSError("unreachable")

    def skip(copy: ServiceCopy) -> dict[str, int]:
        """Nothing is checked."""
        raise DrillSkipped("no program for it")

    checks = {"fail-requirement": fail_requirement, "fail": fail, "skip": skip}
    for name, check in checks.items():
        monkeypatch.setitem(GUARANTEES, name, check)
    results = drill.run_drill(version_store.root, BOOK, list(checks))
    assert [result.verdict for result in results] == ["broken", "broken", "not checked"]
    assert (results[0].problem, results[0].numbers) == ("too many failures", {"failures": 3})
    assert "unreachable" in results[1].problem
    page = (version_store.root / "reports" / BOOK / "drill.html").read_text()
    assert "too many failures" in page
    assert "no program for it" in page
    content = json.loads((version_store.root / "reports" / BOOK / "drill.json").read_text())
    results = content["results"]
    assert [result_entry["promise"] for result_entry in results] == [
        result_entry["guarantee"] for result_entry in results
    ]
    assert [result_entry["guarantee"] for result_entry in results] == [
        "No failures.",
        "Nothing fails.",
        "Nothing is checked.",
    ]


def test_service_that_does_not_end_is_killed(version_store, tmp_path, monkeypatch):
    monkeypatch.setattr(services, "WAIT_SECONDS", 0.5)
    copy = ServiceCopy(tmp_path, BOOK, 0, version_store.root)
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(99)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()  # it ignores the signal from now on
    copy._processes.append(process)
    copy.stop_all()
    assert process.wait(60) == -9


@pytest.mark.parametrize("queued_seconds", [0.0, 0.3])
def test_health_check_counts_no_wait_for_a_processor(version_store, tmp_path, queued_seconds):
    thread = tmp_path / "1" / "schedstat"
    thread.parent.mkdir()
    thread.write_text("5 1000 7")
    checked = threading.Event()

    def try_get(path: str) -> tuple[int, bytes]:
        time.sleep(0.3)
        thread.write_text(f"5 {1000 + queued_seconds * 1e9:.0f} 7")
        checked.set()
        poller._is_done.set()  # a second check would not wait for a processor
        return 200, b""

    copy = ServiceCopy(tmp_path, BOOK, 0, version_store.root)
    copy.try_get = try_get
    poller = hostile_requests.HealthPoller(copy, 1)
    poller._service_threads = tmp_path
    with poller.polling():
        assert checked.wait(60)
    assert (poller.longest_seconds > 0.25) is (queued_seconds == 0)


def test_memory_limit_of_drill_matches_manifest():
    manifest = Path(__file__).parents[1] / "deploy/kubernetes/base/service.yaml"
    [pod] = [
        part["spec"]["template"]["spec"]
        for part in yaml.safe_load_all(manifest.read_text())
        if part["kind"] == "Deployment"
    ]
    limit = pod["containers"][0]["resources"]["limits"]["memory"]
    assert limit == f"{hostile_requests.MAX_MEMORY_MB}Mi"
