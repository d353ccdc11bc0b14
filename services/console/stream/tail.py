"""Messages of one stream from a position on, in order, each once: an ordered consumer, made again when it breaks.

A stream that was made anew, cut off at its end, or trimmed past the position is told as Lost; the tail then goes on
from where it says.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo
from nats.js.errors import NotFoundError

from dispatch_common import ids
from dispatch_common.errors import Transient
from services.console.stream.position import Mark, epoch_of

AWAY: Final = (NatsError, TimeoutError, OSError, Transient)
_BATCH: Final = 128
_KEEP_IDLE: Final = 30.0
_LOOK_EVERY: Final = 1.0


class Begin(StrEnum):
    """Where a tail without a position begins."""

    FIRST = "first"
    NOW = "now"


@dataclass(frozen=True, slots=True)
class Message:
    """One message and where it stands."""

    mark: Mark
    subject: str
    data: bytes
    message_id: str
    caught_up: bool  #: nothing waited behind it when it was delivered


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages behind the position are gone. The tail goes on behind ``mark``."""

    reason: str
    mark: Mark


class Tail:
    """One reader of one stream. Call ``next`` again and again; ``close`` in the end."""

    def __init__(
        self,
        jetstream: Callable[[], JetStreamContext],
        stream: str,
        subjects: Sequence[str],
        *,
        at: Mark | Begin,
        headers_only: bool = False,
        lost_begin: Begin = Begin.NOW,
    ) -> None:
        self._jetstream = jetstream
        self._stream = stream
        self._subjects = list(subjects)
        self._headers_only = headers_only
        self._lost_begin = lost_begin
        self._at: Mark | Begin = at
        self._expected = 1
        self._sub: JetStreamContext.PullSubscription | None = None
        self._consumer = ""
        self._looked = 0.0
        self.caught_up = False

    @property
    def mark(self) -> Mark | None:
        """Return the position, None before the stream was reached."""
        return self._at if isinstance(self._at, Mark) else None

    async def next(self, wait: float) -> list[Message] | Lost:
        """Return what there is, waiting at most about ``wait`` seconds; nothing while the broker is away."""
        try:
            if self._sub is None and (lost := await self._open()) is not None:
                return lost
            return await self._fetch(wait)
        except AWAY:
            await self._drop()
            await asyncio.sleep(min(wait, 0.2))
            return []

    async def open(self) -> Lost | None:
        """Reach the stream now, so that what comes from here on is seen. Raises what ``AWAY`` names."""
        return await self._open() if self._sub is None else None

    async def close(self) -> None:
        """Give the consumer back."""
        await self._drop(delete=True)

    async def _open(self) -> Lost | None:
        jetstream = self._jetstream()
        info = await jetstream.stream_info(self._stream)
        lost = self._place(info)
        if lost is not None:
            return lost
        assert isinstance(self._at, Mark)
        self._consumer = f"view-{ids.fresh().hex}"
        config = ConsumerConfig(
            name=self._consumer,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._at.seq + 1,
            filter_subjects=self._subjects,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=_KEEP_IDLE,
            mem_storage=True,
            num_replicas=1,
            headers_only=self._headers_only or None,
        )
        await jetstream.add_consumer(self._stream, config)
        self._sub = await jetstream.pull_subscribe_bind(consumer=self._consumer, stream=self._stream)
        self._expected = 1
        self._looked = asyncio.get_running_loop().time()
        return None

    def _place(self, info: StreamInfo) -> Lost | None:
        """Take a position in the stream as it is, or say what is gone."""
        epoch, first, last = epoch_of(str(info.created)), info.state.first_seq, info.state.last_seq
        match self._at:
            case Begin.NOW:
                self._at = Mark(epoch, last)
            case Begin.FIRST:
                self._at = Mark(epoch, max(first - 1, 0))
            case Mark():
                reason = _lost(self._at, epoch, first, last)
                if reason:
                    begin = last if self._lost_begin is Begin.NOW else max(first - 1, 0)
                    self._at = Mark(epoch, begin)
                    return Lost(reason, self._at)
        return None

    async def _fetch(self, wait: float) -> list[Message]:
        assert self._sub is not None
        try:
            found = await self._sub.fetch(_BATCH, timeout=max(wait, 0.02))
        except TimeoutError:
            self.caught_up = True
            await self._look()
            return []
        messages: list[Message] = []
        for raw in found:
            message = self._take(raw)
            if message is None:
                await self._drop()
                break
            messages.append(message)
        if messages:
            self.caught_up = messages[-1].caught_up
        return messages

    def _take(self, raw: Msg) -> Message | None:
        """Return a message, or None when one before it got lost on the way."""
        about = raw.metadata
        if about.sequence.consumer != self._expected:
            return None
        assert isinstance(self._at, Mark)
        self._expected += 1
        self._at = Mark(self._at.epoch, about.sequence.stream)
        message_id = (raw.headers or {}).get("Nats-Msg-Id", "")
        return Message(self._at, raw.subject, raw.data, message_id, caught_up=about.num_pending == 0)

    async def _look(self) -> None:
        """After silence: make sure that the stream is still the one we read, and our consumer still there."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        jetstream = self._jetstream()
        try:
            info = await jetstream.stream_info(self._stream)
            await jetstream.consumer_info(self._stream, self._consumer)
        except NotFoundError:
            await self._drop()
            return
        if isinstance(self._at, Mark) and _lost(self._at, epoch_of(str(info.created)), 0, info.state.last_seq):
            await self._drop()

    async def _drop(self, *, delete: bool = False) -> None:
        subscription, self._sub = self._sub, None
        self.caught_up = False
        if subscription is None:
            return
        with contextlib.suppress(*AWAY):
            await subscription.unsubscribe()
            if delete:
                await self._jetstream().delete_consumer(self._stream, self._consumer)


def _lost(mark: Mark, epoch: str, first: int, last: int) -> str:
    if mark.epoch != epoch:
        return "the broker's history was made anew"
    if mark.seq > last:
        return "the broker lost the end of its history"
    if mark.seq + 1 < first:
        return "the broker's history does not reach back so far"
    return ""
