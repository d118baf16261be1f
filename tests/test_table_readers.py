"""Table readers: formats, layouts, encodings, sources and their errors."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import socket
import sqlite3
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from servers import PASSWORD, object_store, postgresql
from text_facts import missing_facts

from modelbook.contract import Contract
from modelbook.contract.file_layout import FileLayout
from modelbook.dataset import (
    compute_source_digest,
    file_formats,
    read_table,
    read_without_contract,
    source,
    table_chunks,
)
from modelbook.dataset.object_store import convert_storage_errors
from modelbook.errors import DataError

TABLE = pd.DataFrame(
    {"name": ["Zoë", "b,c", "d\ne", None], "n": [1, 2, 3, 4], "x": [0.5, np.nan, -1.25, 1e6]}
).astype({"name": object})  # as tables are read; pandas 3 has a type of texts


LINES = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(2000))


def zip_lines(lines: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("t.csv", lines)
    return archive.getvalue()


# Kinds of files


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ("sep=;\n{head}{body}", {}),
        ("sep=;\n{head}{body}", {"delimiter": ","}),
        ("# made by us, and more\n# twice\n{head}{body}", {}),
        ("Sales report\n\n{head}{body}", {}),
        ("a;b;c\nof,2024\n{head}{body}", {"skip_rows": 2}),
        ("{head}{body}Total: 60 rows\n", {"skip_footer": 1}),
        ("{head}{body}\nTotal: 60 rows\nSource: us\nby hand\n", {}),
        ("{head}{body}Total;;3\n", {}),
        ("a line\n\n{head}{body}Grand total;;3\n* of 2024\n", {}),
        ("{head}{body}Total;;3\n", {"skip_footer": 1}),
        ("{head}# in between; it is\n{body}", {"comment": "#"}),
        ("\ufeff{head}{body}", {}),
    ],
)
def test_text_around_a_table_is_skipped(
    lines: str, options: dict[str, Any], tmp_path: Path
) -> None:
    body = "".join(f"{i},5;b{i};\n" for i in range(60))
    (tmp_path / "t.csv").write_text(lines.format(head="x;k;y z\n", body=body), encoding="utf-8")
    frame, _ = read_without_contract("t.csv", tmp_path, FileLayout(**options), [])
    assert list(frame.columns) == ["x", "k", "y z"]
    assert frame["x"].tolist() == [i + 0.5 for i in range(60)]


def test_decimal_mark_of_the_layout_is_used_with_a_declared_delimiter(tmp_path: Path) -> None:
    body = "".join(f"{i},250:b{i}\n" for i in range(1, 60))
    (tmp_path / "t.csv").write_text(f"sep=:\nx:k\n{body}", encoding="utf-8")
    frame, _ = read_without_contract("t.csv", tmp_path, FileLayout(decimal=","), [])
    assert frame["x"].tolist() == [i + 0.25 for i in range(1, 60)]


@pytest.mark.parametrize(
    ("cells", "encoding"),
    [
        (["Ardèche", "Corrèze", "Temp (°C)", "price (£)"], "cp1252"),
        (["Wrocław", "Łódź", "Gdańsk", "Święty"], "cp1250"), (["Москва", "Казань"], "cp1251"),
        (["красный", "синий", "зелёный"], "cp866"), (["東京都", "カテゴリ", "はい", "未婚"], "euc_jp"),
    ],
)  # fmt: skip
def test_encoding_is_detected_by_language(cells: list[str], encoding: str, tmp_path: Path) -> None:
    lines = [f"{cell},{i}" for i in range(30) for cell in cells]
    (tmp_path / "t.csv").write_bytes("\n".join(["k,n", *lines]).encode(encoding))
    assert read_table("t.csv", tmp_path)["k"].unique().tolist() == cells


def test_zip_with_several_files_lists_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for name in ("jan.csv", "feb.csv"):
            archive.writestr(name, f"m,n\n{name},1\n")
    with pytest.raises(DataError) as exc_info:
        read_table("t.zip", tmp_path)
    assert missing_facts(str(exc_info.value), 2, "jan.csv", "feb.csv", "--member") == []
    frame, _ = read_without_contract("t.zip", tmp_path, FileLayout(member="feb.csv"), [])
    assert frame["m"].tolist() == ["feb.csv"]


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
def test_text_layouts_are_detected(name: str, options: dict[str, str], tmp_path: Path) -> None:
    table = TABLE.replace("d\ne", "plain") if "16" in options.get("encoding", "") else TABLE
    table.to_csv(tmp_path / name, index=False, **options)
    pd.testing.assert_frame_equal(read_table(name, tmp_path), table)


@pytest.mark.parametrize(
    "name", ["t.parquet", "t.xlsx", "t.jsonl", "t.json", "t.jsonl.gz", "named-otherwise.csv"]
)
def test_file_kind_is_detected_by_content(name: str, tmp_path: Path) -> None:
    if "json" in name:
        TABLE.to_json(tmp_path / name, orient="records", lines=name != "t.json")
    elif "xlsx" in name:
        TABLE.to_excel(tmp_path / name, index=False)
    else:
        TABLE.to_parquet(tmp_path / name)
    pd.testing.assert_frame_equal(read_table(name, tmp_path), TABLE, check_dtype="json" not in name)


def test_codes_keep_leading_zeros(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("zip,n\n01234,1\n99999,2\n")
    assert read_table("t.csv", tmp_path)["zip"].tolist() == ["01234", "99999"]


def test_pandas_extension_types_are_converted(contract: Contract, tmp_path: Path) -> None:
    custom = {
        "a": pd.Categorical(["x", "y"]),
        "b": pd.array([1, None], "Int64"),
        "c": pd.array(["p", None], "string"),
        "d": ["Zoë".encode(), None],
    }
    pd.DataFrame(custom).to_parquet(tmp_path / "t.parquet")
    read = read_table("t.parquet", tmp_path)
    assert read.dtypes.astype(str).tolist() == ["object", "float64", "object", "object"]
    assert read["d"][0] == "Zoë"
    [chunk] = table_chunks.open_chunks(tmp_path / "t.parquet", contract, 10)[0]
    assert chunk["d"].to_pylist() == ["Zoë", None]


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        (pd.period_range("2024-01", periods=2, freq="M"), ["period[M]", "to_timestamp"]),
        ([b"\xff", b"a"], ["UTF-8"]),
        ([[1], [2]], ["lists"]),
    ],
)
def test_values_of_no_single_type_raise(values: Any, facts: list[str], tmp_path: Path) -> None:
    pd.DataFrame({"a": [1, 2], "odd": values}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError) as exc_info:
        read_table("t.parquet", tmp_path)
    assert missing_facts(str(exc_info.value), "'odd'", *facts) == []


def test_contract_defines_columns_of_file_without_header(
    contract: Contract, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("1,1,0,?,2,5,0.5,1,2\n2,1,1,0,2,?,0.5,0,3\n")
    result = contract.model_copy(update={"file": FileLayout(header=False), "missing": ["?"]})
    frame = read_table("t.csv", tmp_path, result)
    assert list(frame.columns) == list(contract.columns)
    assert frame["size"].tolist()[0] == 5
    assert frame.isna().sum().sum() == 2
    (tmp_path / "t.csv").write_text("1,2\n")
    with pytest.raises(DataError, match=r"\b2\b.*\b9\b"):
        read_table("t.csv", tmp_path, result)


def test_formulas_without_values_are_refused(tmp_path: Path) -> None:
    sheet = pd.DataFrame({"x": range(30), "twice": [f"=A{row}*2" for row in range(2, 32)]})
    sheet.to_excel(tmp_path / "t.xlsx", index=False)
    with pytest.raises(DataError, match=r"'twice'.*=A2\*2"):
        read_table("t.xlsx", tmp_path)
    sheet.assign(twice=None).to_excel(tmp_path / "t.xlsx", index=False)
    assert read_table("t.xlsx", tmp_path)["twice"].isna().all()


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"a;b,c\n1;2,3\n1\n", [2, 3, 1]),  # fields, the line that differs, and its fields
        (b"a,b\n" + b"1,2\n" * 50 + b"1,2,\n", [2, 52, 3]),
        (b"a,b,a\n1,2,3\n", ["'a'"]),
        (b"a, a\n1,2\n", ["'a'"]),
        (b"<!DOCTYPE html><html>", ["web page"]),
        (b"\x89PNG\r\n\x1a\n\x00\x00", []),
        (b"%PDF-1.4\n1 0 obj\n", ["PDF"]),
        (b"\xd0\xcf\x11\xe0", [".xlsx"]),
        (b'{"a": 1}\n{"a": [1, 2]}\n', ["'a'", "lists"]),
        (b'{"a": 1}\n{"a": \n', [2]),
        (b'{"a": 1}\n\n{"a": \n', [3]),
        (b"\x1f\x8b\x08\x00broken", []),
        (b"PK\x03\x04broken", []),
        (gzip.compress(LINES)[:20] + bytes(range(200)), ["t.csv"]),
        (lzma.compress(LINES)[:40] + bytes(range(200)), ["t.csv"]),
        (b"PK\x05\x06" + bytes(18), ["empty zip"]),
        (b"SQLite format 3\x00" + bytes(80), ["--query"]),
        (b"ARROW1\x00\x00", ["Feather", "to_parquet"]),
        (b"ORC\x0a\x03\x00", ["ORC", "to_parquet"]),
        (b"PAR1\x15\x04 and no footer", ["Parquet"]),
        (b"t.csv" + bytes(252) + b"ustar\x0000", ["tar", "unpack"]),
        (gzip.compress(b"PAR1\x15\x04 and more", mtime=0), ["Parquet", "unpack"]),
        ("a,b\n1,2\n".encode("utf-16-le"), ["UTF-16", "UTF-8"]),
        ("a,b\n1,2\n".encode("utf-32"), ["UTF-32", "UTF-8"]),
        (b"a,b\n1,2\n3,4\x00\n", ["null", 3]),
        (b" \n\n", ["empty"]),
    ],
)
def test_file_that_is_not_a_table_raises(content: bytes, facts: list[Any], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError) as exc_info:
        read_table("t.csv", tmp_path)
    assert missing_facts(str(exc_info.value), "t.csv", *facts) == []
    assert exc_info.value.next


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zip_lines])
def test_damaged_compressed_file_raises_for_scoring(
    compress: Callable[[bytes], bytes], contract: Contract, tmp_path: Path
) -> None:
    content = compress(LINES)
    (tmp_path / "t.csv").write_bytes(content[:40] + bytes(range(256)))
    with pytest.raises(DataError, match=r"t\.csv"):
        table_chunks.open_chunks(tmp_path / "t.csv", contract, 10)


@pytest.mark.parametrize(
    ("content", "facts"),
    [("who#year#size\n1#2#3\n", ["'who#year#size'", "delimiter"]), ("who,year,size\n", [])],
)
def test_file_without_columns_of_contract_raises(
    content: str, facts: list[str], contract: Contract, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError) as exc_info:
        read_table("t.csv", tmp_path, contract)
    assert missing_facts(str(exc_info.value), "t.csv", *facts) == []
    assert exc_info.value.next
    assert (
        len(read_table("t.csv", tmp_path).columns) > 0
    )  # without a contract, a table all the same


@pytest.mark.parametrize("name", ["ORCID", "FEA1", "ARROW1", "PAR1"])
def test_header_may_begin_like_a_binary_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{name},size\nx,2\n")
    assert list(read_table("t.csv", tmp_path).columns) == [name, "size"]


def test_file_changed_during_reading_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    real = file_formats.read_file

    def slow(*args):
        frame = real(*args)
        path.write_text("a,b\n1,2\n3,4\n")
        return frame

    monkeypatch.setattr(file_formats, "read_file", slow)
    with pytest.raises(DataError, match=r"t\.csv"):
        read_table("t.csv", tmp_path)


def test_folder_without_parquet_files_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder"):
        read_table(".", tmp_path)


# URLs


@pytest.fixture
def server_url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    TABLE.to_csv(tmp_path / "site/t.csv.gz", index=False)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.long
def test_file_is_read_over_http(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.testing.assert_frame_equal(read_table(f"{server_url}/t.csv.gz?x=1", tmp_path), TABLE)
    before = compute_source_digest(f"{server_url}/t.csv.gz", tmp_path)
    assert compute_source_digest(f"{server_url}/t.csv.gz", tmp_path) == before
    os.utime(tmp_path / "site/t.csv.gz", (1, 1))
    TABLE.head(2).to_csv(tmp_path / "site/t.csv.gz", index=False)
    assert compute_source_digest(f"{server_url}/t.csv.gz", tmp_path) != before
    monkeypatch.setenv("TABLE_HOST", server_url)
    assert len(read_table("${TABLE_HOST}/t.csv.gz", tmp_path)) == 2
    with pytest.raises(DataError, match=r"none\.csv.*404"):
        read_table(f"{server_url}/none.csv", tmp_path)


def test_environment_variable_may_name_a_bundled_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE", "rand-hie")
    digest = compute_source_digest("rand-hie", tmp_path)
    assert compute_source_digest("${TABLE}", tmp_path) == digest


def test_unreachable_url_raises(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match=r"t\.csv.*[Cc]onnect") as exc_info:
        read_table(f"http://me:geheim-word@127.0.0.1:{port}/t.csv", tmp_path)
    assert "geheim" not in str(exc_info.value)
    with pytest.raises(DataError, match="NOWHERE_AT_ALL"):
        read_table("http://${NOWHERE_AT_ALL}/t.csv", tmp_path)
    with pytest.raises(DataError, match="nope"):
        read_table("nope://t.csv", tmp_path)


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*args: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(DataError, match="s3") as exc_info:
        read_table("s3://bucket/t.csv", tmp_path)
    assert missing_facts(exc_info.value.next, "make extras", "modelbook[s3]") == []


@pytest.mark.parametrize(
    ("uri", "error", "is_s3_hint"),
    [
        ("s3://rows/t.csv", "Forbidden", True),
        ("https://example.org/t.csv", "Forbidden", False),
        ("s3://connect/t.csv", "s3://connect/t.csv is broken", False),
    ],
)
def test_hints_of_s3_depend_on_store_and_error(uri: str, error: str, is_s3_hint: bool) -> None:
    with pytest.raises(DataError) as exc_info, convert_storage_errors(uri):
        raise RuntimeError(error)
    hint = exc_info.value.next or ""
    assert ("s3:" in hint or "AWS_" in hint) is is_s3_hint


@pytest.mark.slow
def test_table_is_read_from_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(monkeypatch, "tables") as store:
        store.put_object(Bucket="tables", Key="deep/t.csv", Body=TABLE.to_csv(index=False).encode())
        pd.testing.assert_frame_equal(read_table("s3://tables/deep/t.csv", tmp_path), TABLE)
        before = compute_source_digest("s3://tables/deep/t.csv", tmp_path)
        store.put_object(Bucket="tables", Key="deep/t.csv", Body=b"a,b\n1,2\n")
        assert compute_source_digest("s3://tables/deep/t.csv", tmp_path) != before
        with pytest.raises(DataError, match="FileNotFoundError"):
            read_table("s3://tables/none.csv", tmp_path)


# Databases


@pytest.fixture
def shop(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        TABLE.to_sql("people", connection, index=False)
    return "sqlite:///shop.db"


def test_sqlite_is_read_without_modification(shop: str, tmp_path: Path) -> None:
    before = compute_source_digest(f"{shop}#people", tmp_path)
    pd.testing.assert_frame_equal(read_table(f"{shop}#people", tmp_path), TABLE)
    assert read_table(
        f"{shop}#SELECT n, x FROM people WHERE n % 2 = 0 AND name IS NOT '12:30 :x';", tmp_path
    )["n"].tolist() == [2, 4]
    assert (
        compute_source_digest(f"{shop}#people", tmp_path)
        == before
        != compute_source_digest(f"{shop}#other", tmp_path)
    )
    for query, fact in (
        ("", "shop.db"),
        ("DROP TABLE people", "DROP TABLE people"),
        ("none", "no such table: none"),
    ):
        with pytest.raises(DataError, match=fact):
            read_table(f"{shop}#{query}", tmp_path)
    assert len(read_table(f"{shop}#people", tmp_path)) == len(TABLE)
    with pytest.raises(DataError, match="'n'"):
        read_table(f"{shop}#select n, n from people", tmp_path)
    with pytest.raises(DataError, match="readonly database"):
        read_table(f"{shop}#with t as (select 1) insert into people (n) select 1", tmp_path)
    with pytest.raises(DataError, match=r"none\.db"):
        read_table("sqlite:///none.db#people", tmp_path)
    assert not (tmp_path / "none.db").exists()


def test_unreachable_database_or_missing_driver_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "geheim-word")
    with pytest.raises(DataError, match=r"127\.0\.0\.1") as exc_info:
        read_table("postgresql://me:${PGPASSWORD}@127.0.0.1:1/shop#people", tmp_path)
    assert "geheim" not in str(exc_info.value)
    with pytest.raises(DataError, match="mysql"):
        read_table("mysql://me@127.0.0.1:1/shop#people", tmp_path)


def test_variable_in_url_is_accepted_and_password_refused() -> None:
    from modelbook import config
    from modelbook.errors import ParameterError

    table = "postgresql://me:${PGPASSWORD}@host/shop#people"
    assert config.validate("ingest", {"table": table}).table == table
    with pytest.raises(ParameterError, match="secret") as exc_info:
        config.validate("ingest", {"table": table.replace("${PGPASSWORD}", "geheim-word")})
    assert "geheim" not in str(exc_info.value)


@pytest.mark.slow
def test_table_is_read_from_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import create_engine

    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    with postgresql() as server:
        engine = create_engine(server.url())
        TABLE.to_sql("People", engine, index=False)
        engine.dispose()
        url = f"postgresql://owner:${{SHOP_PASSWORD}}@127.0.0.1:{server.port}/postgres"
        pd.testing.assert_frame_equal(read_table(f"{url}#People", tmp_path), TABLE)
        query = "SELECT n, '10 %'::text AS share, 1.5::numeric AS d FROM \"People\" ORDER BY n DESC"
        assert read_table(f"{url}#{query}", tmp_path).values.tolist()[0] == [4, "10 %", 1.5]
        monkeypatch.setenv("DATABASE_URL", url.replace("${SHOP_PASSWORD}", PASSWORD))
        assert len(read_table("${DATABASE_URL}#public.People", tmp_path)) == 4
        with pytest.raises(DataError, match="read-only transaction"):
            read_table(
                f'{url}#WITH t AS (DELETE FROM "People" RETURNING 1) SELECT * FROM t', tmp_path
            )
        monkeypatch.setenv("SHOP_PASSWORD", "another-secret")
        with pytest.raises(
            DataError, match='password authentication failed for user "owner"'
        ) as exc_info:
            read_table(f"{url}#People", tmp_path)
        assert "another-secret" not in str(exc_info.value)


def test_every_bundled_table_has_a_loader() -> None:
    from modelbook.dataset.bundled import TABLE_LOADERS

    assert set(source.BUNDLED_TABLES) == set(TABLE_LOADERS)
