"""How many viewers may watch at once, and how they are told that the console ends."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Gauge

from services.console.problems import unavailable

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

    def close(self) -> None:
        """End every stream soon."""
        self.closing.set()
