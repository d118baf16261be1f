"""FastAPI application: all endpoints that the gateway does not handle itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from modelbook.serving import csv_upload, html_pages, inference_protocol, openapi
from modelbook.serving.gateway import INTERNAL_ERROR_MESSAGE, Gateway
from modelbook.serving.http_protocol import LIMITS_STATE
from modelbook.serving.http_request import RequestError, read_user_id, require_content_type
from modelbook.serving.service import PredictionService

DOCS_ASSETS = Path(fastapi_offline.__file__).parent / "static"
NO_SECURITY: dict[str, Any] = {"security": []}


def create_app(root: Path, book: str) -> Gateway:
    """Create the ASGI application of one worker.

    Raises
    ------
    ServingError
        If a setting is invalid.
    JournalError
        If the journal's URL cannot be used.
    """
    service = PredictionService(root, book)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with service.lifespan():
            yield {LIMITS_STATE: service.settings.limits}

    app = FastAPI(title="Modelbook", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    _add_model_routes(app, service)
    _add_prediction_routes(app, service)
    _add_page_routes(app, service)
    app.include_router(inference_protocol.create_router(service))
    _add_error_handlers(app)
    if service.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                "content-type",
                "authorization",
                "x-api-key",
                "x-user-id",
                "x-request-id",
            ],
        )
    return Gateway(service, app)


def _add_model_routes(app: FastAPI, service: PredictionService) -> None:
    @app.get(
        "/health/live",
        tags=["health"],
        summary="Liveness: the process is running",
        openapi_extra=NO_SECURITY,
    )
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get(
        "/health/ready",
        tags=["health"],
        summary="Readiness: a verified version is in production",
        openapi_extra=NO_SECURITY,
    )
    async def ready() -> JSONResponse:
        readiness = service.describe_readiness()
        return JSONResponse(readiness, 200 if readiness["status"] == "ready" else 503)

    @app.get("/model", tags=["model"], summary="The served model")
    async def model() -> dict[str, Any]:
        return service.describe()

    @app.get(
        "/metrics", tags=["model"], summary="Prometheus metrics", response_class=PlainTextResponse
    )
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _add_prediction_routes(app: FastAPI, service: PredictionService) -> None:
    # For requests with an Origin header, which need CORS; the gateway handles all others.
    @app.post("/predict", include_in_schema=False)
    async def predict(request: Request) -> Response:
        headers = request.scope["modelbook.headers"]
        require_content_type(headers, "application/json")
        body = await service.read_json_body(request.scope, request.receive)
        response_body = await service.predict(body, read_user_id(headers))
        return Response(response_body, media_type="application/json")

    @app.post("/predict/csv", include_in_schema=False)
    async def predict_csv(request: Request) -> Response:
        user = read_user_id(request.scope["modelbook.headers"])
        body = await _read_upload(request)
        start_time = time.perf_counter()
        champion = service.champion
        predictions = []
        header, cells, chunks = await service.parse_in_thread(
            csv_upload.read_table, body, champion, service.max_upload_rows
        )
        for chunk in chunks:
            predictions += await service.predict_rows(champion, chunk, user, start_time)
        table = await service.parse_in_thread(csv_upload.write_csv, header, cells, predictions)
        return Response(table, media_type="text/csv")

    @app.post("/outcomes", include_in_schema=False)
    async def outcomes(request: Request) -> dict[str, int]:
        require_content_type(request.scope["modelbook.headers"], "application/json")
        body = await service.read_json_body(request.scope, request.receive)
        return await service.record_outcomes(body)

    async def _read_upload(request: Request) -> bytes:
        content_type = require_content_type(
            request.scope["modelbook.headers"], "text/csv", "multipart/form-data"
        )
        body = await service.bodies.read(
            request.scope, request.receive, service.settings.limits.max_upload_bytes
        )
        return body if content_type == "text/csv" else await _read_form_file(request, body)


async def _read_form_file(request: Request, body: bytes) -> bytes:
    """Return the file of a multipart form."""

    async def replay_body() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, replay_body).form(max_files=1, max_fields=1) as form:
            file = form.get("file")
            if file is None or isinstance(file, str):
                raise RequestError(
                    422, "the form has no file", expected="a file in the field `file`"
                )
            return await file.read()
    except HTTPException as error:
        raise RequestError(
            400,
            f"the form cannot be read: {error.detail}",
            expected="multipart/form-data with a file",
        ) from None


def _add_page_routes(app: FastAPI, service: PredictionService) -> None:
    app.mount("/static", StaticFiles(directory=DOCS_ASSETS), name="static")
    app.openapi = partial(_build_document, app, service)  # type: ignore[method-assign]
    form_policy = html_pages.form_policy()

    @app.get("/", include_in_schema=False)
    async def show_form() -> HTMLResponse:
        page = html_pages.render_page(service.champion, requires_key=service.access.requires_key)
        return _make_page_response(page, form_policy)

    @app.post("/", include_in_schema=False)
    async def submit_form(request: Request) -> HTMLResponse:
        headers = request.scope["modelbook.headers"]
        require_content_type(headers, "application/x-www-form-urlencoded")
        champion = service.champion
        body = await service.read_json_body(request.scope, request.receive)
        form, key = html_pages.parse_form(body, champion)
        service.access.authorize(key or None, (request.client or ("",))[0], "predict")
        result_section = await html_pages.predict_form(champion, form)
        page = html_pages.render_page(champion, form, result_section, service.access.requires_key)
        return _make_page_response(page, form_policy)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = html_pages.render_swagger_page(service.champion.contract.title)
        return _make_page_response(page, html_pages.DOCS_POLICY)

    @app.get(html_pages.SWAGGER_SCRIPT_PATH, include_in_schema=False)
    async def swagger_script() -> Response:
        return Response(html_pages.SWAGGER_SCRIPT, media_type="text/javascript")

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> HTMLResponse:
        page = html_pages.render_redoc_page(service.champion.contract.title)
        return _make_page_response(page, html_pages.DOCS_POLICY)


def _build_document(app: FastAPI, service: PredictionService) -> dict[str, Any]:
    """Return the OpenAPI document of the champion; it is built again for another version."""
    champion, document = service.champion, app.openapi_schema
    if document is None or document["info"]["version"] != f"model version {champion.number}":
        document = openapi.complete_document(
            get_openapi(title=app.title, version="0", routes=app.routes),
            champion,
            service.book,
            service.settings.limits.max_rows,
        )
        app.openapi_schema = document
    return document


def _make_page_response(html: str, policy: str) -> HTMLResponse:
    return HTMLResponse(
        html, headers={"content-security-policy": policy, "referrer-policy": "same-origin"}
    )


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def handle_request_error(request: Request, error: RequestError) -> Response:
        body = {**error.to_dict(), "request_id": request.scope["modelbook.request_id"]}
        return JSONResponse(body, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> Response:
        problem = f"{request.method} {request.url.path[:100]}: {error.detail}"
        headers = dict(error.headers or {})
        request_error = RequestError(error.status_code, problem, "a path of /docs", [], headers)
        return await handle_request_error(request, request_error)

    @app.exception_handler(Exception)  # re-raised to the gateway, which logs it
    async def handle_unexpected_error(request: Request, _: Exception) -> Response:
        return await handle_request_error(request, RequestError(500, INTERNAL_ERROR_MESSAGE))
