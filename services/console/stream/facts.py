"""The stream of all facts of an org. A fact that the broker holds twice (said again after a doubt) is sent once."""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, Final

import orjson
from sse_starlette import ServerSentEvent

from dispatch_common import streams
from services.console.desk import Desk
from services.console.reads.runs import list_runs
from services.console.schemas import Out, RunOut
from services.console.stream.position import FactMark, Mark
from services.console.stream.tail import Begin, Lost, Message, Tail

_WAIT: Final = 1.0
_REMEMBERED: Final = 20_000
_RETRY_MS: Final = 1000


class Snapshot(Out):
    """What stands at a moment when history was lost: the newest live runs. ``reason`` says what happened."""

    reason: str
    at: datetime
    runs: list[RunOut]


def tail_of(at: Desk, begin: Mark | Begin, *, headers_only: bool = False) -> Tail:
    """Return a tail of the org's facts."""
    return Tail(lambda: at.ctx.js, streams.FACTS, [f"dispatch.*.*.*.{at.org}"], at=begin, headers_only=headers_only)


class Once:
    """Tells which facts a viewer had before. Only what was said again is looked at closely: it is rare."""

    def __init__(self, at: Desk, resumed: FactMark | None) -> None:
        self._at = at
        self._resumed = resumed.mark if resumed else None
        self._ids: OrderedDict[str, None] = OrderedDict()
        #: When the viewer was told what stands: what is said again of the time before is no news.
        self.snapshot = resumed.snapshot if resumed else None

    def place(self, mark: Mark) -> str:
        """Return the id of an event."""
        return str(FactMark(mark, self.snapshot))

    async def new(self, message: Message) -> bool:
        """Tell whether the viewer did not have this fact, and remember it."""
        fact_id, _, copy = message.message_id.partition("/")
        if copy and self._resumed is not None:
            resumed, self._resumed = self._resumed, None
            await self._remember_before(resumed)
        if fact_id in self._ids or (copy and self._before_snapshot(message)):
            return False
        self._add(fact_id)
        return True

    def _before_snapshot(self, message: Message) -> bool:
        if self.snapshot is None:
            return False
        return datetime.fromisoformat(orjson.loads(message.data)["time"]) <= self.snapshot

    def _add(self, fact_id: str) -> None:
        self._ids[fact_id] = None
        while len(self._ids) > _REMEMBERED:
            self._ids.popitem(last=False)

    async def _remember_before(self, resumed: Mark) -> None:
        """Read the ids of what came before the position that the viewer resumed from."""
        tail = tail_of(self._at, Mark(resumed.epoch, max(resumed.seq - _REMEMBERED, 0)), headers_only=True)
        try:
            while (tail.mark is None or tail.mark.seq < resumed.seq) and not tail.caught_up:
                got = await tail.next(_WAIT)
                if isinstance(got, Lost):
                    continue
                for message in got:
                    if message.mark.seq <= resumed.seq:
                        self._add(message.message_id.partition("/")[0])
        finally:
            await tail.close()


async def fact_events(at: Desk, begin: FactMark | Begin, *, follow: bool) -> AsyncGenerator[ServerSentEvent]:
    """Yield facts as events; without ``follow`` the stream ends when it has caught up."""
    resumed = begin if isinstance(begin, FactMark) else None
    tail = tail_of(at, begin.mark if isinstance(begin, FactMark) else begin)
    once = Once(at, resumed)
    try:
        yield ServerSentEvent(comment="facts", retry=_RETRY_MS)
        while (got := await at.viewers.until_closing(tail.next(_WAIT))) is not None:
            if isinstance(got, Lost):
                snapshot = await _snapshot(at, got.reason)
                once.snapshot = snapshot.at
                yield ServerSentEvent(snapshot.model_dump_json(), event="reset", id=once.place(got.mark))
                continue
            for message in got:
                if await once.new(message):
                    yield ServerSentEvent(message.data.decode(), event="fact", id=once.place(message.mark))
            if not follow and tail.caught_up and tail.mark is not None:
                yield ServerSentEvent("{}", event="end", id=once.place(tail.mark))
                return
    finally:
        await tail.close()


async def _snapshot(at: Desk, reason: str) -> Snapshot:
    moment: Any = await at.db.fetchval("SELECT clock_timestamp()")
    page = await list_runs(at.db, org=at.org, live=True, limit=200)
    return Snapshot(reason=reason, at=moment, runs=page.items)
