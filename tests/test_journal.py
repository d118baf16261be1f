"""Journal: durability, outcomes, hash chain, retention, and behaviour when the database is down."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from servers import PASSWORD, postgresql
from text_facts import missing_facts, raises_stating

from modelbook.errors import JournalError
from modelbook.journal import Journal, JournalWriter, PredictionRecord, database
from modelbook.journal import writer as writer_module
from modelbook.journal.database import (
    ConflictingOutcomeError,
    UnknownPredictionError,
    get_default_url,
)
from modelbook.journal.hash_chain import verify_predictions
from modelbook.journal.schema import SCHEMA_VERSION


def make_prediction(number: int, at: float = 1000.0, variant: str = "champion") -> PredictionRecord:
    return PredictionRecord(
        f"id-{number}", variant, at, 3, True, '{"size": 1.5}', "1", '{"0": 0.4, "1": 0.6}', 0.2
    )


PATIENT_SECONDS = 20.0  # for tests of written rows, not of time limits


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    result = Journal(get_default_url(tmp_path, "tiny"), "tiny", timeout_seconds=0.3)
    result.create_tables()
    return result


def write_groups(
    journal: Journal, *groups: list[PredictionRecord]
) -> tuple[list[Any], JournalWriter]:
    """Write groups at the same time; returns whether each is in the journal."""

    async def run() -> tuple[list[Any], JournalWriter]:
        writer = JournalWriter(journal)
        writer.start()
        result = await asyncio.gather(*(writer.write(group) for group in groups))
        await writer.stop()
        return result, writer

    return asyncio.run(run())


def test_written_predictions_are_read_by_another_connection(
    journal: Journal, tmp_path: Path
) -> None:
    journal.timeout_seconds = PATIENT_SECONDS
    result, writer = write_groups(journal, *([make_prediction(number)] for number in range(50)))
    assert [len(row_hashes) for row_hashes in result] == [1] * 50
    assert (writer.written_count, writer.lost_count) == (50, 0)
    with closing(sqlite3.connect(tmp_path / "data/tiny/journal.db")) as connection:
        assert connection.execute(
            "select count(*), min(prediction) from predictions"
        ).fetchone() == (50, "1")


def test_requests_of_successive_iterations_share_a_commit(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.timeout_seconds = PATIENT_SECONDS
    commits: list[int] = []
    commit = JournalWriter._commit
    monkeypatch.setattr(
        JournalWriter,
        "_commit",
        lambda writer, rows: commits.append(len(rows)) or commit(writer, rows),
    )

    async def write_after(writer: JournalWriter, iterations: int) -> list[str] | None:
        for _ in range(iterations):
            await asyncio.sleep(0)
        return await writer.write([make_prediction(iterations)])

    async def run() -> None:
        writer = JournalWriter(journal)
        writer.start()
        row_hashes = await asyncio.gather(*(write_after(writer, number) for number in range(10)))
        assert all(row_hashes)
        await writer.stop()

    asyncio.run(run())
    assert commits == [10]


def test_large_write_is_split_into_statements(journal: Journal) -> None:
    """SQLite accepts about 32,000 values per statement; an uploaded table may have more."""
    journal.timeout_seconds = PATIENT_SECONDS
    result, writer = write_groups(
        journal, [make_prediction(number, at=number) for number in range(4500)]
    )
    assert (len(result[0]), writer.written_count, writer.lost_count) == (4500, 4500, 0)
    assert [row["id"] for row in journal.read_predictions(0)] == [
        f"id-{number}" for number in range(4500)
    ]


def test_repeated_prediction_is_stored_once(journal: Journal) -> None:
    write_groups(
        journal,
        [make_prediction(1)],
        [make_prediction(1)],
        [make_prediction(1, variant="challenger")],
    )
    assert len(journal.read_predictions(0)) == 1
    assert len(journal.read_predictions(0, variant="challenger")) == 1


def test_window_contains_predictions_with_known_outcomes(journal: Journal) -> None:
    write_groups(journal, [make_prediction(number, at=1000.0 + number) for number in range(5)])
    assert len(journal.record_outcomes({"id-3": True})) == 1
    rows = journal.read_predictions(1001)
    assert [row["id"] for row in rows] == ["id-1", "id-2", "id-3", "id-4"]
    assert [row["outcome"] for row in rows] == [None, None, True, None]
    assert rows[0]["inputs"] == {"size": 1.5}
    assert rows[0]["probabilities"] == {"0": 0.4, "1": 0.6}


def test_outcome_is_recorded_once(journal: Journal) -> None:
    write_groups(journal, [make_prediction(number) for number in range(900)])
    assert len(journal.record_outcomes({f"id-{number}": 1 for number in range(850)})) == 850
    assert len(journal.record_outcomes({"id-1": 1, "id-899": 0})) == 1
    with pytest.raises(ConflictingOutcomeError, match="'id-1'"):
        journal.record_outcomes({"id-1": 0, "id-898": 0})
    with pytest.raises(UnknownPredictionError, match="'nobody'"):
        journal.record_outcomes({"nobody": 1, "id-898": 0})
    assert [row["outcome"] for row in journal.read_predictions(0) if row["id"] == "id-898"] == [
        None
    ], "all or none"


def test_sqlite_wal_is_checkpointed_during_writes(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "data/tiny/journal.db"

    async def run() -> None:
        writer = JournalWriter(journal)
        writer.start()
        for number in range(300):
            await writer.write([make_prediction(number)])
        before = path.stat().st_size
        journal.checkpoint()
        assert path.stat().st_size > before
        assert await writer.write([make_prediction(300)])
        await writer.stop()

    asyncio.run(run())
    assert len(journal.read_predictions(0)) == 301


def measure_wal(journal: Journal, count: int) -> int:
    """Bytes of the write-ahead log after ``count`` predictions of a busy service."""

    async def run() -> None:
        writer = JournalWriter(journal)
        writer.start()

        async def write(start: int) -> None:
            for number in range(start, start + count // 4):
                time.sleep(0.0002)  # the event loop predicts
                assert await writer.write([make_prediction(number)])

        async def settle() -> None:
            while True:
                await asyncio.to_thread(journal.checkpoint)
                await asyncio.sleep(0.02)

        tidy = asyncio.create_task(settle())
        await asyncio.gather(*(write(start) for start in range(0, count, count // 4)))
        tidy.cancel()
        await writer.stop()

    asyncio.run(run())
    assert len(journal.read_predictions(0)) == count
    return Path(f"{journal.url.removeprefix('sqlite:///')}-wal").stat().st_size


@pytest.mark.long
def test_sqlite_wal_stays_bounded_under_continuous_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    for restart_pages in (10**9, 50):
        monkeypatch.setattr(database, "WAL_RESTART_PAGES", restart_pages)
        with closing(
            sqlite3.connect(tmp_path / f"{restart_pages}.db")
        ) as reader:  # an open reader keeps the log
            journal = Journal(f"sqlite:///{tmp_path / f'{restart_pages}.db'}", "tiny")
            journal.create_tables()
            reader.execute("select 1 from predictions").fetchall()
            sizes.append(measure_wal(journal, 2000))
    assert sizes[1] < 0.5 * sizes[0]


def test_retention_deletes_predictions_with_outcomes(journal: Journal) -> None:
    write_groups(journal, [make_prediction(number, at=1000.0 + number) for number in range(5)])
    journal.record_outcomes({"id-0": 1, "id-4": 1})
    assert journal.delete_before(1003) == 3
    assert [row["id"] for row in journal.read_predictions(0)] == ["id-3", "id-4"]
    with pytest.raises(UnknownPredictionError):
        journal.record_outcomes({"id-0": 1})


@pytest.mark.long
def test_write_to_locked_journal_times_out_and_is_retried(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 3600)

    async def run() -> None:
        messages: list[str] = []
        writer = JournalWriter(journal, messages.append)
        writer.start()
        with closing(sqlite3.connect(tmp_path / "data/tiny/journal.db")) as lock:
            lock.execute("begin exclusive")
            shadow = make_prediction(1, variant="challenger")._replace(was_returned=False)
            # While the lock is held.
            assert not await writer.write([make_prediction(1), shadow])
            await wait(lambda: not writer.is_up)
            with pytest.raises(StopIteration) as write_result:  # no wait while the journal is down
                writer.write([make_prediction(2)]).send(None)
            assert write_result.value.value is None
        writer._retry_at = 0.0
        assert await writer.write([make_prediction(3)])
        assert (writer.lost_count, writer.is_up) == (2, True)
        assert missing_facts(messages[0], f"{tmp_path}/data/tiny/journal.db", "locked") == []
        assert len(messages) == 2  # when it went down, and when it was back
        await writer.stop()

    asyncio.run(run())
    assert "id-3" in {row["id"] for row in journal.read_predictions(0)}


def test_removed_journal_is_recreated_with_unchecked_rows(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FILE_CHECK_SECONDS", 3600.0)

    async def run() -> None:
        messages: list[str] = []
        writer = JournalWriter(journal, messages.append)
        writer.start()

        async def write_and_check(*numbers: int) -> list[str]:
            writer._checked_at = float("-inf")  # so that the next write checks the file
            row_hashes = await writer.write([make_prediction(number) for number in numbers])
            assert row_hashes is not None
            return row_hashes

        await write_and_check(1, 2)
        assert await writer.write([make_prediction(3)])
        for file in (tmp_path / "data/tiny").iterdir():
            file.unlink()
        row_hashes = await write_and_check(4)
        assert read_ids(journal) == {"id-3", "id-4"}
        assert (writer.replaced_count, writer.orphaned_count, writer.lost_count) == (1, 2, 0)
        assert missing_facts(messages[0], f"{tmp_path}/data/tiny/journal.db", 2) == []
        [verification] = verify_predictions(journal, {"id-4": row_hashes[0]})
        assert verification.is_verified
        (tmp_path / "data/tiny/journal.db-wal").unlink()
        await write_and_check(5)
        assert writer.replaced_count == 2
        assert "id-5" in read_ids(journal)
        await writer.stop()

    asyncio.run(run())


def read_ids(journal: Journal) -> set[str]:
    """Ids in the journal; none while it has no tables."""
    try:
        return {row["id"] for row in journal.read_predictions(0)}
    except JournalError:
        return set()


async def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_removed_journal_is_detected_without_writes(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FILE_CHECK_SECONDS", 0.02)
    path = tmp_path / "data/tiny/journal.db"

    async def run() -> None:
        writer = JournalWriter(journal)
        writer.start()
        assert await writer.write([make_prediction(1)])
        path.unlink()
        await wait(lambda: bool(writer.replaced_count) and path.is_file())
        assert writer.orphaned_count == 1
        await writer.stop()

    asyncio.run(run())


@pytest.mark.long
def test_refusing_writer_loses_no_predictions(journal: Journal, tmp_path: Path) -> None:
    async def run(predict_if_unavailable: bool) -> tuple[int, set[str]]:
        writer = JournalWriter(journal, predict_if_unavailable=predict_if_unavailable)
        writer.start()
        with closing(sqlite3.connect(tmp_path / "data/tiny/journal.db")) as lock:
            lock.execute("begin exclusive")
            result = await asyncio.gather(*(writer.write([make_prediction(n)]) for n in range(5)))
            result.append(await writer.write([make_prediction(5)]))
            assert result == [None] * 6
        await writer.stop()
        return writer.lost_count, {row["id"] for row in journal.read_predictions(0)}

    n_lost, prediction_ids = asyncio.run(run(predict_if_unavailable=True))
    assert n_lost == 6 - len(prediction_ids), "predictions that were returned but not journaled"
    assert asyncio.run(run(predict_if_unavailable=False))[0] == 0


class TestHashChain:
    @pytest.fixture
    def row_hashes(self, journal: Journal) -> dict[str, str]:
        """Hashes of ten predictions, two in each group."""
        journal.timeout_seconds = PATIENT_SECONDS
        groups = [[make_prediction(n), make_prediction(n + 5)] for n in range(5)]
        result, _ = write_groups(journal, *groups)
        return {
            record.id: row_hash
            for group, inputs in zip(groups, result)
            for record, row_hash in zip(group, inputs)
        }

    def problems(self, journal: Journal, row_hashes: dict[str, str]) -> dict[str, str]:
        results = verify_predictions(journal, row_hashes)
        return {
            verification.prediction_id: verification.problem
            for verification in results
            if not verification.is_verified
        }

    def execute(self, journal: Journal, statement: str) -> None:
        with journal.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def test_hashes_verify_written_predictions(self, journal, row_hashes):
        assert len(set(row_hashes.values())) == 10
        assert self.problems(journal, row_hashes) == {}
        assert self.problems(journal, dict.fromkeys(row_hashes)) == {}
        assert list(self.problems(journal, {"id-1": "0" * 20})) == ["id-1"]

    @pytest.mark.parametrize(
        "change",
        ["inputs = '{}'", "prediction = '0'", "at = at + 1", "version = 4", "bucket = 'a'"],
    )
    def test_altered_row_is_named(self, journal, row_hashes, change):
        self.execute(journal, f"update predictions set {change} where id = 'id-3'")
        assert "altered" in self.problems(journal, row_hashes)["id-3"]

    def test_deleted_rows_are_named(self, journal, row_hashes):
        self.execute(journal, "delete from predictions where position in (3, 4)")
        with journal.engine.connect() as connection:
            after = connection.exec_driver_sql(
                "select id from predictions where position = 5"
            ).scalar()
        problems = self.problems(journal, row_hashes)
        assert len(problems) == 3, "the two, and the row after them"
        assert missing_facts(problems[after], 3, 4) == []

    def test_missing_prediction_is_located_in_time(self, journal, row_hashes):
        [verification] = verify_predictions(journal, {f"{1_000_500:012x}" + "0" * 20: None})
        assert missing_facts(verification.problem, "1970-01-01 00:16:40.500") == []

    @pytest.mark.parametrize("prediction_id", ["12345", "a" * 32])
    def test_missing_prediction_with_an_id_of_another_program_has_no_time(
        self, journal, row_hashes, prediction_id
    ):
        [verification] = verify_predictions(journal, {prediction_id: None})
        assert "timestamp" in verification.problem

    def test_repeated_prediction_returns_first_hash(self, journal, row_hashes):
        result, _ = write_groups(
            journal,
            [make_prediction(20), make_prediction(1), make_prediction(20), make_prediction(21)],
        )
        assert result[0][1] == row_hashes["id-1"]
        assert result[0][0] == result[0][2]
        inputs = {"id-20": result[0][0], "id-21": result[0][3]}
        assert self.problems(journal, row_hashes | inputs) == {}

    @pytest.mark.long
    def test_failed_commit_leaves_no_gap(self, journal, tmp_path):
        async def run() -> list[Any]:
            writer = JournalWriter(journal)
            writer.start()
            result = [await writer.write([make_prediction(1)])]
            with closing(sqlite3.connect(tmp_path / "data/tiny/journal.db")) as lock:
                lock.execute("begin exclusive")
                assert await writer.write([make_prediction(2)]) is None
                await wait(lambda: not writer.is_up)  # its commit has failed, too
            writer._retry_at = 0.0
            result.append(await writer.write([make_prediction(3)]))
            await writer.stop()
            return result

        first, last = asyncio.run(run())
        assert self.problems(journal, {"id-1": first[0], "id-3": last[0]}) == {}


def test_full_sync_sets_sqlite_synchronous(tmp_path: Path) -> None:
    for sync, level in (("normal", 1), ("full", 2)):
        journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}", "tiny", sync=sync)
        with journal.engine.connect() as connection:
            assert connection.exec_driver_sql("pragma synchronous").scalar() == level


@pytest.mark.parametrize("url", ["mysql://nobody", "what is this", "oracle://"])
def test_unsupported_journal_url_raises(url: str) -> None:
    with raises_stating(JournalError, url, "sqlite:///"):
        Journal(url, "tiny")


def test_unreachable_journal_is_reported_without_password(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    with raises_stating(JournalError, tmp_path / "folder.db", "unable to open"):  # as SQLite says
        Journal(f"sqlite:///{tmp_path / 'folder.db'}", "tiny").create_tables()
    with raises_stating(JournalError, "127.0.0.1:1/tiny") as exc_info:
        Journal(f"postgresql+psycopg://owner:{PASSWORD}@127.0.0.1:1/tiny", "tiny").create_tables()
    assert PASSWORD not in str(exc_info.value)


@pytest.mark.long
def test_books_in_one_journal_are_separate(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    journal, other_journal = Journal(url, "one"), Journal(url, "other")
    for book, count in ((journal, 20), (other_journal, 60)):
        book.create_tables()
        write_groups(book, *([make_prediction(number)] for number in range(count)))
    assert (len(journal.read_predictions(0)), len(other_journal.read_predictions(0))) == (20, 60)
    assert len(list(journal.read_ab_predictions(0, [3]))) in (0, 20)
    assert len(list(other_journal.read_predictions_excluding(0, excluded_version=99))) == 60
    with pytest.raises(UnknownPredictionError):
        journal.record_outcomes({"id-30": 1})  # of the other book
    assert len(journal.record_outcomes({"id-3": 1})) == 1
    assert len(other_journal.record_outcomes({"id-3": 0})) == 1
    assert journal.find_returned_prediction("id-30") is None
    assert other_journal.find_returned_prediction("id-30") is not None
    assert journal.delete_before(1e12) == 20
    assert sum(row["outcome"] == 0 for row in other_journal.read_predictions(0)) == 1


def test_journal_with_other_schema_raises(tmp_path: Path) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'other.db'}", "tiny")
    with journal.engine.begin() as connection:
        connection.exec_driver_sql("create table predictions (id, variant, at, version)")
    with raises_stating(
        JournalError, "predictions.id", "predictions.variant", f"schema {SCHEMA_VERSION}"
    ):
        journal.create_tables()
    assert sa.inspect(journal.engine).get_table_names() == ["predictions"]


def test_a_journal_of_a_newer_schema_is_refused(journal: Journal) -> None:
    write_groups(journal, [make_prediction(1)])
    with journal.engine.begin() as connection:
        connection.exec_driver_sql("update journal_schema set version = 99")
    for call in (journal.create_tables, journal.migrate):
        with raises_stating(JournalError, "schema 99", f"schema {SCHEMA_VERSION}") as exc_info:
            call()
        assert missing_facts(exc_info.value.next, "newer", "journal.url") == []
    assert len(journal.read_predictions(0)) == 1


# The tables of the first commit that had a journal, with two predictions and an outcome.
OLDEST = """
create table predictions (
  id varchar(64) not null, variant varchar(16) not null, at float not null, version integer not null,
  answered boolean not null, inputs text not null, prediction text not null, probabilities text,
  milliseconds float not null, lot varchar(16), primary key (id, variant));
create index ix_predictions_at on predictions (at);
create table outcomes (
  id varchar(64) not null, at float not null, outcome text not null, primary key (id));
create index ix_outcomes_at on outcomes (at);
insert into predictions values ('id-1', 'champion', 1000.0, 3, 1, '{"size": 1.5}', '1', null, 2.5, 'ab');
insert into predictions values ('id-1', 'challenger', 1000.0, 4, 0, '{"size": 1.5}', '0', null, 3.5, 'ab');
insert into outcomes values ('id-1', 2000.0, 'true');
"""


def make_oldest(path: Path) -> Journal:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLDEST)
    return Journal(f"sqlite:///{path}", "tiny")


@pytest.mark.long
def test_a_journal_of_the_oldest_schema_is_migrated_with_its_rows(tmp_path: Path) -> None:
    journal = make_oldest(tmp_path / "old.db")
    with raises_stating(JournalError, "schema 1", f"schema {SCHEMA_VERSION}", "modelbook upgrade"):
        journal.create_tables()
    journal.migrate()
    journal.migrate()  # nothing is left to do
    journal.create_tables()
    [row] = journal.read_predictions(0)
    assert row == {
        "book": "tiny", "id": "id-1", "variant": "champion", "at": 1000.0, "version": 3, "returned": True,
        "inputs": {"size": 1.5}, "prediction": 1, "probabilities": None, "milliseconds": 2.5, "bucket": "ab",
        "chain": None, "position": None, "previous_hash": None, "row_hash": None, "outcome": True,
    }  # fmt: skip
    [shadow] = journal.read_predictions(0, variant="challenger")
    assert (shadow["version"], shadow["returned"]) == (4, False)
    assert Journal(journal.url, "other").read_predictions(0) == []
    [verification] = verify_predictions(journal, {"id-1": None})
    assert missing_facts(verification.problem, "no hash") == []
    write_groups(journal, [make_prediction(2)])
    assert len(journal.record_outcomes({"id-1": True, "id-2": False})) == 1


def rename_back(journal: Journal) -> None:
    """Rename the hash columns of a journal to their former names."""
    with journal.engine.begin() as connection:
        for name, old in (("previous_hash", "previous_receipt"), ("row_hash", "receipt")):
            connection.exec_driver_sql(f"alter table predictions rename column {name} to {old}")
        connection.exec_driver_sql("drop table journal_schema")


def test_hashes_hold_after_a_migration(journal: Journal) -> None:
    journal.timeout_seconds = PATIENT_SECONDS
    row_hashes, _ = write_groups(journal, *([make_prediction(number)] for number in range(20)))
    before = journal.read_predictions(0)
    rename_back(journal)
    assert journal.read_schema_version() == SCHEMA_VERSION - 1
    journal.migrate()
    assert journal.read_predictions(0) == before
    results = verify_predictions(journal, {f"id-{n}": row_hashes[n][0] for n in range(20)})
    assert [verification for verification in results if not verification.is_verified] == []


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    journal = make_oldest(tmp_path / "old.db")
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("create table outcomes_before_migration (id)")  # the second table fails
    with raises_stating(JournalError, "outcomes_before_migration"):
        journal.migrate()
    assert journal.read_schema_version() == 1
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        assert connection.execute("select count(*) from predictions").fetchone() == (2,)


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own."""
    with postgresql() as server:
        yield server.url()


@pytest.mark.slow
def test_postgresql_journal_behaves_like_sqlite(postgres: str) -> None:
    journal = Journal(postgres, "tiny", timeout_seconds=2)
    journal.create_tables()
    result, _ = write_groups(
        journal, *([make_prediction(number)] for number in range(50)), [make_prediction(1)]
    )
    assert result[50] == result[1]
    row_hashes = {f"id-{number}": result[number][0] for number in range(50)}
    assert [
        check for check in verify_predictions(journal, row_hashes) if not check.is_verified
    ] == []
    assert len(journal.record_outcomes({"id-3": 1})) == 1
    assert journal.record_outcomes({"id-3": 1}) == []
    with pytest.raises(UnknownPredictionError):
        journal.record_outcomes({"nobody": 1})
    assert sum(row["outcome"] == 1 for row in journal.read_predictions(0)) == 1
    assert len(journal.read_predictions(0)) == 50
    assert [row["id"] for row in journal.read_predictions_excluding(0, excluded_version=3)] == []
    write_groups(
        journal,
        [
            make_prediction(number)._replace(id=f"later-{number}", bucket="aa")
            for number in range(5000)
        ],
    )
    assert sum(row["bucket"] == "aa" for row in journal.read_ab_predictions(0, [3])) == 5000
    assert len(list(journal.read_predictions_excluding(0, excluded_version=1))) == 5050
    rename_back(journal)
    journal.migrate()
    journal.create_tables()
    assert [
        check for check in verify_predictions(journal, row_hashes) if not check.is_verified
    ] == []
    assert journal.delete_before(2000) == 5050
