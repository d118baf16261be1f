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
    """Render the resources of an overlay with kubectl."""
    command = ["kubectl", "kustomize", checkout / "deploy/kubernetes/overlays" / name]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(result.stdout))


@dataclass(frozen=True)
class Image:
    """Properties of an image: Dockerfile, commands, working folder and variables."""

    dockerfile: Path
    commands: Path
    folder: Path  # /book
    environ: dict[str, str] = field(default_factory=dict)

    def read_command(self, key: str) -> list[str]:
        """Arguments of the last ENTRYPOINT or CMD."""
        return json.loads(re.findall(rf"^{key} (\[.*\])", self.dockerfile.read_text(), re.M)[-1])


@dataclass
class Overlay:
    """Rendered resources, and their substitutes on this machine."""

    resources: list[Resource]
    images: dict[str, Image]
    secrets: dict[str, str]
    addresses: dict[str, str]  # addresses in the manifests, and their local substitutes
    environ: dict[str, str]  # only of this machine, such as the address of S3
    folder: Path  # of logs, and of each pod's /tmp
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def find(self, resource_type: str, name: str) -> Resource:
        return next(
            resource
            for resource in self.resources
            if (resource["kind"], resource["metadata"]["name"]) == (resource_type, name)
        )

    def container(self, resource_type: str, name: str) -> Resource:
        spec = self.find(resource_type, name)["spec"]
        spec = spec["jobTemplate"]["spec"] if resource_type == "CronJob" else spec
        [container] = spec["template"]["spec"]["containers"]
        return container

    def image(self, container: Resource) -> Image:
        return self.images[container["image"].partition(":")[0]]

    def environment(self, container: Resource) -> dict[str, str]:
        """Environment of a new pod with an empty /tmp."""
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
        for cluster_address, local_address in self.addresses.items():
            text = text.replace(cluster_address, local_address)
        return text

    def command(self, container: Resource, environ: dict[str, str]) -> list[str]:
        """Command line of a container, with ``$(NAME)`` replaced from the environment."""
        image = self.image(container)
        if "command" in container:
            command = [*container["command"], *container.get("args", [])]
        else:
            command = [
                *image.read_command("ENTRYPOINT"),
                *container.get("args", image.read_command("CMD")),
            ]
        return [
            self.localize(re.sub(r"\$\((\w+)\)", lambda match: environ[match[1]], arg))
            for arg in command
        ]

    def run_job(self, name: str, *args: str) -> str:
        """Run a CronJob's container to its end, optionally with other arguments; returns its output."""
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
    def run_deployment(self, name: str, *args: str, **environ: str) -> Iterator[None]:
        """Run a Deployment's container until the block ends; ``args`` set the local port."""
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
        """Wait for a true value of a condition and return it; an OSError counts as false."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                if value := condition():
                    return value
            except OSError:
                pass
            ended_processes = [
                name for name, process in self.processes.items() if process.poll() is not None
            ]
            assert not ended_processes, f"{ended_processes} ended while waiting for {title}"
            time.sleep(0.2)
        raise AssertionError(f"waited {WAIT_SECONDS} s for {title}")
