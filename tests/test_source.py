"""Readers: kinds of files, places they stand at, and what is said of a table that is none."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from servers import object_store

from modelbook.contract import Contract
from modelbook.contract.layout import Layout
from modelbook.dataset import formats, read, source, state
from modelbook.errors import DataError

TABLE = pd.DataFrame({"name": ["Zoë", "b,c", "d\ne", None], "n": [1, 2, 3, 4], "x": [0.5, np.nan, -1.25, 1e6]})


# Kinds of files


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t.csv", {}), ("t.tsv", {"sep": "\t"}), ("t.txt", {"sep": "|"}), 
        ("semicolon.csv", {"sep": ";", "decimal": ","}),
        ("t.csv.gz", {}), ("t.csv.bz2", {}), ("t.csv.xz", {}), ("t.csv.zip", {}), ("latin.csv", {"encoding": "cp1252"}),
        ("sixteen.csv", {"encoding": "utf-16"}), ("mark.csv", {"encoding": "utf-8-sig"}), 
        ("windows.csv", {"lineterminator": "\r\n"}),
    ],
)  # fmt: skip
def test_text_is_read_however_it_is_laid_out(name: str, options: dict[str, str], tmp_path: Path) -> None:
    table = TABLE.replace("d\ne", "plain") if "16" in options.get("encoding", "") else TABLE
    table.to_csv(tmp_path / name, index=False, **options)
    pd.testing.assert_frame_equal(read(name, tmp_path), table)


@pytest.mark.parametrize("name", ["t.parquet", "t.xlsx", "t.jsonl", "t.json", "t.jsonl.gz", "named-otherwise.csv"])
def test_other_kinds_are_told_by_what_is_in_them(name: str, tmp_path: Path) -> None:
    if "json" in name:
        TABLE.to_json(tmp_path / name, orient="records", lines=name != "t.json")
    elif "xlsx" in name:
        TABLE.to_excel(tmp_path / name, index=False)
    else:
        TABLE.to_parquet(tmp_path / name)
    pd.testing.assert_frame_equal(read(name, tmp_path), TABLE, check_dtype="json" not in name)


def test_codes_keep_their_leading_zeros(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("zip,n\n01234,1\n99999,2\n")
    assert read("t.csv", tmp_path)["zip"].tolist() == ["01234", "99999"]


def test_pandas_own_types_are_left_behind(tmp_path: Path) -> None:
    own = {"a": pd.Categorical(["x", "y"]), "b": pd.array([1, None], "Int64"), "c": pd.array(["p", None], "string")}
    pd.DataFrame(own).to_parquet(tmp_path / "t.parquet")
    assert read("t.parquet", tmp_path).dtypes.astype(str).tolist() == ["object", "float64", "object"]


def test_a_contract_says_how_a_file_without_a_header_is_read(contract: Contract, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("1,1,0,?,2,5,0.5,1,2\n2,1,1,0,2,?,0.5,0,3\n")
    told = contract.model_copy(update={"file": Layout(header=False), "missing": ["?"]})
    frame = read("t.csv", tmp_path, told)
    assert list(frame.columns) == list(contract.columns)
    assert frame["size"].tolist()[0] == 5
    assert frame.isna().sum().sum() == 2
    (tmp_path / "t.csv").write_text("1,2\n")
    with pytest.raises(DataError, match="has 2 columns, and 9 names were given"):
        read("t.csv", tmp_path, told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a;b,c\n1;2,3\n1\n", r"is ragged: the first line has 2 fields, line 3 has 1"),
        (b"a,b\n" + b"1,2\n" * 50 + b"1,2,\n", r"ragged.*line 52 has 3"),
        (b"a,b,a\n1,2,3\n", "more than one column 'a'"),
        (b"a, a\n1,2\n", "more than one column 'a'"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "holds no text"),
        (b"%PDF-1.4\n1 0 obj\n", "is a PDF"),
        (b"\xd0\xcf\x11\xe0", "save it as .xlsx"),
        (b'{"a": 1}\n{"a": [1, 2]}\n', "the field 'a' holds lists"),
        (b'{"a": 1}\n{"a": \n', "cannot be read"),
        (b"\x1f\x8b\x08\x00broken", "cannot be unpacked"),
        (b"PK\x03\x04broken", "cannot be read"),
        (b" \n\n", "is empty"),
    ],
)
def test_what_is_no_table_is_said_so(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        read("t.csv", tmp_path)
    assert caught.value.next


@pytest.mark.parametrize(
    ("content", "told", "next"),
    [
        ("who#year#size\n1#2#3\n", r"t\.csv has one column only, 'who#year#size'", "file: {delimiter: ...}"),
        ("who,year,size\n", r"t\.csv has no rows", "check the table"),
    ],
)
def test_a_contract_is_held_against_a_table_only(
    content: str, told: str, next: str, contract: Contract, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=told) as caught:
        read("t.csv", tmp_path, contract)
    assert next in caught.value.next
    assert len(read("t.csv", tmp_path).columns) > 0  # without a contract, a table all the same


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    real = formats.load

    def slow(*given):
        frame = real(*given)
        path.write_text("a,b\n1,2\n3,4\n")
        return frame

    monkeypatch.setattr(formats, "load", slow)
    with pytest.raises(DataError, match=r"t\.csv changed while it was read"):
        read("t.csv", tmp_path)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        read(".", tmp_path)


# Addresses


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    TABLE.to_csv(tmp_path / "site/t.csv.gz", index=False)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *given: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_file_is_fetched_by_http(served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.testing.assert_frame_equal(read(f"{served}/t.csv.gz?x=1", tmp_path), TABLE)
    before = state(f"{served}/t.csv.gz", tmp_path)
    assert state(f"{served}/t.csv.gz", tmp_path) == before
    os.utime(tmp_path / "site/t.csv.gz", (1, 1))
    TABLE.head(2).to_csv(tmp_path / "site/t.csv.gz", index=False)
    assert state(f"{served}/t.csv.gz", tmp_path) != before
    monkeypatch.setenv("TABLE_HOST", served)
    assert len(read("${TABLE_HOST}/t.csv.gz", tmp_path)) == 2
    with pytest.raises(DataError, match=r"none\.csv cannot be fetched: .*404"):
        read(f"{served}/none.csv", tmp_path)


def test_an_address_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match=r"cannot be fetched: .*[Cc]onnect") as caught:
        read(f"http://me:geheim-word@127.0.0.1:{port}/t.csv", tmp_path)
    assert "geheim" not in str(caught.value)
    with pytest.raises(DataError, match="the environment has no NOWHERE_AT_ALL"):
        read("http://${NOWHERE_AT_ALL}/t.csv", tmp_path)
    with pytest.raises(DataError, match="is no address"):
        read("nope://t.csv", tmp_path)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*given: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(DataError, match="needs a library") as caught:
        read("s3://bucket/t.csv", tmp_path)
    assert "make extras (it installs modelbook[s3])" in caught.value.next


@pytest.mark.slow
def test_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(monkeypatch, "tables") as store:
        store.put_object(Bucket="tables", Key="deep/t.csv", Body=TABLE.to_csv(index=False).encode())
        pd.testing.assert_frame_equal(read("s3://tables/deep/t.csv", tmp_path), TABLE)
        before = state("s3://tables/deep/t.csv", tmp_path)
        store.put_object(Bucket="tables", Key="deep/t.csv", Body=b"a,b\n1,2\n")
        assert state("s3://tables/deep/t.csv", tmp_path) != before
        with pytest.raises(DataError, match="cannot be fetched: FileNotFoundError"):
            read("s3://tables/none.csv", tmp_path)


# Databases


@pytest.fixture
def shop(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        TABLE.to_sql("people", connection, index=False)
    return "sqlite:///shop.db"


def test_sqlite_is_asked_and_left_alone(shop: str, tmp_path: Path) -> None:
    before = state(f"{shop}#people", tmp_path)
    pd.testing.assert_frame_equal(read(f"{shop}#people", tmp_path), TABLE)
    assert read(f"{shop}#SELECT n, x FROM people WHERE n % 2 = 0 AND name IS NOT '12:30 :x';", tmp_path)[
        "n"
    ].tolist() == [2, 4]
    assert state(f"{shop}#people", tmp_path) == before != state(f"{shop}#other", tmp_path)
    for query, told in (("", "no query"), ("DROP TABLE people", "which is no query"), ("none", "no such table: none")):
        with pytest.raises(DataError, match=told):
            read(f"{shop}#{query}", tmp_path)
    with pytest.raises(DataError, match="more than one column 'n'"):
        read(f"{shop}#select n, n from people", tmp_path)
    with pytest.raises(DataError, match="readonly database"):
        read(f"{shop}#with t as (select 1) insert into people (n) select 1", tmp_path)
    with pytest.raises(DataError, match="there is no file"):
        read("sqlite:///none.db#people", tmp_path)
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_does_not_answer_or_a_driver_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "geheim-word")
    with pytest.raises(DataError, match="does not answer the query") as caught:
        read("postgresql://me:${PGPASSWORD}@127.0.0.1:1/shop#people", tmp_path)
    assert "geheim" not in str(caught.value)
    with pytest.raises(DataError, match="needs a driver"):
        read("mysql://me@127.0.0.1:1/shop#people", tmp_path)


def test_a_named_variable_is_no_secret_but_a_password_is() -> None:
    from modelbook import config
    from modelbook.errors import ParameterError

    table = "postgresql://me:${PGPASSWORD}@host/shop#people"
    assert config.validate("ingest", {"table": table}).table == table
    with pytest.raises(ParameterError, match="holds a secret") as caught:
        config.validate("ingest", {"table": table.replace("${PGPASSWORD}", "geheim-word")})
    assert "geheim" not in str(caught.value)


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    """A server of this test's own; its superuser ``me`` has the password ``geheim-word``."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "none")]
    if not programs[-1].is_file():
        pytest.skip("PostgreSQL is not installed")
    place = Path(tempfile.mkdtemp(prefix="postgres-"))  # no user but this one may look below pytest's own folders
    (place / "word").write_text("geheim-word")
    who = []
    if os.geteuid() == 0:  # it refuses to run as root
        who = ["runuser", "-u", "postgres", "--"]
        shutil.chown(place, "postgres")
        shutil.chown(place / "word", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = partial(subprocess.run, check=True, capture_output=True, cwd=place)
    control, data = str(programs[-1].with_name("pg_ctl")), str(place / "data")
    run([*who, str(programs[-1]), "-D", data, "-U", "me", "-A", "scram-sha-256", "--pwfile", str(place / "word")])
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place}"
    run(
        [*who, control, "-D", data, "-w", "-l", str(place / "log"), "-o", options, "start"],
        stdout=None,
        stderr=None,
        capture_output=False,
    )
    yield port
    run([*who, control, "-D", data, "-m", "immediate", "stop"])
    shutil.rmtree(place)


@pytest.mark.slow
def test_postgresql(postgres: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import create_engine

    monkeypatch.setenv("SHOP_PASSWORD", "geheim-word")
    engine = create_engine(f"postgresql+psycopg://me:geheim-word@127.0.0.1:{postgres}/postgres")
    TABLE.to_sql("People", engine, index=False)
    engine.dispose()
    url = f"postgresql://me:${{SHOP_PASSWORD}}@127.0.0.1:{postgres}/postgres"
    pd.testing.assert_frame_equal(read(f"{url}#People", tmp_path), TABLE)
    query = "SELECT n, '10 %'::text AS share, 1.5::numeric AS d FROM \"People\" ORDER BY n DESC"
    told = read(f"{url}#{query}", tmp_path)
    assert told.values.tolist()[0] == [4, "10 %", 1.5]
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:geheim-word@127.0.0.1:{postgres}/postgres")
    assert len(read("${DATABASE_URL}#public.People", tmp_path)) == 4
    with pytest.raises(DataError, match="read-only transaction"):
        read(f'{url}#WITH t AS (DELETE FROM "People" RETURNING 1) SELECT * FROM t', tmp_path)
    monkeypatch.setenv("SHOP_PASSWORD", "another-secret")
    with pytest.raises(DataError, match='password authentication failed for user "me"') as caught:
        read(f"{url}#People", tmp_path)
    assert "another-secret" not in str(caught.value)


def test_bundled_tables_are_listed() -> None:
    from modelbook.dataset.bundled import TABLES

    assert set(source.BUNDLED) == set(TABLES)
