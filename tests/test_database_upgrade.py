"""Databases of older schemas: shown first, migrated with their rows, and with a copy that is kept."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from servers import PASSWORD, postgresql
from small_project import ROOT
from test_journal import make_oldest
from text_facts import missing_facts, raises_stating
from typer.testing import CliRunner
from version_store import put_empty_store

from modelbook.build import locks
from modelbook.cli import app
from modelbook.errors import BuildError, JournalError, StoreError
from modelbook.extras import database_upgrade, drill, project_template
from modelbook.journal import Journal
from modelbook.journal.database import get_default_path, get_default_url
from modelbook.journal.schema import SCHEMA_VERSION
from modelbook.monitoring.latest_verdict import get_history_path
from modelbook.monitoring.window_history import WindowHistory
from modelbook.registry import aliases, mlflow_schema, store
from modelbook.registry.location import get_database_path

BOOK = "tiny"
AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
MLFLOW_3_0 = "6953534de441"  # the revision of the tables of MLflow 3.0
ROWS = f"""
insert into experiments (experiment_id, name, artifact_location, lifecycle_stage)
  values (7, '{BOOK}', 'modelbook:/{BOOK}', 'active');
insert into registered_models (name, creation_time) values ('{BOOK}', 1);
insert into model_versions (name, version, creation_time, source, current_stage, status)
  values ('{BOOK}', 1, 1, 'modelbook:/version-1', 'None', 'READY');
insert into model_version_tags (name, version, key, value) values ('{BOOK}', 1, 'digest', 'c0ffee');
insert into registered_model_aliases (name, alias, version) values ('{BOOK}', 'champion', 1);
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with an env file, without a store."""
    (tmp_path / "pipeline.yaml").write_text((ROOT / "pipeline.yaml").read_text())
    (tmp_path / "env.yaml").write_text(f"book: {BOOK}\n")
    monkeypatch.setenv("MODELBOOK_ROOT", str(tmp_path))
    return tmp_path


def make_old_store(uri: str) -> None:
    """A store as MLflow 3.0 left it, with a version that an alias names."""
    engine = sa.create_engine(uri, poolclass=sa.NullPool)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, MLFLOW_3_0)
        for statement in filter(None, map(str.strip, ROWS.split(";"))):
            connection.exec_driver_sql(statement)


def read_revisions(uri: str) -> list[Any]:
    with sa.create_engine(uri, poolclass=sa.NullPool).connect() as connection:
        return list(connection.exec_driver_sql("select version_num from alembic_version").scalars())


@pytest.fixture(scope="session")
def old_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("old") / "mlflow.db"
    make_old_store(f"sqlite:///{path}")
    return path.read_bytes()


def put_journal(root: Path) -> Journal:
    """The default journal of the book, of the oldest schema."""
    path = get_default_path(root, BOOK)
    path.parent.mkdir(parents=True)
    return make_oldest(path)


def upgrade(*options: str) -> Any:
    return CliRunner().invoke(app, ["upgrade", *options])


@pytest.mark.long
def test_a_journal_is_shown_then_migrated_with_a_copy(root: Path) -> None:
    journal = put_journal(root)
    output = upgrade()
    assert output.exit_code == 1
    columns = ("+ outcomes.book", "predictions.answered -> predictions.returned")
    facts = (get_default_path(root, BOOK), "schema 1", SCHEMA_VERSION, *columns)
    assert missing_facts(output.stdout, *facts) == []
    assert "--yes" in output.stderr
    assert journal.read_schema_version() == 1
    assert [path.name for path in get_default_path(root, BOOK).parent.iterdir()] == ["journal.db"]
    result = upgrade("--yes")
    assert result.exit_code == 0, result.output
    [row] = journal.read_predictions(0)
    assert (row["book"], row["outcome"]) == (BOOK, True)
    [copy] = get_default_path(root, BOOK).parent.glob("journal-before-*.db")
    assert str(copy) in result.stdout
    assert Journal(f"sqlite:///{copy}", BOOK).read_schema_version() == 1
    assert upgrade().exit_code == 0


def test_a_journal_of_a_newer_schema_stays(root: Path) -> None:
    journal = Journal(get_default_url(root, BOOK), BOOK)
    journal.create_tables()
    with journal.engine.begin() as connection:
        connection.exec_driver_sql("update journal_schema set version = 99")
    result = upgrade("--yes")
    assert result.exit_code == 1
    assert missing_facts(result.stderr, "JournalError", "schema 99", "newer") == []
    assert len(list(get_default_path(root, BOOK).parent.glob("*.db"))) == 1


def test_rows_without_a_book_are_not_given_to_one_of_two(root: Path) -> None:
    journal = put_journal(root)
    (root / "serving.yaml").write_text(f"journal: {{url: '{journal.url}'}}\n")
    (root / "env.other.yaml").write_text("book: other\n")
    migrations, [problem] = database_upgrade.plan_migrations(root)
    assert migrations == []
    with raises_stating(JournalError, "tiny", "other", "journal.url"):
        raise problem


@pytest.mark.long
def test_an_older_store_is_shown_then_migrated_with_a_copy(root: Path, old_store: bytes) -> None:
    path = get_database_path(root)
    path.parent.mkdir()
    path.write_bytes(old_store)
    for read in (store.check_store, lambda root: aliases.query_aliases(root, BOOK)):
        with raises_stating(StoreError, path, MLFLOW_3_0, "older", "modelbook upgrade"):
            read(root)  # MLflow would migrate it, without a copy
    output = upgrade()
    assert output.exit_code == 1
    assert missing_facts(output.stdout, path, MLFLOW_3_0, "add webhooks") == []
    assert path.read_bytes() == old_store
    result = upgrade("--yes")
    assert result.exit_code == 0, result.output
    mlflow_schema.require_current_schema(root)
    champion = aliases.query_aliases(root, BOOK)["champion"]
    assert (champion.number, champion.tags["digest"]) == (1, "c0ffee")
    experiment = store.create_client(root).get_experiment_by_name(BOOK)
    assert experiment is not None
    assert (experiment.experiment_id, experiment.artifact_location) == ("7", f"modelbook:/{BOOK}")
    [copy] = path.parent.glob("mlflow-before-*.db")
    assert read_revisions(f"sqlite:///{copy}") == [MLFLOW_3_0]


@pytest.mark.long
def test_copies_of_both_databases_of_a_store_are_listed(root: Path, old_store: bytes) -> None:
    paths = [root / "runs.db", root / "versions.db"]
    for path in paths:
        path.write_bytes(old_store)
    (root / "store.yaml").write_text(
        f"tracking_uri: sqlite:///{paths[0]}\nregistry_uri: sqlite:///{paths[1]}\n"
    )
    result = upgrade("--yes")
    assert result.exit_code == 0, result.output
    copies = sorted(root.glob("*-before-*.db"))
    assert [copy.name.partition("-")[0] for copy in copies] == ["runs", "versions"]
    assert missing_facts(result.stdout, *copies) == []


def test_a_store_with_absolute_uris_is_named_and_stays(root: Path) -> None:
    client = store.create_client(put_empty_store(root))
    client.create_experiment(BOOK, artifact_location=(root / "models/artifacts" / BOOK).as_uri())
    client.create_registered_model(BOOK)
    result = upgrade("--yes")
    assert result.exit_code == 1
    path = get_database_path(root)
    assert missing_facts(result.stderr, "StoreError", path, "absolute", f"mv {path} ") == []
    assert [copy.name for copy in path.parent.glob("*.db")] == [path.name]


@pytest.mark.long
def test_a_store_in_use_or_that_cannot_be_migrated_stays(
    root: Path, old_store: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = get_database_path(root)
    path.parent.mkdir()
    path.write_bytes(old_store)
    [migration], _ = database_upgrade.plan_migrations(root)
    with locks.lock_build(root), raises_stating(BuildError, root):
        migration.apply()
    with closing(sqlite3.connect(path)) as connection, monkeypatch.context() as patch:
        upgrade_database = mlflow_schema.upgrade_database

        def upgrade_meanwhile(root: Path, uri: str) -> None:
            upgrade_database(root, uri)
            connection.execute("create table other (id)")

        patch.setattr(mlflow_schema, "upgrade_database", upgrade_meanwhile)
        with raises_stating(StoreError, path, "meanwhile"):
            migration.apply()
        connection.execute("drop table experiments")
    with raises_stating(StoreError, "experiments", "MLflow"):
        migration.apply()
    assert read_revisions(f"sqlite:///{path}") == [MLFLOW_3_0]


@pytest.mark.slow
def test_a_store_in_postgresql_is_migrated_by_a_user_who_may(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql() as server:
        uri = server.url()
        make_old_store(uri)
        engine = sa.create_engine(uri, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"create role reader login password '{PASSWORD}'")
            connection.exec_driver_sql("grant pg_read_all_data to reader")
        for change, option, facts in (
            ((PASSWORD, "another-word"), [], ["password authentication failed", "PGPASSWORD"]),
            (("owner:", "reader:"), ["--yes"], ["permission", "docs/stores.md"]),
        ):
            monkeypatch.setenv("MODELBOOK_STORE_TRACKING_URI", uri.replace(*change))
            result = upgrade(*option)
            assert result.exit_code == 1
            assert missing_facts(result.stderr, "StoreError", *facts) == [], result.stderr
            assert "another-word" not in result.output
            assert PASSWORD not in result.output
            assert read_revisions(uri) == [MLFLOW_3_0]
        monkeypatch.setenv("MODELBOOK_STORE_TRACKING_URI", uri)
        output = upgrade()
        assert missing_facts(output.stdout, MLFLOW_3_0, "add webhooks") == []
        result = upgrade("--yes")
        assert result.exit_code == 0, result.output
        mlflow_schema.require_current_schema(root)
        champion = aliases.query_aliases(root, BOOK)["champion"]
        assert (champion.number, champion.tags["digest"]) == (1, "c0ffee")
        assert upgrade().exit_code == 0


def test_the_schema_of_a_new_store_is_that_of_the_installed_mlflow(root: Path) -> None:
    put_empty_store(root)
    [uri] = mlflow_schema.list_databases(root)
    assert mlflow_schema._read_revision(uri) == mlflow_schema._read_migrations().get_current_head()
    assert mlflow_schema.find_difference(root) is None


def test_drill_refuses_an_older_journal_and_names_the_upgrade(root: Path) -> None:
    put_journal(root)
    with raises_stating(JournalError, get_default_path(root, BOOK), "schema 1") as exc_info:
        drill.run_drill(root, BOOK)
    assert missing_facts(exc_info.value.next, "modelbook upgrade") == []


@pytest.mark.long
def test_one_upgrade_renames_settings_and_migrates_the_databases_that_they_name(
    root: Path, old_store: bytes
) -> None:
    path, journal_path = root / "elsewhere/mlflow.db", root / "journals/tiny.db"
    for folder in (path.parent, journal_path.parent):
        folder.mkdir()
    path.write_bytes(old_store)
    make_oldest(journal_path)
    (root / "store.yaml").write_text("database: sqlite:///elsewhere/mlflow.db\n")
    journal_settings = f"journal: {{url: 'sqlite:///{journal_path}', patience: 2}}\n"
    (root / "serving.yaml").write_text(journal_settings)
    contract = root / "contracts/claims.yaml"
    contract.parent.mkdir(exist_ok=True)
    columns = "columns:\n  parts: {type: category, joined: {a: b}}\n  born: {parts: [days]}\n"
    columns += (
        "  unseen:\n    unseen: true\n    confirmed: unseen before\n  paid: {parse: percent}\n"
    )
    contract.write_text(f"target_gaps: leave_out  # rows without outcome\n{columns}")
    for args in (
        ["init", "-q"],
        ["add", "store.yaml", "serving.yaml", "contracts/claims.yaml"],
        [*AUTHOR, "commit", "-qm", "Before"],
    ):
        subprocess.run(["git", *args], cwd=root, check=True, stdout=subprocess.DEVNULL)
    output = upgrade()
    assert output.exit_code == 1
    facts = ("+tracking_uri", "timeout_seconds", journal_path, path, MLFLOW_3_0)
    assert missing_facts(output.stdout, *facts) == []
    assert (root / "serving.yaml").read_text() == journal_settings
    result = upgrade("--yes")
    assert result.exit_code == 0, result.output
    mlflow_schema.require_current_schema(root)
    columns = columns.replace("joined", "replacements").replace("{parts", "{date_parts")
    columns = columns.replace("    unseen", "    allow_unseen").replace("{parse", "{number_format")
    columns = columns.replace("confirmed", "no_leak_reason")
    assert contract.read_text() == f"missing_target: exclude  # rows without outcome\n{columns}"
    assert Journal(f"sqlite:///{journal_path}", BOOK).read_schema_version() == SCHEMA_VERSION
    assert upgrade().exit_code == 0


OLD_TABLES = """
create table windows (
  place integer primary key, version integer not null, name text not null, at real not null,
  rows integer not null, performed integer not null, word text not null, findings text not null,
  unique (version, name));
create table measures (
  version integer not null, name text not null, measure text not null, value real, low real,
  high real, reference real, primary key (version, name, measure));
create table verdicts (
  place integer primary key, version integer not null, name text not null, at real not null,
  word text not null, findings text not null);
"""


def test_a_history_of_monitoring_is_migrated_with_a_copy(root: Path) -> None:
    path = get_history_path(root, BOOK)
    findings = json.dumps(
        [{"word": "retrain", "sentence": "Recall fell.", "kind": "loss", "grave": True}]
    )
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(OLD_TABLES)
        connection.execute(
            "insert into windows values (1, 3, 'year-4', 1.0, 100, 1, 'retrain', ?)", [findings]
        )
        connection.execute(
            "insert into verdicts values (1, 3, 'year-4', 1.0, 'retrain', ?)", [findings]
        )
        connection.executemany(
            "insert into measures values (3, 'year-4', ?, ?, null, null, ?)",
            [
                ("flagged", 0.2, 0.3),
                ("copies", 0.1, 0.0),
                ("expected_calibration_error", 0.01, 0.0),
                ("drift:age", 0.4, None),
            ],
        )
    history = WindowHistory(path, 3)
    with raises_stating(StoreError, path, "schema 0", "modelbook upgrade"):
        history.read_windows()
    output = upgrade()
    assert output.exit_code == 1
    facts = (path, "finding.word -> finding.verdict", "windows.performed", "selection_rate")
    assert missing_facts(output.stdout, *facts) == []
    result = upgrade("--yes")
    assert result.exit_code == 0, result.output
    [window] = history.read_windows()
    [finding] = window.findings
    assert (finding.verdict, finding.rule, finding.is_severe) == ("retrain", "loss", True)
    assert window.has_outcomes
    metrics = history.make_metrics_table().set_index("metric")["value"].to_dict()
    assert metrics == {
        "selection_rate": 0.2, "duplicate_share": 0.1, "expected_calibration_in_the_large": 0.01,
    }  # fmt: skip
    [copy] = path.parent.glob("monitor-before-*.db")
    assert str(copy) in result.stdout
    assert upgrade().exit_code == 0


def test_a_history_that_is_none_stays(root: Path) -> None:
    path = get_history_path(root, BOOK)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 100)
    result = upgrade("--yes")
    assert result.exit_code == 1
    assert missing_facts(result.stderr, "StoreError", path, "move it away") == []
    assert [each.name for each in path.parent.iterdir()] == ["monitor.db"]


def test_settings_get_their_new_names_and_keep_all_else(root: Path) -> None:
    (root / "store.yaml").write_text("# ours\ndatabase: postgresql://db/one  # the team's\n")
    (root / "serving.tiny.yaml").write_text(
        "traffic: {share: 0.2, salt: '2'}\nlimits:\n  \"rows\": 5  # few\nstream:\n    rows: a\nlog: info\n"
    )
    (root / "env.yaml").write_text(f"book: {BOOK}\ncost_miss: 2\n")
    changes = {change.name: change.after for change in project_template.plan_renames(root)}
    assert changes == {
        "store.yaml": "# ours\ntracking_uri: postgresql://db/one  # the team's\n",
        "serving.tiny.yaml": "traffic: {challenger_share: 0.2, salt: '2'}\nlimits:\n"
        '  "max_rows": 5  # few\nstream:\n    input_stream: a\nlog_level: info\n',
        "env.yaml": f"book: {BOOK}\ncost_fn: 2\n",
    }
