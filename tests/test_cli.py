"""The command line: help with examples, exit codes, errors without tracebacks."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    "command", ["build", "check", "diff", "doctor", "new", "pdf", "runs", "setup", "site", "store"]
)
def test_help_shows_an_example(tiny, command):
    told = tiny.run("modelbook", command, "--help")
    assert told.returncode == 0
    assert f"modelbook {command}" in told.stdout.split("Example")[1]


def test_version(tiny):
    import modelbook

    assert tiny.run("modelbook", "--version").stdout == f"modelbook {modelbook.__version__}\n"


def test_wrong_usage_exits_with_2(tiny):
    assert tiny.run("modelbook", "chekc").returncode == 2


def test_check_accepts_the_bundled_table(tiny):
    told = tiny.run("modelbook", "check", "rand-hie")
    assert (told.returncode, told.stdout) == (0, "rand-hie keeps contracts/rand-hie.yaml\n")


def test_check_lists_violations_and_exits_with_1(tiny):
    from modelbook.dataset.bundled import rand_hie

    rand_hie().head(50).assign(xage=99.0).to_csv(tiny.root / "new.csv", index=False)
    told = tiny.run("modelbook", "check", "new.csv")
    assert told.returncode == 1
    assert "xage" in told.stdout
    assert "must be number from 0 to 66" in told.stdout
    assert "50 violations" in told.stderr


def test_check_lists_as_csv_and_json_up_to_a_limit(tiny):
    from modelbook.dataset.bundled import rand_hie

    rand_hie().head(50).assign(xage=99.5, site="x").to_csv(tiny.root / "new.csv", index=False)
    told = tiny.run("modelbook", "check", "new.csv", "--format", "csv", "--limit", "2")
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    assert lines[0] == "row,column,value,rule"
    assert lines[1].startswith('0,site,x,"must be one of 1, 2, 3')
    assert len(lines) == 3
    assert "100 violations of contracts/rand-hie.yaml; 2 are shown" in told.stderr
    told = tiny.run("modelbook", "check", "new.csv", "--format", "json")
    found = json.loads(told.stdout)
    assert len(found) == 100
    assert found[1] == {"row": 0, "column": "xage", "value": 99.5, "rule": "must be number from 0 to 66"}
    kept = tiny.run("modelbook", "check", "rand-hie", "--format", "json")
    assert (kept.returncode, json.loads(kept.stdout)) == (0, [])
    assert tiny.run("modelbook", "check", "new.csv", "--format", "xml").returncode == 2


def test_new_drafts_a_book_that_check_accepts_and_a_build_finds(tiny):
    rows = [f"{i % 7},{i * 37 % 101},{'yes' if i * 37 % 101 > 50 + i % 9 else 'no'}" for i in range(200)]
    (tiny.root / "Odd Rows.csv").write_text("\n".join(["a,b,answer", *rows]))
    told = tiny.run("modelbook", "new", "Odd Rows.csv", "--target", "answer")
    assert told.returncode == 1
    assert "nothing was written" in told.stderr
    assert not (tiny.root / "env.odd-rows.yaml").exists()
    told = tiny.run("modelbook", "new", "Odd Rows.csv", "--target", "answer", "--yes")
    assert told.returncode == 0, told.stderr
    assert "A binary book of 200 rows; 2 of 3 columns are features." in told.stdout
    assert told.stdout.endswith("then PLOOMBER_ENV_FILENAME=env.odd-rows.yaml ploomber build\n")
    assert tiny.run("modelbook", "check", "Odd Rows.csv", "--book", "odd-rows").returncode == 0
    found = tiny.run("modelbook", "doctor", "--book", "odd-rows", "--json").stdout
    assert "odd-rows of env.odd-rows.yaml: parameters, contract and table are in order" in found
    told = tiny.run("modelbook", "new", "Odd Rows.csv", "--target", "anwser")
    assert told.stderr.startswith("DataError: the table has no column 'anwser'\n  expected: did you mean 'answer'?")


def test_a_missing_table_is_told_without_a_traceback(tiny):
    told = tiny.run("modelbook", "check", "none.csv")
    assert told.returncode == 1
    assert told.stderr.startswith("DataError: there is no file")
    assert "Traceback" not in told.stderr


def test_an_unknown_book(tiny):
    told = tiny.run("modelbook", "build", "--book", "none")
    assert told.returncode == 1
    assert "no env file names the book 'none'" in told.stderr


def test_store_is_created_once(tiny):
    first, second = tiny.run("modelbook", "store"), tiny.run("modelbook", "store")
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout == f"sqlite:///{tiny.root}/models/mlflow.db\n"
    assert (tiny.root / "models/mlflow.db").is_file()


def test_pdf_and_site_want_reports(tiny):
    for command in ("pdf", "site"):
        told = tiny.run("modelbook", command)
        assert told.returncode == 1
        assert told.stderr.startswith("ReportError: there is no ")
        assert "Traceback" not in told.stderr


def test_site_goes_where_it_is_told(tiny):
    (tiny.root / "reports").mkdir()
    (tiny.root / "reports/index.html").write_text("<h1>Reports</h1>")
    told = tiny.run("modelbook", "site", "out.zip")
    assert (told.returncode, told.stdout) == (0, "1 file, 0.0 MB: out.zip\n")
    assert tiny.run("modelbook", "site").stdout == "1 file, 0.0 MB: site/index.html\n"
    assert tiny.run("modelbook", "site", "src").returncode == 1
