"""Commands and settings of docs/serving.md."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from small_project import ROOT, SmallProject

from modelbook.serving.settings import ServingSettings, SettingsGroup

TEXT = (ROOT / "docs/serving.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.requires("curl")
@pytest.mark.every_python
def test_commands_in_serving_docs_run(built_project: SmallProject) -> None:
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()
    ]
    assert len(lines) > 8
    with built_project.serve("--book", "tiny", "--workers", "2") as address:
        for line in lines:
            if line in (
                "make serve",
                "modelbook serve",
                "modelbook stream",
            ):  # the last: tests/test_stream.py
                continue
            command = line.replace("http://127.0.0.1:8000", address).replace(
                "curl -s", "curl -sS --fail-with-body"
            )
            command = command.replace("data/rand-hie/", "data/tiny/").replace(
                "modelbook score", "modelbook score --book tiny"
            )

            result = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=built_project.root,
                env=built_project.environ,
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
            if line.endswith("/outcomes"):
                assert result.stdout == '{"recorded":1,"repeated":0}'


def names(model: type, before: str = "") -> Iterator[tuple[str, object]]:
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        if isinstance(field.annotation, type) and issubclass(field.annotation, SettingsGroup):
            yield from names(field.annotation, f"{name}.")
        else:
            yield before + name, field.default


@pytest.mark.parametrize(("name", "default"), list(names(ServingSettings)), ids=str)
def test_every_setting_is_documented_with_default(name: str, default: object) -> None:
    [row] = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |")]
    result = row.split("|")[2].strip()
    assert result in {
        f"`{default}`",
        "empty" if default == "" else "",
        "none" if default == [] else "",
    }
