"""The stream worker: rows from one Redis stream, answers to another, by the service's scorer and journal.

At least once: an entry is acknowledged when its answer is in the other stream. What a worker that died had taken is
taken over by the others, and an id that the journal knows gets the answer that it got before.
"""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from modelbook.errors import ServingError
from modelbook.redaction import redact
from modelbook.serving import server, settings
from modelbook.serving.refusals import Refusal
from modelbook.serving.service import Service

LOG = logging.getLogger("modelbook.serving")
LONGEST = 64  # characters of an id
AT_ONCE = 64  # entries that are at work together, so that they share commits of the journal
Fields = Mapping[bytes, bytes]


class Worker:
    """Answers entries: fields ``row`` (JSON), and perhaps ``id`` and ``user``, as they stand in a stream."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def answer(self, entry: str, fields: Fields) -> dict[str, str]:
        """What goes to the other stream: ``id`` with ``answer``, or with ``error`` for a row that is refused.

        Parameters
        ----------
        entry : str
            The entry's own id, which stands in where the fields have none.

        Raises
        ------
        Refusal
            503 while there is no version in service, or no journal that must not be missed: try again later.
        """
        began, given = time.perf_counter(), fields.get(b"id", entry.encode())
        identity = given.decode("utf-8", "replace")
        try:
            return {"id": identity, "answer": await self._answer(identity, fields, began)}
        except Refusal as refusal:
            if refusal.status >= 500:
                raise
            return {"id": identity, "error": orjson.dumps(refusal.to_dict()).decode()}

    async def _answer(self, identity: str, fields: Fields, began: float) -> str:
        if len(identity) > LONGEST:
            raise Refusal(422, f"an id of {len(identity):,} characters", expected=f"at most {LONGEST}")
        champion = self._service.champion
        rows, several = champion.rows.read(fields.get(b"row", b""))
        if several:
            raise Refusal(422, "a list of rows", expected="one row an entry: an object")
        before = await asyncio.to_thread(self._service.journal.answer, identity)
        if before is None:
            user = fields.get(b"user", b"").decode("utf-8", "replace") or None
            [before] = await self._service.answer(champion, rows, user, began, [identity])
        return orjson.dumps(before).decode()


def run(root: Path, book: str) -> None:
    """Answer until a signal ends it.

    Raises
    ------
    ServingError
        When no version bears the alias, when a setting is wrong, when the extra is not installed, or when Redis does
        not answer.
    """
    given = settings.load(root)
    server.champion_there(root, book)
    logging.config.dictConfig(server.logged(given.log))
    try:
        import faststream.redis  # noqa: F401  what follows needs it
    except ModuleNotFoundError as error:
        raise ServingError(
            f"the stream worker wants what is not installed: {error.name}", expected="the extra stream",
            next="make extras, or: pip install 'modelbook[stream]'",
        ) from None  # fmt: skip
    asyncio.run(_run(Service(root, book), given.stream))


async def _run(service: Service, given: settings.Stream) -> None:
    from faststream import AckPolicy, FastStream
    from faststream.redis import RedisBroker, StreamSub

    client = await _connected(given)
    broker, worker = RedisBroker(given.url, logger=LOG), Worker(service)
    consumer = f"{socket.gethostname()}-{os.getpid()}"
    group: dict[str, Any] = {"stream": given.rows, "group": given.group, "consumer": consumer}
    fresh = StreamSub(**group, max_records=AT_ONCE)
    abandoned = StreamSub(**group, min_idle_time=int(given.claim * 1000), polling_interval=1000)

    async def handle(message: Any) -> None:
        [entry] = message.raw_message["message_ids"]
        told = await worker.answer(entry.decode(), message.raw_message["data"])
        await client.xadd(given.answers, told, maxlen=given.keep or None, approximate=True)

    kept: dict[str, Any] = {"ack_policy": AckPolicy.NACK_ON_ERROR, "parser": _plain}
    broker.subscriber(stream=fresh, max_workers=AT_ONCE, **kept)(_asked(handle))
    broker.subscriber(stream=abandoned, **kept)(_asked(handle))
    async with service.running():
        LOG.info("answering", extra={"rows": given.rows, "answers": given.answers, "consumer": consumer})
        await FastStream(broker, logger=LOG).run()
    await client.aclose()


def _asked(handle: Any) -> Any:
    """A handler that is given the message, and not its body."""
    from faststream.redis.annotations import RedisMessage

    async def asked(message: RedisMessage) -> None:
        await handle(message)

    asked.__annotations__ = {"message": RedisMessage, "return": None}
    return asked


async def _plain(message: Any, parse: Any) -> Any:
    """A message with the entry's fields as they are; FastStream would look for an envelope of its own in them."""
    made = await parse({**message, "data": {b"__data__": b"{}"}})
    made.raw_message = message
    return made


async def _connected(given: settings.Stream) -> Any:
    """A client of Redis, once the group of workers is there; it begins with what the stream holds already."""
    from redis import asyncio as redis
    from redis.exceptions import RedisError, ResponseError

    client = redis.from_url(given.url)
    try:
        await client.xgroup_create(given.rows, given.group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise ServingError(f"stream {given.rows!r}: {error}", next="name another: stream.rows") from None
    except (RedisError, OSError, ValueError) as error:
        raise ServingError(
            f"Redis at {redact(given.url)}: {redact(str(error))}", expected="a server that answers",
            next="start it, or correct stream.url in serving.yaml (MODELBOOK_SERVE_STREAM__URL)",
        ) from None  # fmt: skip
    return client
