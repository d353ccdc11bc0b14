"""How many viewers may watch at once, and how they are told that the console ends."""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from prometheus_client import Gauge

from services.console.problems import unavailable

T = TypeVar("T")
_WATCHING: Final = Gauge("dispatch_console_viewers", "Open event streams.")


class Viewers:
    """A bounded number of open streams. ``closing`` ends them all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self.closing = asyncio.Event()

    @contextmanager
    def one(self) -> Generator[None]:
        """Hold a place while a stream is open, or say that there is none."""
        self.check()
        self._open += 1
        _WATCHING.set(self._open)
        try:
            yield
        finally:
            self._open -= 1
            _WATCHING.set(self._open)

    def check(self) -> None:
        """Refuse a viewer when all places are taken: before the answer has begun."""
        if self._open >= self._most:
            raise unavailable(
                f"{self._most} viewers watch already.",
                "Try again in a minute, or close a stream.",
                code="too_many_viewers",
            )

    async def until_closing(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what ``work`` returns, or None as soon as the console closes."""
        closing = asyncio.ensure_future(self.closing.wait())
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait((closing, working), return_when=asyncio.FIRST_COMPLETED)
            return None if self.closing.is_set() else working.result()
        finally:
            for task in (closing, working):
                task.cancel()
            await asyncio.gather(closing, working, return_exceptions=True)

    def close(self) -> None:
        """End every stream soon."""
        self.closing.set()
