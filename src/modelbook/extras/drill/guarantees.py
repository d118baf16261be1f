"""Guarantees of the service: each function breaks something, and returns its measurements.

The docstring of a function is the guarantee as the report shows it.
"""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil

from modelbook.extras.drill.alerts import fire_alerts
from modelbook.extras.drill.hostile_requests import (
    flood_headers,
    poison_requests,
    send_foreign_requests,
    serve_pages,
)
from modelbook.extras.drill.services import (
    JOURNAL_SECONDS,
    WAIT_SECONDS,
    Measurements,
    ServiceCopy,
    count_rejections,
    count_statuses,
    require,
    require_journaled,
    require_served,
    stop_clients,
    wait_for_responses,
    wait_until,
)
from modelbook.formatting import format_count
from modelbook.journal import Journal
from modelbook.journal.hash_chain import verify_predictions
from modelbook.registry.aliases import CHALLENGER, CHAMPION
from modelbook.registry.location import get_database_path

NO_DRIFT = 1e-9
PAUSE_SECONDS = 7  # longer than uvicorn's default for a worker's health check


def restore_backup(copy: ServiceCopy) -> Measurements:
    """A backup that is restored elsewhere serves the same version, checked by its golden rows."""
    copy.start()
    ready = json.loads(copy.send("GET", "/health/ready")[1])
    status, _ = copy.send("POST", "/predict", json.dumps(copy.read_example()))
    require(status == 200, f"the restored service responds with {status}")
    return {"files": copy.file_count, "golden rows reproduced": ready["golden_rows"]}


def kill_process(copy: ServiceCopy) -> Measurements:
    """No returned prediction is missing in the journal when the process is killed under load."""
    process = copy.start()
    clients = copy.start_clients()
    wait_for_responses(clients)
    process.kill()
    process.wait(WAIT_SECONDS)
    return require_journaled(copy, stop_clients(clients))


def lock_journal(copy: ServiceCopy) -> Measurements:
    """While the journal is locked, no prediction is returned without being journaled."""
    copy.start(JOURNAL__TIMEOUT_SECONDS=1)
    clients = copy.start_clients()
    wait_for_responses(clients)
    with closing(sqlite3.connect(copy.journal_path, timeout=30)) as connection:
        connection.execute("begin exclusive")
        time.sleep(3)
        connection.rollback()
    wait_for_responses(clients)
    row_hashes = stop_clients(clients)
    lost = copy.read_metric("modelbook_journal_lost_total")
    require(lost == 0, f"{lost:g} predictions were lost")
    return require_journaled(copy, row_hashes) | count_rejections(clients)


def fill_disk(copy: ServiceCopy) -> Measurements:
    """Requests are rejected while the journal cannot grow, and served again afterwards."""
    process = copy.start()
    clients = copy.start_clients()
    wait_for_responses(clients)
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8192, unlimited[1]))
    wait_until(lambda: count_statuses(clients).get(503, 0) > 0, "no request was refused")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    wait_for_responses(clients)
    return require_journaled(copy, stop_clients(clients)) | count_rejections(clients)


def remove_journal(copy: ServiceCopy) -> Measurements:
    """A removed journal is created again, with all later rows; the loss is counted exactly."""

    def remove(path: Path) -> None:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()

    numbers = _damage_journal(copy, remove)
    missing, n_orphaned = numbers["missing"], numbers["counted as orphaned"]
    require(missing == n_orphaned, f"{missing} are missing, {n_orphaned} were counted", **numbers)
    return numbers


def replace_journal(copy: ServiceCopy) -> Measurements:
    """The replacement of a journal in use by a backup is detected, and the loss is counted."""

    def replace(path: Path) -> None:
        backup = path.with_name("backup.db")
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        backup.replace(path)
        for suffix in ("-wal", "-shm"):
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)

    return _damage_journal(copy, replace)


def _damage_journal(copy: ServiceCopy, damage: Callable[[Path], None]) -> Measurements:
    copy.start()
    clients = copy.start_clients()
    wait_for_responses(clients)
    damage(copy.journal_path)
    before = set().union(*(set(client.row_hashes) for client in clients))
    wait_for_responses(clients)
    row_hashes = stop_clients(clients)

    def is_counted() -> bool:
        return copy.read_metric("modelbook_journal_replaced_total") == 1

    wait_until(is_counted, "the replaced journal was not counted")
    orphaned = copy.read_metric("modelbook_journal_orphaned_total")
    missing = row_hashes.keys() - copy.read_journaled_ids()
    # What the backup holds of them was counted, too: the service cannot know it.
    require(len(missing) <= orphaned, f"{len(missing)} are missing, {orphaned:g} were counted")
    # A response to each client may have arrived while the files were damaged.
    later = {name: row_hashes[name] for name in row_hashes if name not in before | missing}
    return require_journaled(copy, later) | {
        "missing": len(missing),
        "counted as orphaned": int(orphaned),
    }


def alter_journal(copy: ServiceCopy) -> Measurements:
    """Hashes verify unaltered rows, and identify an altered row and a deleted one."""
    process = copy.start()
    clients = copy.start_clients(1)
    wait_for_responses(clients, 50)
    row_hashes = stop_clients(clients)
    process.terminate()
    process.wait(WAIT_SECONDS)
    altered, deleted, intact = (list(row_hashes)[i] for i in (10, 20, 30))
    with closing(sqlite3.connect(copy.journal_path)) as connection, connection:
        connection.execute("update predictions set inputs = '{}' where id = ?", (altered,))
        connection.execute("delete from predictions where id = ?", (deleted,))
    results = verify_predictions(Journal(copy.url, copy.book, JOURNAL_SECONDS), row_hashes)
    problems = {result.prediction_id: result.problem for result in results if result.problem}
    require("altered" in problems.get(altered, ""), "an altered row is not found")
    require("not in the journal" in problems.get(deleted, ""), "a deleted row is not found")
    require(intact not in problems, "an unaltered row is not verified")
    return {
        "rows": len(row_hashes),
        "verified": len(results) - len(problems),
        "altered": 1,
        "deleted": 1,
    }


def hide_artifacts(copy: ServiceCopy) -> Measurements:
    """A version with missing files is reported and tried again; it is served once they are back."""
    folder = copy.find_artifacts()
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    copy.start(wait=False)
    wait_until(lambda: copy.try_get("/health/ready")[0] == 503, "it did not report it")
    reasons = json.loads(copy.send("GET", "/health/ready")[1])["reasons"]
    require("champion" in reasons, "the response gives no reason")
    hidden.rename(folder)
    return {"seconds until ready": round(copy.wait_ready(), 1)}


def alter_artifacts(copy: ServiceCopy) -> Measurements:
    """A version whose files were altered is not served."""
    files = [path for path in copy.find_artifacts().rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    saved = largest.with_suffix(".saved")
    shutil.copy2(largest, copy.root / saved.name)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    copy.start(wait=False)
    wait_until(lambda: copy.try_get("/health/ready")[0] == 503, "it serves altered files")
    shutil.copy2(copy.root / saved.name, largest)
    return {"files": len(files), "seconds until ready": round(copy.wait_ready(), 1)}


def hide_store(copy: ServiceCopy) -> Measurements:
    """Without its store the service predicts; with the store again, it follows the aliases."""
    store = get_database_path(copy.root)
    require(store.is_file(), "the store is not a file of the copy")
    copy.start()
    clients = copy.start_clients()
    store.rename(store.with_suffix(".away"))
    time.sleep(3)
    wait_for_responses(clients)
    store.with_suffix(".away").rename(store)
    time.sleep(3)
    wait_for_responses(clients)
    row_hashes = require_served(clients)
    require(copy.try_get("/health/ready")[0] == 200, "it is not ready")
    return {"responses": len(row_hashes), "refused": 0}


def promote_version(copy: ServiceCopy) -> Measurements:
    """A promotion under load fails no request, and all workers follow it."""
    copy.start(workers=2)
    number, _ = copy.add_version()
    clients = copy.start_clients(8)
    wait_for_responses(clients)
    copy.set_alias(CHAMPION, number)
    seconds = wait_until(
        lambda: all(client.version == number for client in clients), "not all workers follow"
    )
    wait_for_responses(clients)
    row_hashes = require_served(clients)
    return require_journaled(copy, row_hashes) | {"seconds until all follow": round(seconds, 1)}


def promote_absent_version(copy: ServiceCopy) -> Measurements:
    """While a promoted version fails to load, its predecessor serves; each worker reports it."""
    copy.start(workers=2)
    number, folder = copy.add_version()
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    clients = copy.start_clients(8)
    copy.set_alias(CHAMPION, number)
    wait_until(lambda: copy.metric_equals("modelbook_workers_behind", 2), "workers do not differ")
    wait_for_responses(clients)
    n_failing_workers = copy.read_metric("modelbook_version_refused")
    require(n_failing_workers == 2, f"{n_failing_workers:g} of 2 workers report the failure")
    status, body = copy.send("GET", "/health/ready")
    reasons = json.loads(body)["reasons"]
    require(status == 200 and "champion" in reasons, f"ready is {status} for {reasons}")
    hidden.rename(folder)
    seconds = wait_until(
        lambda: all(client.version == number for client in clients), "it is not tried again"
    )
    row_hashes = require_served(clients)
    return require_journaled(copy, row_hashes) | {"seconds until all follow": round(seconds, 1)}


def roll_back_canary(copy: ServiceCopy) -> Measurements:
    """A canary whose predictions drift beyond the limit loses its traffic, and no request fails."""
    number, _ = copy.add_version()
    copy.set_alias(CHALLENGER, number)
    salt, share = "drill", 0.5
    copy.start(
        TRAFFIC__MODE="canary",
        TRAFFIC__SALT=salt,
        TRAFFIC__CHALLENGER_SHARE=share,
        TRAFFIC__CANARY_MAX_DRIFT=NO_DRIFT,
    )
    # The versions are equal: each variant gets different rows, so that predictions differ.
    clients = copy.start_variant_clients(salt, share)
    wait_until(
        lambda: copy.metric_equals("modelbook_canary_rolled_back", 1), "it keeps its traffic"
    )
    seconds = wait_until(
        lambda: all(client.version != number for client in clients), "it still predicts"
    )
    wait_for_responses(clients)
    require(all(client.version != number for client in clients), "it predicts again")
    row_hashes = require_served(clients)
    return require_journaled(copy, row_hashes) | {"seconds until the champion": round(seconds, 1)}


def kill_worker(copy: ServiceCopy) -> Measurements:
    """A killed worker is replaced, leaves no gauges, and none of its predictions is missing."""
    process = copy.start(workers=2)
    clients = copy.start_clients(8)
    wait_for_responses(clients)
    victim = copy.list_workers(process)[0]
    victim.kill()

    def is_replaced() -> bool:
        workers = copy.list_workers(process)
        return (
            victim not in workers
            and len(workers) == 2
            and all(
                copy.metric_equals(name, 2)
                for name in ("modelbook_journal_up", "modelbook_workers")
            )
        )

    seconds = wait_until(is_replaced, "it was not replaced")
    return require_journaled(copy, stop_clients(clients)) | {
        "seconds until replaced": round(seconds, 1)
    }


def pause_worker(copy: ServiceCopy) -> Measurements:
    """A worker that does not respond for some seconds, as on a slow machine, is not killed."""
    process = copy.start(workers=2)
    workers = copy.list_workers(process)
    workers[0].suspend()
    try:
        time.sleep(PAUSE_SECONDS)
    finally:
        workers[0].resume()
    clients = copy.start_clients(8)
    wait_for_responses(clients)
    require(copy.list_workers(process) == workers, "a worker was replaced")
    return require_journaled(copy, stop_clients(clients)) | {"seconds paused": PAUSE_SECONDS}


def kill_supervisor(copy: ServiceCopy) -> Measurements:
    """Workers end when their supervisor is killed."""
    process = copy.start(workers=2)
    workers = copy.list_workers(process)
    require(len(workers) == 2, f"{len(workers)} workers are running")
    process.kill()
    process.wait(WAIT_SECONDS)
    start_time = time.monotonic()
    _, alive = psutil.wait_procs(workers, timeout=WAIT_SECONDS)
    require(not alive, f"still running: {format_count(len(alive), 'worker')}")
    return {"workers": len(workers), "seconds until ended": round(time.monotonic() - start_time, 1)}


GUARANTEES: dict[str, Callable[[ServiceCopy], Measurements]] = {
    check.__name__.replace("_", "-"): check
    for check in (
        restore_backup, kill_process, lock_journal, fill_disk, remove_journal, replace_journal,
        alter_journal, hide_artifacts, alter_artifacts, hide_store, promote_version,
        promote_absent_version, roll_back_canary, kill_worker, pause_worker, kill_supervisor,
        poison_requests, flood_headers, send_foreign_requests, serve_pages, fire_alerts,
    )
}  # fmt: skip
