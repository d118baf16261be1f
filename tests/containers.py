"""Run the containers of a rendered overlay as local processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

WAIT_SECONDS = 240
Resource = dict[str, Any]


def render_overlay(checkout: Path, name: str) -> list[Resource]:
    """The resources of an overlay, as kubectl would apply them."""
    command = ["kubectl", "kustomize", checkout / "deploy/kubernetes/overlays" / name]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(result.stdout))


@dataclass(frozen=True)
class Image:
    """What containers get of their image: entrypoint, commands, folder, and variables."""

    dockerfile: Path
    commands: Path
    folder: Path  # /book
    environ: dict[str, str] = field(default_factory=dict)

    def read_words(self, key: str) -> list[str]:
        """The words of the last ENTRYPOINT or CMD."""
        return json.loads(re.findall(rf"^{key} (\[.*\])", self.dockerfile.read_text(), re.M)[-1])


@dataclass
class Overlay:
    """Rendered resources, and what this machine has in the place of a cluster's parts."""

    resources: list[Resource]
    images: dict[str, Image]
    secrets: dict[str, str]
    addresses: dict[str, str]  # text of the manifests, and what stands for it here
    environ: dict[str, str]  # of this machine alone, such as the address of S3
    folder: Path  # of logs, and of each pod's /tmp
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def find(self, kind: str, name: str) -> Resource:
        return next(
            item
            for item in self.resources
            if (item["kind"], item["metadata"]["name"]) == (kind, name)
        )

    def container(self, kind: str, name: str) -> Resource:
        spec = self.find(kind, name)["spec"]
        spec = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
        [container] = spec["template"]["spec"]["containers"]
        return container

    def image(self, container: Resource) -> Image:
        return self.images[container["image"].partition(":")[0]]

    def environment(self, container: Resource) -> dict[str, str]:
        """The variables of a new pod, which has an empty /tmp of its own."""
        declared: dict[str, str] = {}
        for source in container["envFrom"]:
            declared |= self.find("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container["env"]:
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            declared[variable["name"]] = (
                self.secrets[secret["key"]] if secret else variable["value"]
            )
        image, tmp = self.image(container), tempfile.mkdtemp(dir=self.folder, prefix="pod-")
        return {
            "PATH": f"{image.commands}:/usr/bin:/bin",
            "HOME": tmp,
            "TMPDIR": tmp,
            "MODELBOOK_ROOT": str(image.folder),
            **image.environ,
            **self.environ,
            **{
                name: self.localize(value.replace("/tmp/", f"{tmp}/"))
                for name, value in declared.items()
            },
        }

    def localize(self, text: str) -> str:
        for there, here in self.addresses.items():
            text = text.replace(there, here)
        return text

    def command(self, container: Resource, environ: dict[str, str]) -> list[str]:
        """The words that are run, with ``$(NAME)`` of the environment."""
        image = self.image(container)
        if "command" in container:
            words = [*container["command"], *container.get("args", [])]
        else:
            words = [
                *image.read_words("ENTRYPOINT"),
                *container.get("args", image.read_words("CMD")),
            ]
        return [
            self.localize(re.sub(r"\$\((\w+)\)", lambda match: environ[match[1]], word))
            for word in words
        ]

    def run_job(self, name: str, *args: str) -> str:
        """Run a CronJob's container to its end, with its own words or others; its output."""
        container = self.container("CronJob", name)
        if args:
            container = {**container, "args": list(args)}
            container.pop("command", None)
        environ = self.environment(container)
        result = subprocess.run(
            self.command(container, environ),
            cwd=self.image(container).folder,
            env=environ,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{name}: {result.stdout}{result.stderr}"
        return result.stdout

    @contextmanager
    def started(self, name: str, *args: str, **environ: str) -> Iterator[None]:
        """Run a Deployment's container until the block ends; ``words`` name the port of here."""
        container = self.container("Deployment", name)
        values = self.environment(container) | environ
        path = self.folder / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                [*self.command(container, values), *args],
                cwd=self.image(container).folder,
                env=values,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        try:
            yield
        except BaseException:
            print(f"log of {name}:", path.read_text()[-3000:], sep="\n")
            raise
        finally:
            del self.processes[name]
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)

    def wait_for(self, condition: Callable[[], Any], title: str) -> Any:
        """The first value of a condition that is true; OSError says that it cannot be known yet."""
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            try:
                if found := condition():
                    return found
            except OSError:
                pass
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not ended, f"{ended} ended while waiting for {title}"
            time.sleep(0.2)
        raise AssertionError(f"waited {WAIT_SECONDS} s for {title}")
