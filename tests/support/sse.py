"""Reads server-sent events from a real HTTP server, as a program would."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from httpx_sse import aconnect_sse


@dataclass(frozen=True, slots=True)
class Got:
    """One event."""

    name: str
    id: str
    data: Any


class Stream:
    """An open stream."""

    def __init__(self, events: AsyncIterator[Any]) -> None:
        self._events = events

    async def next(self) -> Got:
        """Return the next event that carries something."""
        async for event in self._events:
            if event.data:
                return Got(event.event, event.id, orjson.loads(event.data))
        raise AssertionError("the stream ended")

    async def take(self, count: int) -> list[Got]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[Got]:
        """Return everything until the server ends the stream."""
        return [Got(event.event, event.id, orjson.loads(event.data)) async for event in self._events if event.data]


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, path: str, *, last_id: str | None = None, **params: str
) -> AsyncGenerator[Stream]:
    """Open a stream, after an event if one is named."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with aconnect_sse(client, "GET", path, params=params, headers=headers) as source:
        if not source.response.is_success:
            await source.response.aread()
            raise AssertionError(f"{source.response.status_code} {source.response.text}")
        yield Stream(source.aiter_sse())
