"""The command line: help with examples, exit codes, errors without tracebacks."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("command", ["build", "check", "diff", "doctor", "pdf", "runs", "setup", "site", "store"])
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
