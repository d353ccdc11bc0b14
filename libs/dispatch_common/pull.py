"""A pull subscription that takes what is there: no linger, no prefetch beyond its credit, deaf to no restart."""

import asyncio
import time
from collections import deque
from typing import Any, Final

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

_CREDIT: Final = 512
_EXPIRES: Final = 2.0
#: An outstanding pull dies silently with the server, so silence longer than this asks again.
_SILENCE: Final = 3.0


class Pull:
    """Messages of one durable consumer, as they come. One reader."""

    def __init__(self, nc: Client, stream: str, durable: str, *, credit: int = _CREDIT) -> None:
        self._nc = nc
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._credit = credit
        self._outstanding = 0
        self._asked_at = 0.0
        self._waiting: deque[Msg] = deque()
        self._some = asyncio.Event()
        self._inbox = nc.new_inbox()
        self._subscription: Any = None

    async def start(self) -> None:
        """Subscribe and ask for the first messages."""
        self._subscription = await self._nc.subscribe(self._inbox, cb=self._arrived)
        await self._ask()

    async def stop(self) -> None:
        """Stop taking. What was fetched and not handled comes again after the ack wait."""
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()
        for message in self._waiting:
            await self.nak(message, delay=0.0)
        self._waiting.clear()

    async def next(self, most: int) -> list[Msg]:
        """Return at least one message and at most ``most``, without waiting for more than there are."""
        while not self._waiting:
            self._some.clear()
            try:
                async with asyncio.timeout(_SILENCE):
                    await self._some.wait()
            except TimeoutError:
                if time.monotonic() - self._asked_at >= _SILENCE:
                    self._outstanding = 0
                    await self._ask()
        batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        if self._outstanding <= self._credit // 2:
            await self._ask()
        return batch

    async def ack(self, message: Msg) -> None:
        await self._nc.publish(message.reply, b"+ACK")

    async def nak(self, message: Msg, *, delay: float) -> None:
        await self._nc.publish(message.reply, b"-NAK " + orjson.dumps({"delay": int(delay * 1e9)}))

    async def term(self, message: Msg) -> None:
        await self._nc.publish(message.reply, b"+TERM")

    async def _ask(self) -> None:
        room = self._credit - self._outstanding - len(self._waiting)
        if room <= 0 or self._nc.is_closed:
            return
        self._outstanding += room
        self._asked_at = time.monotonic()
        request = orjson.dumps({"batch": room, "expires": int(_EXPIRES * 1e9)})
        await self._nc.publish(self._subject, request, reply=self._inbox)

    async def _arrived(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None:
            self._outstanding = max(0, self._outstanding - 1)
            self._waiting.append(message)
            self._some.set()
            return
        # 404 and 408 end a request that found nothing more; 409 and 503 tell that the consumer or the server is gone.
        self._outstanding = 0
        if status in ("409", "503"):
            self._asked_at = time.monotonic()  # asked again by the watchdog, not in a hot loop
            return
        await self._ask()


def delivered(message: Msg) -> int:
    """Return how often the broker delivered this message."""
    return message.metadata.num_delivered
