"""The application: FastAPI for what is asked now and then, behind the door."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from modelbook.serving import manual, page, table
from modelbook.serving.door import FAILED, Door, read, user_of, wanted
from modelbook.serving.refusals import Refusal
from modelbook.serving.service import Service

ASSETS = Path(fastapi_offline.__file__).parent / "static"
STRICT = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'"}
# Redoc would fetch a logo from its maker's site.
MANUAL = {"content-security-policy": "default-src 'self' 'unsafe-inline' data: blob:"}
OPEN: dict[str, Any] = {"security": []}


def create(root: Path, book: str) -> Door:
    """The application of one worker.

    Raises
    ------
    ServingError
        When a setting is wrong.
    JournalError
        When the journal's URL cannot be used.
    """
    service = Service(root, book)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(title="Modelbook", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    _add_model(app, service)
    _add_predictions(app, service)
    _add_pages(app, service)
    _add_refusals(app)
    if service.settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=service.settings.origins, allow_methods=["GET", "POST"],
            allow_headers=["content-type", "x-api-key", "authorization", "x-user-id", "x-request-id"],
        )  # fmt: skip
    return Door(service, app)


def _add_model(app: FastAPI, service: Service) -> None:
    @app.get("/health/live", tags=["health"], summary="Whether the process lives", openapi_extra=OPEN)
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready", tags=["health"], summary="Whether a proven version is in service", openapi_extra=OPEN)
    async def ready() -> JSONResponse:
        one = service.keeper.champion
        if one is None:
            reasons = service.keeper.refused
            return JSONResponse({"status": "not ready", "reasons": reasons}, 503)
        return JSONResponse({
            "status": "ready", "model_version": one.number, "data_fingerprint": one.tags.get("fingerprint", ""),
            "loaded_at": one.at, "golden_rows": one.golden, "journal": "up" if service.writer.up else "down",
        })  # fmt: skip

    @app.get("/model", tags=["model"], summary="What answers")
    async def model() -> dict[str, Any]:
        return service.about()

    @app.get("/metrics", tags=["model"], summary="For Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_predictions(app: FastAPI, service: Service) -> None:
    limits = service.settings.limits

    @app.post("/predict", include_in_schema=False)  # with an Origin, so that CORS has its say; else the door answers
    async def predict(request: Request) -> Response:
        headers = request.scope["modelbook.headers"]
        wanted(headers, "application/json")
        body = await read(request.receive, headers, limits.body, limits.seconds)
        told = await service.predict(body, user_of(headers))
        return Response(told, media_type="application/json")

    @app.post("/predict/csv", include_in_schema=False)
    async def predict_csv(request: Request) -> Response:
        began, body = time.perf_counter(), await _upload(request, limits.upload, limits.seconds)
        champion, answers, user = service.champion, [], user_of(request.scope["modelbook.headers"])
        header, cells, rows = table.rows(body, champion.contract)
        for part in table.parts(rows, champion.rows):  # all are right before any is answered
            answers += await service.answer(champion, part, user, began)
        return Response(table.written(header, cells, answers), media_type="text/csv")

    @app.post("/outcomes", include_in_schema=False)
    async def outcomes(request: Request) -> dict[str, int]:
        headers = request.scope["modelbook.headers"]
        wanted(headers, "application/json")
        return await service.outcomes(await read(request.receive, headers, limits.body, limits.seconds))


async def _upload(request: Request, most: int, seconds: float) -> bytes:
    """The table of an upload: the body itself, or the file of a form."""
    headers = request.scope["modelbook.headers"]
    kind = wanted(headers, "text/csv", "multipart/form-data")
    body = await read(request.receive, headers, most, seconds)
    if kind == "text/csv":
        return body

    async def again() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, again).form(max_files=1, max_fields=1) as form:
            file = form.get("file")
            if file is None or isinstance(file, str):
                raise Refusal(422, "the form has no file", expected="a file in the field `file`")
            return await file.read()
    except HTTPException as error:
        raise Refusal(
            400, f"the form cannot be read: {error.detail}", expected="multipart/form-data with a file"
        ) from None


def _add_pages(app: FastAPI, service: Service) -> None:
    limits = service.settings.limits
    app.mount("/static", StaticFiles(directory=ASSETS), name="static")

    def document() -> dict[str, Any]:
        one = service.champion
        if app.openapi_schema is None or app.openapi_schema["info"]["version"] != f"model version {one.number}":
            made = get_openapi(title=app.title, version="0", routes=app.routes)
            app.openapi_schema = manual.complete(made, one, service.settings.limits.rows)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    @app.get("/", include_in_schema=False)
    async def shown() -> HTMLResponse:
        return HTMLResponse(page.render(service.champion, wants_key=len(service.keys) > 0), headers=STRICT)

    @app.post("/", include_in_schema=False)
    async def tried(request: Request) -> HTMLResponse:
        headers = request.scope["modelbook.headers"]
        wanted(headers, "application/x-www-form-urlencoded")
        body, one = await read(request.receive, headers, limits.body, limits.seconds), service.champion
        form, key = page.fields(body, one)
        service.admit(key or None, (request.client or ("",))[0], "predict")
        told = await page.tried(one, form)
        return HTMLResponse(page.render(one, form, told, len(service.keys) > 0), headers=STRICT)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        made = get_swagger_ui_html(
            openapi_url="/openapi.json", title=_title(service), swagger_js_url="/static/swagger-ui-bundle.js",
            swagger_css_url="/static/swagger-ui.css", swagger_favicon_url="/static/favicon.png",
        )  # fmt: skip
        return HTMLResponse(made.body, headers=MANUAL)

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> HTMLResponse:
        made = get_redoc_html(
            openapi_url="/openapi.json", title=_title(service), redoc_js_url="/static/redoc.standalone.js",
            redoc_favicon_url="/static/favicon.png", with_google_fonts=False,
        )  # fmt: skip
        return HTMLResponse(made.body, headers=MANUAL)


def _title(service: Service) -> str:
    return service.champion.contract.title


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        told = {**refusal.to_dict(), "request_id": request.scope["modelbook.id"]}
        return JSONResponse(told, refusal.status, refusal.headers)

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path[:100]}: {error.detail}"
        return await refused(
            request, Refusal(error.status_code, what, "a path of /docs", [], dict(error.headers or {}))
        )

    @app.exception_handler(Exception)  # which goes on to the door, and into the log
    async def failed(request: Request, _: Exception) -> Response:
        return await refused(request, Refusal(500, FAILED))
