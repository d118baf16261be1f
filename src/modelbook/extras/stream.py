"""The stream worker: scores rows of a Redis stream, and writes predictions to another stream.

Delivery is at least once: an entry is acknowledged when its prediction is in the output stream.
Entries of a dead worker are claimed by others; an id in the journal gets its earlier prediction.
"""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import socket
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from modelbook.errors import ServingError
from modelbook.extras import stream_metrics
from modelbook.redaction import redact
from modelbook.registry import alias_poller
from modelbook.serving import server, settings, telemetry
from modelbook.serving.http_request import RequestError
from modelbook.serving.service import PredictionService

LOG = logging.getLogger("modelbook.serving")
MAX_ID_LENGTH = 64
MAX_CONCURRENT_ENTRIES = 64  # entries processed together share commits of the journal
EntryFields = Mapping[bytes, bytes]


class StreamWorker:
    """Scores stream entries with the fields ``row`` (JSON) and, optionally, ``id`` and ``user``."""

    def __init__(self, service: PredictionService) -> None:
        self._service = service

    async def process_entry(self, entry_id: str, fields: EntryFields) -> dict[str, str]:
        """Return the output entry: ``id`` and ``prediction`` (the response), or ``error``.

        Parameters
        ----------
        entry_id : str
            The entry's id, used if the fields have none.

        Raises
        ------
        RequestError
            503 while no version is in service, or a required journal is unavailable: try again
            later.
        """
        start_time = time.perf_counter()
        raw_id = fields.get(b"id", entry_id.encode())
        identity = raw_id.decode("utf-8", "replace")
        try:
            return {
                "id": identity,
                "prediction": await self._predict_entry(identity, fields, start_time),
            }
        except RequestError as error:
            if error.status >= 500:
                raise
            return {"id": identity, "error": orjson.dumps(error.to_dict()).decode()}

    async def _predict_entry(
        self, prediction_id: str, fields: EntryFields, start_time: float
    ) -> str:
        if len(prediction_id) > MAX_ID_LENGTH:
            raise RequestError(
                422,
                f"an id of {len(prediction_id):,} characters",
                expected=f"at most {MAX_ID_LENGTH}",
            )
        champion = self._service.champion
        rows, is_list = champion.row_reader.read_body(fields.get(b"row", b""))
        if is_list:
            raise RequestError(422, "a list of rows", expected="one row per entry: a JSON object")
        response = await self._service.find_response(prediction_id)
        if response is None:
            user = fields.get(b"user", b"").decode("utf-8", "replace") or None
            [response] = await self._service.predict_rows(
                champion, rows, user, start_time, [prediction_id]
            )
        return orjson.dumps(response).decode()


def run_worker(root: Path, book: str) -> None:
    """Score entries until a signal stops the worker.

    Raises
    ------
    ServingError
        If there is no champion, a setting is invalid, the extra is not installed, or Redis is not
        reachable.
    """
    loaded_settings = settings.load_settings(root, book)
    try:
        import faststream.redis  # noqa: F401  required below
    except ModuleNotFoundError as error:
        raise ServingError(
            f"the stream worker needs a package that is not installed: {error.name}",
            expected="the extra stream",
            next="make extras, or: pip install 'modelbook[stream]'",
        ) from None
    logging.config.dictConfig(telemetry.build_log_config(loaded_settings.log_level))
    with alias_poller.run_alias_poller(root, book):
        server.require_champion(root, book)
        asyncio.run(_consume(PredictionService(root, book), loaded_settings.stream))


async def _consume(service: PredictionService, stream_settings: settings.StreamSettings) -> None:
    from faststream import FastStream

    metrics = stream_metrics.StreamMetrics(service)
    worker = StreamWorker(service)
    client = await _connect(stream_settings)
    consumer = f"{socket.gethostname()}-{os.getpid()}"

    async def handle(message: Any) -> None:
        [entry] = message.raw_message["message_ids"]
        result = await worker.process_entry(entry.decode(), message.raw_message["data"])
        await client.xadd(
            stream_settings.output_stream,
            result,
            maxlen=stream_settings.max_stream_length or None,
            approximate=True,
        )
        metrics.count_entry(result)

    broker = _create_broker(stream_settings, consumer, handle)
    async with service.lifespan():
        polling = asyncio.create_task(
            metrics.poll_stream(
                client, stream_settings.input_stream, stream_settings.consumer_group
            )
        )
        LOG.info(
            "scoring",
            extra={
                "input_stream": stream_settings.input_stream,
                "output_stream": stream_settings.output_stream,
                "consumer": consumer,
            },
        )
        with stream_metrics.serve_metrics(metrics, stream_settings.metrics_address):
            await FastStream(broker, logger=LOG).run()
        polling.cancel()
    await client.aclose()


def _create_broker(stream_settings: settings.StreamSettings, consumer: str, handler: Any) -> Any:
    """Create a broker that passes new entries to the handler, and those of dead workers."""
    from faststream import AckPolicy
    from faststream.redis import RedisBroker, StreamSub

    broker = RedisBroker(stream_settings.url, logger=LOG)
    subscription = partial(
        StreamSub,
        stream_settings.input_stream,
        group=stream_settings.consumer_group,
        consumer=consumer,
    )
    idle_ms = int(stream_settings.claim_seconds * 1000)
    for stream, max_workers in (
        (subscription(max_records=MAX_CONCURRENT_ENTRIES), MAX_CONCURRENT_ENTRIES),
        (subscription(min_idle_time=idle_ms, polling_interval=1000), None),
    ):
        broker.subscriber(
            stream=stream,
            max_workers=max_workers,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=_parse_raw_message,
        )(_wrap_handler(handler))
    return broker


def _wrap_handler(handler: Any) -> Any:
    """Wrap a handler so that it receives the message instead of its body."""
    from faststream.redis.annotations import RedisMessage

    async def handle_message(message: RedisMessage) -> None:
        await handler(message)

    handle_message.__annotations__ = {"message": RedisMessage, "return": None}
    return handle_message


async def _parse_raw_message(message: Any, parse: Any) -> Any:
    """Return a message with the entry's raw fields; FastStream expects its own envelope there."""
    parsed = await parse({**message, "data": {b"__data__": b"{}"}})
    parsed.raw_message = message
    return parsed


async def _connect(stream_settings: settings.StreamSettings) -> Any:
    """Return a Redis client, with the consumer group created at the start of the stream."""
    from redis import asyncio as redis
    from redis.exceptions import RedisError, ResponseError

    client = redis.from_url(stream_settings.url)
    try:
        await client.xgroup_create(
            stream_settings.input_stream, stream_settings.consumer_group, id="0", mkstream=True
        )
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise ServingError(
                f"stream {stream_settings.input_stream!r}: {error}",
                next="choose another one: stream.input_stream",
            ) from None
    except (RedisError, OSError, ValueError) as error:
        raise ServingError(
            f"Redis at {redact(stream_settings.url)}: {redact(str(error))}",
            expected="a reachable Redis server",
            next="start it, or correct stream.url in serving.yaml (MODELBOOK_SERVE_STREAM__URL)",
        ) from None
    return client
