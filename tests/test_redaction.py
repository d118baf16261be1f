"""Secrets of the environment are redacted in everything that is written."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from small_project import ROOT, SmallProject
from version_store import put_empty_store

from modelbook import config
from modelbook.errors import ParameterError
from modelbook.redaction import pack_message, redact, redact_all
from modelbook.stage import origins

PASSWORD, KEY = "canary/pass&word", "canary-key-1234"
ENVIRON = {
    "WAREHOUSE": f"postgresql://me:{quote(PASSWORD, safe='')}@db.example/sales",
    "SERVICE_API_KEY": KEY,
}


@pytest.fixture
def secret(monkeypatch):
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        PASSWORD,
        quote(PASSWORD, safe=""),
        "canary/pass&amp;word",
        ENVIRON["WAREHOUSE"],
        repr(PASSWORD),
    ],
)
def test_secret_is_redacted_in_every_encoding(secret, text):
    result = redact(f"before {text} after")
    assert "canary" not in result
    assert "***" in result
    assert result.startswith("before ")
    assert result.endswith(" after")


def test_password_in_any_url_is_redacted():
    assert (
        redact("mysql://root:toor@localhost:3306/x?a=b@c")
        == "mysql://root:***@localhost:3306/x?a=b@c"
    )
    assert redact("http://localhost:8888/tree@home") == "http://localhost:8888/tree@home"


@pytest.mark.parametrize(
    "name",
    ["DB_PASSWORD", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_API_KEY", "PGPASSWORD", "DB_PWD"],
)
def test_variable_names_of_secrets_are_recognized(monkeypatch, name):
    monkeypatch.setenv(name, "hush-hush")
    assert redact("hush-hush") == "***"


def test_other_variables_and_short_values_are_not_redacted(monkeypatch):
    monkeypatch.setenv("EDITOR", "emacsclient")
    monkeypatch.setenv("PWD", "directory")
    monkeypatch.setenv("DB_PASSWORD", "mean")
    assert (
        redact("the mean, by emacsclient, in the present directory")
        == "the mean, by emacsclient, in the present directory"
    )


def test_strings_in_messages_are_redacted_except_images(secret):
    content = {"data": {"text/html": [f"<b>{KEY}</b>"], "image/png": KEY}, "count": 3}
    assert redact_all(content) == {
        "data": {"text/html": ["<b>***</b>"], "image/png": KEY},
        "count": 3,
    }
    assert json.loads(pack_message({"text": KEY})) == {"text": "***"}


def test_parameter_with_secret_raises_without_showing_it(secret, monkeypatch):
    with pytest.raises(
        ParameterError, match=r"table = 'postgresql://me:\*\*\*@db.example/sales': .*secret"
    ):
        config.validate("ingest", {"table": ENVIRON["WAREHOUSE"]})
    monkeypatch.setenv("MODELBOOK_TABEL", ENVIRON["WAREHOUSE"])
    with pytest.raises(ParameterError, match=r"MODELBOOK_TABEL = 'postgresql://me:\*\*\*@"):
        origins.read_environment("ingest")


LEAK = f"""import os, sys
from IPython.display import display
secrets = [os.environ[name] for name in {list(ENVIRON)}]
context.log_progress(f"reading {{secrets}}")
display({{"text/html": str(secrets), "text/plain": repr(secrets)}}, raw=True)
print(*secrets)
print(*secrets, file=sys.stderr)
secrets"""


@pytest.mark.slow
def test_build_writes_no_secret(tmp_path):
    small_project = SmallProject(put_empty_store(tmp_path))
    leak_into(small_project, "01_ingest", LEAK, before="verdict", tag=True)
    leak_into(small_project, "03_compare", LEAK, before="verdict", tag=True)
    leak_into(small_project, "04_finalize", LEAK + "\nraise ValueError(secrets)", before="products")
    result = small_project.build("--partially", "finalize", **ENVIRON)
    assert result.returncode == 1
    assert re.search(r"failed.*: finalize \(", result.stderr.strip())
    assert "ValueError" in result.stdout
    assert "canary" not in result.stdout + result.stderr
    files_with_secret = [
        path
        for top in ("reports", "models", "data")
        for path in (tmp_path / top).rglob("*")
        if path.is_file()
    ]
    assert {"01_ingest.ipynb", "01_ingest.html", ".metadata"} & {
        path.name for path in files_with_secret
    }
    assert [path for path in files_with_secret if b"canary" in path.read_bytes()] == []
    assert (
        "***" in (tmp_path / "reports/tiny/01_ingest.html").read_text()
    )  # it was there to be masked
    assert b"***" in (tmp_path / "models/mlflow.db").read_bytes()
    assert "***" in (tmp_path / "models/tiny/ingest.json").read_text()


def leak_into(small_project, stem, code, *, before, tag=False):
    """Insert a cell with secrets before a cell of a notebook, and leak them into the stage's outputs."""
    file = small_project.root / f"notebooks/{stem}.ipynb"
    notebook = json.loads(file.read_text())
    ids = [cell["id"] for cell in notebook["cells"]]
    cell = {
        "cell_type": "code",
        "id": "leak",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": code,
    }
    if tag:
        verdict = notebook["cells"][ids.index("verdict")]
        verdict["source"] = "".join(verdict["source"]).replace(
            "next=", "leaked=secrets,\n    next=", 1
        )
        run = [cell for cell in notebook["cells"] if "run.log(params" in "".join(cell["source"])]
        for element in run:
            element["source"] = "import os\n" + "".join(element["source"]).replace(
                "run.log(params=",
                f"run.log(params={{'leaked': os.environ['{next(iter(ENVIRON))}']}})\n    run.log(params=",
            )
    notebook["cells"].insert(ids.index(before), cell)
    file.write_text(json.dumps(notebook))


def test_notebooks_do_not_read_the_environment():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert "environ" not in path.read_text()
