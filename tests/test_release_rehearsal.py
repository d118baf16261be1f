"""Release rehearsal by docs/deploy: tags, simulated prod, an alert, a rollback."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import servers
import yaml
from containers import Image, Overlay, render_overlay
from servers import free_port
from small_project import BIN, QUICK, ROOT, SMALL, clean_environ

BOOK, ENV_FILE, BUCKET = "rand-hie-sample", "env.sample.yaml", "modelbook-prod"
IDENTITY = ["-c", "user.name=anna", "-c", "user.email=anna@example.org"]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.requires("kubectl", "postgresql", "redis", "prometheus", "alertmanager"),
]


def show(text: str) -> None:
    """Print a step."""
    print(f"{datetime.now(UTC):%H:%M:%S}  {text}", flush=True)


def run(command: list[Any], folder: Path, environ: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        [str(arg) for arg in command], cwd=folder, env=environ, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def check_out(folder: Path, tag: str) -> Path:
    run(["git", "clone", "-q", "--no-tags", ROOT, folder], folder.parent)
    run(["git", "tag", tag], folder)
    return folder


def release_code(folder: Path) -> Path:
    """Tag the code, and deploy the release's digests to the overlay prod, dry; its checkout."""
    checkout = check_out(folder / "release", "v1.0.0")
    commit = run(["git", "rev-parse", "v1.0.0"], checkout).strip()
    digest = f"sha256:{commit:0<64}"  # no engine builds images here
    images = [f"registry.example.com/modelbook-{name}@{digest}" for name in ("service", "stages")]
    lines = ["TAG=v1.0.0", f"COMMIT={commit}", f"SERVICE_IMAGE={images[0]}"]
    (folder / "release.env").write_text("\n".join([*lines, f"STAGES_IMAGE={images[1]}", ""]))
    make_arguments = ["TARGET=kubernetes", "OVERLAY=prod", "DRY=1", f"RELEASE={folder}/release.env"]
    result = run(["make", "deploy", *make_arguments], checkout)
    assert all(image in result for image in images)
    show(f"release v1.0.0, commit {commit[:10]}: the overlay prod with the digests of release.env")
    return checkout


class ModelReleases:
    """The jobs ``train`` and ``dev`` of a model's release, in a checkout of their own."""

    def __init__(self, folder: Path) -> None:
        self.checkout = check_out(folder / "training", "model-0")
        sources = {"PYTHONPATH": str(self.checkout / "src"), "PLOOMBER_ENV_FILENAME": ENV_FILE}
        self._environ = {**clean_environ(), **QUICK, **sources, "MODELBOOK_INTERACTIVE_ROWS": "0"}

    def _run(self, *args: str) -> str:
        return run([self.checkout / "deploy/ci/model.sh", *args], self.checkout, self._environ)

    def release(self, tag: str, **values: object) -> str:
        """Commit values of the env file, tag them, train and export; the address of the export."""
        path = self.checkout / ENV_FILE
        text = path.read_text()
        for name, value in values.items():
            text = re.sub(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.M)
        path.write_text(text)
        run(["git", *IDENTITY, "commit", "-qam", f"Values of {tag}"], self.checkout)
        run(["git", "tag", tag], self.checkout)
        self._run("train")
        described = self._run("describe").split()
        assert "decision=promote" in described
        export_uri = self._run("export", f"s3://{BUCKET}/exports").strip()
        show(f"{tag}: trained and exported, {' '.join(described)}")
        return export_uri

    def install(self, export_uri: str) -> None:
        """Make prod's champion that of dev, which the next gate compares with."""
        self._run("install", export_uri)


def create_databases(database: servers.PostgreSQL) -> None:
    url = database.url().replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create role modelbook login password '{servers.PASSWORD}'")
        for name in ("journal", "mlflow"):
            connection.execute(f"create database {name} owner modelbook")


def create_secrets(folder: Path, checkout: Path, redis_url: str, webhook: int) -> dict[str, str]:
    """The secrets that docs/deploy/kubernetes.md lists; ``caller-key`` is in no manifest."""
    folder.mkdir()
    for name in ("pipeline.yaml", "env.yaml"):
        shutil.copy(checkout / name, folder)
    environ = {**os.environ, "MODELBOOK_ROOT": str(folder)}
    add_key = ["modelbook", "keys", "add"]
    caller_key = run([*add_key, "shop"], folder, environ).strip()
    metrics_key = run([*add_key, "prometheus", "--scope", "admin"], folder, environ).strip()
    receiver = f"http://127.0.0.1:{webhook}"
    return {
        "journal-password": servers.PASSWORD,
        "keyring": (folder / "serving.keys.json").read_text(),
        "caller-key": caller_key,
        "metrics-key": metrics_key,
        "webhook": f"{receiver}/verdict",
        "page-webhook": f"{receiver}/page",
        "ticket-webhook": f"{receiver}/ticket",
        "s3-key": os.environ["AWS_ACCESS_KEY_ID"],
        "s3-secret": os.environ["AWS_SECRET_ACCESS_KEY"],
        "stream-url": redis_url,
    }


def create_images(folder: Path, checkout: Path, service_environment: Path) -> dict[str, Image]:
    """Images of the release; their volume is the checkout's generated folders."""
    folder.mkdir()
    for path in [checkout / "pipeline.yaml", *checkout.glob("env*.yaml")]:
        shutil.copy(path, folder)
    (folder / "models").symlink_to(checkout / "models")
    dockerfiles = checkout / "deploy"
    return {
        "modelbook-service": Image(dockerfiles / "Dockerfile", service_environment / "bin", folder),
        "modelbook-stages": Image(
            dockerfiles / "stages.Dockerfile", BIN, checkout, {"PYTHONPATH": str(checkout / "src")}
        ),
    }


def create_overlay(
    folder: Path,
    checkout: Path,
    service_environment: Path,
    database: servers.PostgreSQL,
    client: redis.Redis,
    webhook: int,
) -> tuple[Overlay, int]:
    """The overlay prod with its databases, secrets and images; and MLflow's port."""
    create_databases(database)
    redis_url = f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}"
    mlflow = free_port()
    overlay = Overlay(
        render_overlay(checkout, "prod"),
        create_images(folder / "service", checkout, service_environment),
        create_secrets(folder / "keys", checkout, redis_url, webhook),
        addresses={
            "postgres.prod.example.com/": f"127.0.0.1:{database.port}/",
            "?sslmode=require": "",
            "modelbook-mlflow:5000": f"127.0.0.1:{mlflow}",
            "0.0.0.0": "127.0.0.1",
            "env.yaml": ENV_FILE,  # the sample book instead of the bundled one
        },
        environ={"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]},
        folder=folder,
    )
    return overlay, mlflow


def install(overlay: Overlay, export_uri: str, why: str) -> None:
    """Install a version, as the job ``prod`` of a model's release does."""
    container = overlay.container("CronJob", "modelbook-retrain")
    checkout = overlay.image(container).folder
    environ = overlay.environment(container) | {"WHY": why}
    result = run([checkout / "deploy/ci/model.sh", "install", export_uri], checkout, environ)
    show(f"prod: {result.strip().splitlines()[-1]}")


def predict(overlay: Overlay, port: int) -> dict[str, Any]:
    """Prediction for the example of the service's documentation, as in the release check."""
    script = [BIN / "python", ROOT / "deploy/ci/smoke.py", f"http://127.0.0.1:{port}"]
    return json.loads(run(script, ROOT, {"SMOKE_KEY": overlay.secrets["caller-key"]}))


def read_example(overlay: Overlay, port: int) -> dict[str, Any]:
    headers = {"x-api-key": overlay.secrets["caller-key"]}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/openapi.json", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        operation = json.load(response)["paths"]["/predict"]["post"]
    return operation["requestBody"]["content"]["application/json"]["example"]


def is_ready(port: int) -> bool:
    return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=30))


def score_by_stream(overlay: Overlay, client: redis.Redis, row: dict[str, Any]) -> dict[str, Any]:
    entry = client.xadd("modelbook:rows", {"row": json.dumps(row)})

    def read_prediction() -> dict[bytes, bytes] | None:
        predictions = [fields for _, fields in client.xrange("modelbook:predictions")]
        return next((fields for fields in predictions if fields[b"id"] == entry), None)

    prediction = overlay.wait_for(read_prediction, "the prediction of the stream")
    assert b"prediction" in prediction, prediction
    return json.loads(prediction[b"prediction"])


def run_schedule(overlay: Overlay, rows: Path, s3: Any, webhook: servers.Webhook) -> None:
    """Run the three CronJobs as they are rendered."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    s3.upload_file(str(rows), BUCKET, f"rows/{day}/part-0.parquet")
    scored = json.loads(overlay.run_job("modelbook-score"))
    assert (scored["version"], scored["rejected_rows"]) == (1, 0)
    objects = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"scores/{day}/")["Contents"]
    names = {entry["Key"].rpartition("/")[2] for entry in objects}
    assert {"part-0.parquet", "_SUCCESS"} <= names
    folder = overlay.images["modelbook-stages"].folder
    report = json.loads((folder / f"reports/scored-{day}.json").read_text())
    assert report["scored_rows"] == scored["scored_rows"] > 500
    assert report["drift"]
    show(f"CronJob score: {scored['scored_rows']:,} rows by version {scored['version']}")
    verdict = overlay.run_job("modelbook-monitor").splitlines()
    assert verdict[0] == "watch"  # of the few rows that were served
    assert [message["path"] for message in webhook.messages] == ["/verdict"]
    show(f"CronJob monitor: {verdict[0]}, sent to the webhook")
    outcome = overlay.run_job("modelbook-retrain").splitlines()
    assert outcome[0] == "cooldown"  # the champion is new
    show(f"CronJob retrain: {outcome[0]}")


def translate_alertmanager(value: Any, secrets: dict[str, str]) -> Any:
    """An AlertmanagerConfig's spec in Alertmanager's own words, as the operator writes it."""
    if isinstance(value, list):
        return [translate_alertmanager(element, secrets) for element in value]
    if not isinstance(value, dict):
        return value
    if "urlSecret" in value:
        address = secrets[value["urlSecret"]["key"]]
        return {"url": address, "send_resolved": value["sendResolved"]}
    if {"name", "value"} <= value.keys():
        return f'{value["name"]} {value.get("matchType", "=")} "{value["value"]}"'
    names = {"sourceMatch": "source_matchers", "targetMatch": "target_matchers"}
    snake = {key: re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", key) for key in value}
    return {
        names.get(key, snake[key]): translate_alertmanager(element, secrets)
        for key, element in value.items()
    }


def write_alertmanager_file(overlay: Overlay, folder: Path) -> None:
    spec = overlay.find("AlertmanagerConfig", "modelbook")["spec"]
    text = yaml.safe_dump(translate_alertmanager(spec, overlay.secrets))
    text = re.sub(r"group_(wait|interval): \w+", r"group_\1: 1s", text)  # a rehearsal is short
    (folder / "alertmanager.yml").write_text(text)


def write_prometheus_files(
    overlay: Overlay, folder: Path, ports: dict[str, int], alertmanager: str
) -> None:
    """Prometheus' configuration and rules by the rendered monitors and rules."""
    rules = yaml.safe_dump(overlay.find("PrometheusRule", "modelbook")["spec"])
    (folder / "alerts.yml").write_text(re.sub(r"for: \d+\w", "for: 2s", rules))
    jobs = []
    for name, port in ports.items():
        spec = overlay.find("ServiceMonitor", name)["spec"]
        [endpoint] = spec["endpoints"]
        job = {
            "job_name": overlay.find("Service", name)["metadata"]["labels"][spec["jobLabel"]],
            "metrics_path": endpoint["path"],
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        if "authorization" in endpoint:
            key = endpoint["authorization"]["credentials"]["key"]
            job["authorization"] = {"credentials": overlay.secrets[key]}
        jobs.append(job)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))


def start_monitoring(
    overlay: Overlay, folder: Path, ports: dict[str, int], stack: ExitStack
) -> None:
    """Start Prometheus and Alertmanager."""
    folder.mkdir()
    write_alertmanager_file(overlay, folder)
    alertmanager = stack.enter_context(servers.alertmanager(folder))
    write_prometheus_files(overlay, folder, ports, alertmanager)
    stack.enter_context(servers.prometheus(folder))


def alter_scorer(s3: Any) -> None:
    """Inject a fault: alter the scorer of the newest version in the bucket."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="artifacts/")
    scorers = [
        entry
        for page in pages
        for entry in page["Contents"]
        if entry["Key"].endswith("scorer/scorer.json")
    ]
    newest = max(scorers, key=lambda entry: entry["LastModified"])["Key"]
    s3.put_object(Bucket=BUCKET, Key=newest, Body=b"{}")
    show(f"injected fault: s3://{BUCKET}/{newest} was altered")


def roll_back(overlay: Overlay, page: dict[str, Any]) -> None:
    """Roll back as the runbook describes, as a job."""
    runbook = page["annotations"]["runbook_url"].rpartition("#")[2]
    show(f"paged: {page['labels']['alertname']}; its runbook is runbooks.md#{runbook}")
    text = (ROOT / "docs/deploy/runbooks.md").read_text()
    [section] = re.findall(rf"^## {runbook}\n(.*?)(?=^## )", text, re.M | re.S | re.I)
    assert "modelbook rollback --why" in section
    output = overlay.run_job(
        "modelbook-retrain", "rollback", "--why", "The files of version 2 were altered."
    )
    show(f"prod: {output.strip()}")


def start_stream_worker(overlay: Overlay, port: int) -> Any:
    address = {"MODELBOOK_SERVE_STREAM__METRICS_ADDRESS": f"127.0.0.1:{port}"}
    return overlay.run_deployment("modelbook-stream", **address)


def test_release_from_tags_to_prod_alerts_and_rolls_back(
    tmp_path, monkeypatch, service_environment
):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the S3 logs each request
    ports = {"modelbook": free_port(), "modelbook-stream": free_port()}
    port = ports["modelbook"]
    with ExitStack() as stack, ExitStack() as service:
        s3 = stack.enter_context(servers.object_store(monkeypatch, BUCKET))
        webhook = stack.enter_context(servers.webhook())
        client = stack.enter_context(servers.redis_server(tmp_path))
        database = stack.enter_context(servers.postgresql())
        checkout = release_code(tmp_path)
        overlay, mlflow = create_overlay(
            tmp_path, checkout, service_environment, database, client, webhook.port
        )
        stack.enter_context(overlay.run_deployment("modelbook-mlflow", "--port", str(mlflow)))
        models = ModelReleases(tmp_path)
        small = {key: value for key, value in SMALL.items() if key not in ("book", "time_budget")}
        export_uri = models.release("model-1", **small)
        health = f"http://127.0.0.1:{mlflow}/health"
        overlay.wait_for(lambda: urllib.request.urlopen(health, timeout=30), "MLflow")
        install(overlay, export_uri, "model-1")
        models.install(export_uri)

        service.enter_context(overlay.run_deployment("modelbook", "--port", str(port)))
        stack.enter_context(start_stream_worker(overlay, ports["modelbook-stream"]))
        for name, number in ports.items():
            overlay.wait_for(lambda number=number: is_ready(number), name)
        response = predict(overlay, port)
        assert response["model_version"] == 1
        show(f"the service predicts by version 1: {response['probabilities']}")
        row = read_example(overlay, port)
        streamed = score_by_stream(overlay, client, row)
        assert streamed["probabilities"] == pytest.approx(response["probabilities"], abs=1e-12)
        show("the stream worker predicts the same")
        run_schedule(overlay, models.checkout / f"data/{BOOK}/batches.parquet", s3, webhook)
        start_monitoring(overlay, tmp_path / "watch", ports, stack)

        install(overlay, models.release("model-2", cost_fn=4.2), "model-2")
        for name, read in (
            ("the service", lambda: predict(overlay, port)),
            ("the stream worker", lambda: score_by_stream(overlay, client, row)),
        ):
            overlay.wait_for(lambda read=read: read()["model_version"] == 2, name)
            show(f"{name} follows to version 2, without a deployment")
        alter_scorer(s3)
        service.close()  # a new pod downloads the files again
        service.enter_context(overlay.run_deployment("modelbook", "--port", str(port)))
        paged = "/page", "NoVersionInService"
        roll_back(overlay, overlay.wait_for(lambda: webhook.list_alerts().get(paged), "the page"))
        overlay.wait_for(lambda: is_ready(port), "the service")
        assert predict(overlay, port)["model_version"] == 1
        show("the service predicts by version 1 again")
        overlay.wait_for(lambda: paged in webhook.list_alerts("resolved"), "the end of the page")
        show("the webhook was told of the end of the page")
