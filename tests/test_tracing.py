"""OTLP traces of the service at a local collector."""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from version_store import JSON, VersionStore, fit_pipeline, make_client

from modelbook.errors import ServingError
from modelbook.serving import telemetry

ROW = {"colour": "11", "size": 80.0, "noise": None, "flag": 1}
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def version_store(make_frame, contract, tmp_path: Path) -> VersionStore:
    version_store, frame = VersionStore(tmp_path), make_frame()
    version_store.alias(
        "champion", version_store.register(fit_pipeline(frame, contract), contract, frame)
    )
    return version_store


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector's address, and the spans that it has received."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()


def attributes(span: Any) -> dict[str, Any]:
    return {
        attribute.key: attribute.value.string_value or attribute.value.int_value
        for attribute in span.attributes
    }


@pytest.mark.long
def test_request_spans_continue_trace_of_caller(version_store, monkeypatch):
    (version_store.root / "serving.yaml").write_text("tracing: on")
    ids = {"x-request-id": "mine", "traceparent": f"00-{TRACE}-{CALLER}-01"}
    with collector() as (address, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")  # it exports when the service ends
        with make_client(version_store.root) as client:
            client.post("/predict", content=json.dumps(ROW), headers={**JSON, **ids})
            client.post("/predict", content="{}", headers=JSON)
            client.get("/health/ready")
    [traced] = [span for span in spans if span.parent_span_id.hex() == CALLER]
    assert (traced.name, traced.trace_id.hex()) == ("POST /predict", TRACE)
    assert attributes(traced) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "modelbook.request_id": "mine",
    }
    steps = {span.name for span in spans if span.parent_span_id == traced.span_id}
    assert steps == {"validate", "predict", "journal"}
    [rejected_span] = [
        span for span in spans if attributes(span).get("http.response.status_code") == 422
    ]
    assert rejected_span.trace_id.hex() not in (TRACE, "")
    assert {attributes(span).get("http.route") for span in spans} == {"/predict", None}


def test_missing_tracing_extra_raises_with_install_command(monkeypatch):
    load = builtins.__import__

    def load_without(name: str, *arguments: Any, **kwargs: Any) -> Any:
        if name.startswith("opentelemetry.exporter"):
            raise ModuleNotFoundError(name=name)
        return load(name, *arguments, **kwargs)

    monkeypatch.setattr(builtins, "__import__", load_without)
    with pytest.raises(ServingError) as failed:
        telemetry.require_exporter()
    assert "opentelemetry.exporter" in failed.value.problem
    assert "make extras" in failed.value.next
