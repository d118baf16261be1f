"""What the service promises: each function breaks something, and returns what it measured.

The docstring of a function is the promise as the report shows it.
"""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psutil

from modelbook.extras.drill.services import (
    Caller,
    ServiceCopy,
    count_statuses,
    finish,
    require,
    wait_until,
)
from modelbook.journal import Journal
from modelbook.journal.receipts import verify_predictions
from modelbook.registry.location import database_path

ANSWERS = 500  # answers before and after something breaks
VERIFIED_RECEIPTS = 20
MAX_HEALTH_SECONDS = 0.1
OPEN_SECONDS = 30
Numbers = dict[str, Any]


def _wait_for_answers(callers: list[Caller], count: int = ANSWERS) -> None:
    """Wait for so many more answers."""
    target = sum(len(caller.receipts) for caller in callers) + count

    def have_answers() -> bool:
        return sum(len(caller.receipts) for caller in callers) >= target

    wait_until(have_answers, 120, f"{count} answers did not come")


def _require_journaled(copy: ServiceCopy, receipts: dict[str, str]) -> Numbers:
    """Require that the journal holds all answers, and proves the last ones."""
    missing = receipts.keys() - copy.journaled_ids()
    numbers = {"answers": len(receipts), "missing in the journal": len(missing)}
    require(not missing, f"{len(missing)} answered predictions are missing in the journal")
    last = dict(list(receipts.items())[-VERIFIED_RECEIPTS:])
    proofs = verify_predictions(Journal(copy.url, copy.book, 60.0), last)
    problems = [proof.problem for proof in proofs if not proof.is_proven]
    require(not problems, f"a receipt is not proven: {problems[:1]}")
    return numbers | {"receipts proven": len(proofs)}


def restore_backup(copy: ServiceCopy) -> Numbers:
    """A backup that is restored elsewhere serves the same version, proven on its golden rows."""
    copy.start()
    ready = json.loads(copy.ask("GET", "/health/ready")[1])
    status, _ = copy.ask("POST", "/predict", json.dumps(copy.read_example()))
    require(status == 200, f"the restored service answers {status}")
    return {"files": copy.file_count, "golden rows reproduced": ready["golden_rows"]}


def kill_process(copy: ServiceCopy) -> Numbers:
    """No answered prediction is missing in the journal when the process is killed under load."""
    process = copy.start()
    callers = copy.call()
    _wait_for_answers(callers)
    process.kill()
    process.wait(30)
    return _require_journaled(copy, finish(callers))


def lock_journal(copy: ServiceCopy) -> Numbers:
    """While the journal is locked nothing is answered that it lacks; then answers go on."""
    copy.start()
    callers = copy.call()
    _wait_for_answers(callers)
    with closing(sqlite3.connect(copy.journal_path, timeout=30)) as connection:
        connection.execute("begin exclusive")
        time.sleep(3)
        connection.rollback()
    _wait_for_answers(callers)
    receipts = finish(callers)
    lost = copy.read_metric("modelbook_journal_lost_total")
    require(lost == 0, f"{lost:g} predictions were lost")
    return _require_journaled(copy, receipts) | _count_refusals(callers)


def fill_disk(copy: ServiceCopy) -> Numbers:
    """When the journal cannot grow, requests are refused; when it can again, they are answered."""
    process = copy.start()
    callers = copy.call()
    _wait_for_answers(callers)
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8192, unlimited[1]))
    wait_until(lambda: count_statuses(callers).get(503, 0) > 0, 60, "no request was refused")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    _wait_for_answers(callers)
    return _require_journaled(copy, finish(callers)) | _count_refusals(callers)


def remove_journal(copy: ServiceCopy) -> Numbers:
    """A removed journal is created anew; the loss is counted, and later answers are in it."""
    copy.start()
    callers = copy.call()
    _wait_for_answers(callers)
    for path in copy.journal_path.parent.glob(f"{copy.journal_path.name}*"):
        path.unlink()
    before = set().union(*(set(caller.receipts) for caller in callers))
    _wait_for_answers(callers)
    receipts = finish(callers)

    def is_counted() -> bool:
        return copy.read_metric("modelbook_journal_replaced_total") == 1

    wait_until(is_counted, 10, "the replaced journal was not counted")
    unproven = copy.read_metric("modelbook_journal_unproven_total")
    missing = receipts.keys() - copy.journaled_ids()
    require(len(missing) == unproven, f"{len(missing)} are missing, {unproven:g} were counted")
    # An answer of each caller may have arrived while the files were removed.
    later = {name: receipts[name] for name in receipts if name not in before | missing}
    return _require_journaled(copy, later) | {"counted as unproven": int(unproven)}


def hide_artifacts(copy: ServiceCopy) -> Numbers:
    """A version whose files are away is reported, tried again, and served when they are back."""
    folder = copy.find_artifacts()
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    copy.start(wait=False)
    wait_until(lambda: copy.try_ask("/health/ready")[0] == 503, 120, "it did not report it")
    reasons = json.loads(copy.ask("GET", "/health/ready")[1])["reasons"]
    require("champion" in reasons, "no reason is told")
    hidden.rename(folder)
    return {"seconds until ready": round(copy.wait_ready(), 1)}


def alter_artifacts(copy: ServiceCopy) -> Numbers:
    """A version whose files were altered is not served."""
    files = [path for path in copy.find_artifacts().rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    saved = largest.with_suffix(".saved")
    shutil.copy2(largest, copy.root / saved.name)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    copy.start(wait=False)
    wait_until(lambda: copy.try_ask("/health/ready")[0] == 503, 120, "it serves altered files")
    shutil.copy2(copy.root / saved.name, largest)
    return {"files": len(files), "seconds until ready": round(copy.wait_ready(), 1)}


def hide_store(copy: ServiceCopy) -> Numbers:
    """While the store is away the version in service answers; then aliases are followed again."""
    store = database_path(copy.root)
    require(store.is_file(), "the store is not a file of the copy")
    copy.start()
    callers = copy.call()
    store.rename(store.with_suffix(".away"))
    time.sleep(3)
    _wait_for_answers(callers)
    store.with_suffix(".away").rename(store)
    time.sleep(3)
    _wait_for_answers(callers)
    receipts, refusals = finish(callers), _count_refusals(callers)
    require(refusals["refused"] == 0, f"{refusals['refused']} requests were refused")
    require(copy.try_ask("/health/ready")[0] == 200, "it is not ready")
    return {"answers": len(receipts)} | refusals


def kill_worker(copy: ServiceCopy) -> Numbers:
    """A killed worker is replaced, its gauges go, and no answer of it is missing."""
    process = copy.start(workers=2)
    callers = copy.call(8)
    _wait_for_answers(callers)
    victim = copy.workers(process)[0]
    victim.kill()

    def is_replaced() -> bool:
        workers = copy.workers(process)
        return victim not in workers and len(workers) == 2 and _gauges_are(copy, 2)

    seconds = wait_until(is_replaced, 60, "it was not replaced")
    return _require_journaled(copy, finish(callers)) | {"seconds until replaced": round(seconds, 1)}


def kill_supervisor(copy: ServiceCopy) -> Numbers:
    """Workers end with a killed supervisor."""
    process = copy.start(workers=2)
    workers = copy.workers(process)
    require(len(workers) == 2, f"{len(workers)} workers are running")
    process.kill()
    process.wait(30)
    started = time.monotonic()
    _, alive = psutil.wait_procs(workers, timeout=OPEN_SECONDS)
    require(not alive, f"{len(alive)} workers are still running")
    return {"workers": len(workers), "seconds until ended": round(time.monotonic() - started, 1)}


def poison_requests(copy: ServiceCopy) -> Numbers:
    """Hostile requests are refused cheaply, and health answers within 100 ms meanwhile."""
    process = psutil.Process(copy.start().pid)
    waits, is_done = [0.0], threading.Event()

    def watch_health() -> None:
        while not is_done.is_set():
            started = time.perf_counter()
            copy.try_ask("/health/live")
            waits.append(time.perf_counter() - started)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch_health)
    watcher.start()
    statuses, cpu = [], []
    try:
        for path, kind, body in _hostile_requests():
            before = sum(process.cpu_times()[:2])
            statuses.append(copy.ask("POST", path, body, {"content-type": kind})[0])
            cpu.append(sum(process.cpu_times()[:2]) - before)
    finally:
        is_done.set()
        watcher.join()
    numbers = {
        "requests": len(statuses),
        "CPU of the costliest, ms": round(max(cpu) * 1000),
        "longest health check, ms": round(max(waits) * 1000),
    }
    require(all(400 <= status < 500 for status in statuses), f"statuses {statuses}", **numbers)
    require(max(waits) <= MAX_HEALTH_SECONDS, "a health check took longer", **numbers)
    return numbers


def _hostile_requests() -> list[tuple[str, str, bytes]]:
    json_type, csv_type = "application/json", "text/csv"
    names = b",".join(b'"k%d":1' % i for i in range(60_000))
    return [
        ("/predict", json_type, b"[" + b"{}," * 299_999 + b"{}]"),
        ("/predict", json_type, b"{" + names + b"}"),
        ("/predict", json_type, b"[" * 1_000_000),
        ("/predict", json_type, b'["' + b'\\"' * 499_000),
        ("/outcomes", json_type, b"[" + b"{}," * 299_999 + b"{}]"),
        ("/predict/csv", csv_type, b",".join(b"c%d" % i for i in range(100_000))),
        ("/predict/csv", csv_type, b"\n" * 1_000_000),
        ("/", "application/x-www-form-urlencoded", b"a=1&" * 200_000),
    ]


def _gauges_are(copy: ServiceCopy, count: int) -> bool:
    try:
        return (
            copy.read_metric("modelbook_journal_up")
            == count
            == copy.read_metric("modelbook_workers")
        )
    except OSError:
        return False


def _count_refusals(callers: list[Caller]) -> Numbers:
    statuses = count_statuses(callers)
    return {"refused": sum(count for status, count in statuses.items() if status != 200)}


PROMISES: dict[str, Callable[[ServiceCopy], Numbers]] = {
    check.__name__.replace("_", "-"): check
    for check in (
        restore_backup, kill_process, lock_journal, fill_disk, remove_journal, hide_artifacts,
        alter_artifacts, hide_store, kill_worker, kill_supervisor, poison_requests,
    )
}  # fmt: skip
