"""YAML by libyaml, with the messages of PyYAML."""

from __future__ import annotations

import pytest
import yaml
from small_project import ROOT

from modelbook.yaml_reading import load_yaml

FILES = [*sorted(ROOT.glob("contracts/*.yaml")), *sorted(ROOT.glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_of_project_are_read_as_in_python(path):
    text = path.read_text(encoding="utf-8")
    assert load_yaml(text) == yaml.safe_load(text)


def test_objects_are_refused():
    with pytest.raises(yaml.YAMLError, match="python/object"):
        load_yaml("a: !!python/object/apply:os.getcwd []")


def test_message_shows_the_line():
    with pytest.raises(yaml.YAMLError, match=r"line 2(.|\n)*title: Who: what"):
        load_yaml("task: binary\ntitle: Who: what\n")
