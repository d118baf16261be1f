"""What is derived from the package's sources is cached, and follows changes of them."""

from __future__ import annotations

import json
import os
import sys

import jinja2
import pytest

from modelbook import source_imports
from modelbook.template_cache import TemplateCache


@pytest.fixture(autouse=True)
def write_caches(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules, of which the first imports the second."""
    package = tmp_path / "modelbook"
    package.mkdir()
    (package / "first.py").write_text("import json\nfrom modelbook import second\n")
    (package / "second.py").write_text("import csv\n")
    monkeypatch.setattr(source_imports, "PACKAGE_FOLDER", package)
    return package


def follow():
    source_imports._load_cache.cache_clear()  # as in a new process
    modules, names = source_imports.follow_imports(["modelbook.first"])
    return {path.name for path in modules}, names & {"json", "csv", "re"}


def test_imports_follow_changed_modules(package):
    assert follow() == follow() == ({"first.py", "second.py"}, {"json", "csv"})
    (package / "second.py").write_text("import re\n")
    assert follow() == ({"first.py", "second.py"}, {"json", "re"})
    (package / "first.py").write_text("import csv\n")
    assert follow() == ({"first.py"}, {"csv"})


def test_unchanged_modules_are_not_parsed_again(package, monkeypatch):
    follow()
    monkeypatch.setattr(source_imports, "find_imports", pytest.fail)
    assert follow() == ({"first.py", "second.py"}, {"json", "csv"})


def test_cache_older_than_the_code_that_finds_imports_is_ignored(package, monkeypatch):
    follow()
    os.utime(source_imports._get_cache_path(), (0, 0))
    monkeypatch.setattr(source_imports, "find_imports", lambda source: frozenset({"re"}))
    assert follow() == ({"first.py"}, {"re"})


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_unreadable_cache_is_replaced(package, content):
    follow()
    path = source_imports._get_cache_path()
    path.write_text(content)
    assert follow() == ({"first.py", "second.py"}, {"json", "csv"})
    assert len(json.loads(path.read_text())) == 2


def render(folder, cache):
    loader = jinja2.FileSystemLoader(folder)
    return jinja2.Environment(loader=loader, bytecode_cache=cache).get_template("page").render()


def test_changed_template_is_compiled_again(tmp_path):
    cache = TemplateCache()
    cache.directory = str(tmp_path)
    for text in ("one", "one", "two"):
        (tmp_path / "page").write_text(text)
        assert render(tmp_path, cache) == text
        assert [*tmp_path.glob("*.cache")]


def test_templates_are_rendered_without_a_cache_folder(tmp_path):
    cache = TemplateCache()
    cache.directory = str(tmp_path / "absent")
    (tmp_path / "page").write_text("one")
    assert render(tmp_path, cache) == "one"
    assert os.listdir(tmp_path) == ["page"]
