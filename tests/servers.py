"""Real servers for tests: PostgreSQL, Redis, S3 (moto), MLflow, Prometheus, a webhook."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import prerequisites
import pytest
import redis

PASSWORD = "not-to-be-seen"


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class PostgreSQL:
    """A server that can be stopped and started again."""

    port: int
    control: list[Any]
    run: dict[str, Any]

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://owner:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        subprocess.run(
            [*self.control, "start"],
            **{**self.run, "capture_output": False},
            stdout=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        subprocess.run([*self.control, "-m", "immediate", "stop"], **self.run)


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Start a PostgreSQL with password authentication; skips the test if it is not installed."""
    prerequisites.require("postgresql")
    initdb = prerequisites.initdb()
    assert initdb
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    (folder / "password").write_text(PASSWORD)
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
        user = {"user": "postgres"}
    run = {"check": True, "capture_output": True, "cwd": folder, **user}
    options = ["-A", "scram-sha-256", "-U", "owner", "--pwfile", folder / "password"]
    options += ["--no-sync", "-E", "UTF8"]
    subprocess.run([initdb, "-D", folder / "data", *options], **run)
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [
        initdb.with_name("pg_ctl"),
        "-D",
        folder / "data",
        "-l",
        folder / "log",
        "-w",
        "-o",
        settings,
    ]
    server = PostgreSQL(port, control, run)
    server.start()
    try:
        yield server
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **{**run, "check": False})
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_process(command: list[str], folder: Path) -> Iterator[None]:
    """Run a program silently in a folder deadline the block ends."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def redis_server(folder: Path) -> Iterator[redis.Redis]:
    """Start a Redis without persistence; yields a client."""
    port = free_port()
    address = ["--port", str(port), "--bind", "127.0.0.1"]
    command = ["redis-server", *address, "--save", "", "--dir", str(folder)]
    with run_process(command, folder):
        client = redis.Redis(port=port)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        yield client


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Start a Prometheus with the folder's prometheus.yml; yields its URL."""
    address = f"127.0.0.1:{free_port()}"
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
    with run_process(["prometheus", *options, f"--web.listen-address={address}"], folder):
        yield f"http://{address}"


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """Start an Alertmanager with the folder's alertmanager.yml; yields its host and port."""
    address = f"127.0.0.1:{free_port()}"
    options = [
        "--config.file=alertmanager.yml",
        "--storage.path=alerts",
        "--cluster.listen-address=",
    ]
    command = ["prometheus-alertmanager", *options, f"--web.listen-address={address}"]
    with run_process(command, folder):
        yield address


@dataclass
class Webhook:
    """Receiver of POST requests: their JSON bodies and paths."""

    port: int
    messages: list[dict[str, Any]]

    def list_alerts(self, status: str = "firing") -> dict[tuple[str, str], dict[str, Any]]:
        """Alertmanager's alerts by path and name."""
        return {
            (message["path"], alert["labels"]["alertname"]): alert
            for message in self.messages
            for alert in message.get("alerts", [])
            if alert["status"] == status
        }


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Start a receiver of POST requests."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            messages.append({**body, "path": self.path})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Webhook(server.server_port, messages)
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def simulated_aws() -> Iterator[str]:
    """Start an empty moto server; yields its URL.

    The moto servers of a process share one state, so it is reset.
    """
    import requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        requests.post(f"{address}/moto-api/reset", timeout=30).raise_for_status()
        yield address
    finally:
        server.stop()


@contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch, bucket: str) -> Iterator[Any]:
    """Start an S3 with a bucket and set its URL in the environment; yields a client."""
    import boto3
    import fsspec
    from mlflow.store.artifact import s3_artifact_repo

    with simulated_aws() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-word")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # Cached clients have the URL of an earlier server.
        fsspec.filesystem("s3").clear_instance_cache()
        s3_artifact_repo._cached_get_s3_client.cache_clear()
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)
        yield client


@dataclass
class MLflowServer:
    """An MLflow server that can be stopped and started again."""

    port: int
    command: list[str]
    environ: dict[str, str]
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the MLflow server has ended"
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return
            time.sleep(0.2)
        raise AssertionError("the MLflow server was not ready in 120 seconds")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)  # its workers, too
            self.process.wait(30)


@contextmanager
def mlflow_server(database: str, artifacts: str, **environ: str) -> Iterator[MLflowServer]:
    """Start an MLflow server with a database and an artifact location."""
    port = free_port()
    args = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    args += ["--backend-store-uri", database, "--artifacts-destination", artifacts]
    args += ["--app-name", "basic-auth"] if "MLFLOW_AUTH_CONFIG_PATH" in environ else []
    command = [str(Path(sys.executable).with_name("mlflow")), "server", *args]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = MLflowServer(port, command, {**os.environ, **settings, **environ})
    server.start()
    try:
        yield server
    finally:
        server.stop()
