"""The stream of one run: its steps from the database, its agent's events from the broker, in the order they happened.

Steps are numbered rows, so nothing that happens to the broker can lose or double one. The agent's events are known by
attempt and number; when the broker forgot some, the archive of the attempt's end has them.
"""

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson
from sse_starlette import ServerSentEvent

from dispatch_common import streams
from dispatch_common.lifecycle import TERMINAL, RunState
from services.console.desk import Desk
from services.console.reads import run_detail
from services.console.schemas import Out, RunDetail, StepOut
from services.console.stream import archive
from services.console.stream.position import Mark, RunMark
from services.console.stream.tail import Begin, Lost, Message, Tail

_BUSY_WAIT: Final = 0.1
_CALM_WAIT: Final = 0.5
_CALM_AFTER: Final = 100  #: rounds without news
_RETRY_MS: Final = 1000


class RunReset(Out):
    """A part of the agent's events was lost; this is what stands. The steps are whole."""

    reason: str
    run: RunDetail


class RunEnd(Out):
    """The run has ended and everything was sent."""

    run: UUID
    state: RunState
    sentence: str


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """One event of an attempt, as it is sent on."""

    attempt: UUID
    seq: int
    at: datetime
    raw: str
    mark: Mark | None = None


def agent_event(data: bytes, mark: Mark | None = None) -> AgentEvent:
    """Read an event's line."""
    line = orjson.loads(data)
    return AgentEvent(UUID(line["attempt"]), int(line["seq"]), datetime.fromisoformat(line["at"]), data.decode(), mark)


class Seen:
    """Which agent events a viewer had. Attempts follow each other: everything of an earlier one was seen."""

    def __init__(self, at: Desk, run_id: UUID, mark: RunMark) -> None:
        self._at = at
        self._run_id = run_id
        self._order: dict[UUID, int] = {}
        self._attempt = mark.attempt
        self._seq = mark.seq

    async def new(self, event: AgentEvent) -> bool:
        """Tell whether the viewer did not have this event, and remember it."""
        if event.attempt == self._attempt:
            if event.seq <= self._seq:
                return False
        elif self._attempt is not None and await self._rank(event.attempt) < await self._rank(self._attempt):
            return False
        self._attempt, self._seq = event.attempt, event.seq
        return True

    async def _rank(self, attempt: UUID) -> int:
        if attempt not in self._order:
            rows = await self._at.db.fetch("SELECT id, fence FROM attempts WHERE run_id = $1", self._run_id)
            self._order = {row["id"]: row["fence"] for row in rows}
        # An attempt that no row knows yet is the newest.
        return self._order.get(attempt, len(self._order) + 1_000_000)


class RunStream:
    """One viewer of one run."""

    def __init__(self, at: Desk, run_id: UUID, mark: RunMark, *, follow: bool) -> None:
        self._at = at
        self._run_id = run_id
        self._mark = mark
        self._follow = follow
        self._seen = Seen(at, run_id, mark)
        self._steps: deque[StepOut] = deque()
        self._fetched = mark.step
        self._state: RunState | None = None
        self._quiet = 0
        begin = mark.mark or Begin.FIRST
        subject = streams.agent_subject(run_id)
        self._tail = Tail(lambda: at.ctx.js, streams.AGENT, [subject], at=begin, lost_begin=Begin.FIRST)

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """Yield the run's events until it has ended and everything was sent."""
        try:
            yield ServerSentEvent(comment="run", retry=_RETRY_MS)
            while not self._at.viewers.closing.is_set():
                async for event in self._round():
                    yield event
                if await self._complete():
                    async for event in self._rest():
                        yield event
                    return
        finally:
            await self._tail.close()

    async def _round(self) -> AsyncGenerator[ServerSentEvent]:
        """Take what is new of both sources and send it in order."""
        got = await self._tail.next(_BUSY_WAIT if self._quiet < _CALM_AFTER else _CALM_WAIT)
        fresh = await run_detail.steps(self._at.db, self._run_id, after=self._fetched)
        self._steps.extend(fresh)
        self._fetched = fresh[-1].number if fresh else self._fetched
        self._quiet = 0 if fresh or got else self._quiet + 1
        if isinstance(got, Lost):
            yield await self._reset(got)
            return
        async for event in self._merge(_events(got)):
            yield event
        # While the broker has more, a step may belong behind what is still to come.
        if self._tail.caught_up or self._tail.mark is None:
            for event in self._due(None):
                yield event

    async def _merge(self, events: Iterable[AgentEvent]) -> AsyncGenerator[ServerSentEvent]:
        for event in events:
            if not await self._seen.new(event):
                continue
            for step in self._due(event.at):
                yield step
            self._mark = self._mark.after_event(event.mark, event.attempt, event.seq)
            yield ServerSentEvent(event.raw, event="agent", id=str(self._mark))

    def _due(self, before: datetime | None) -> Iterable[ServerSentEvent]:
        while self._steps and (before is None or self._steps[0].at <= before):
            step = self._steps.popleft()
            self._state = step.to_state
            self._mark = self._mark.after_step(step.number)
            yield ServerSentEvent(step.model_dump_json(), event="step", id=str(self._mark))

    async def _reset(self, lost: Lost) -> ServerSentEvent:
        detail = await run_detail.detail(self._at.db, self._run_id)
        body = RunReset(reason=lost.reason, run=detail)
        self._mark = RunMark(self._mark.step, lost.mark, self._mark.attempt, self._mark.seq)
        return ServerSentEvent(body.model_dump_json(), event="reset", id=str(self._mark))

    async def _complete(self) -> bool:
        """Tell whether nothing more will come: the run has ended and both sources were read to their end."""
        if self._steps or not (self._tail.caught_up or await self._archived()):
            return False
        if not self._follow:
            return True
        if self._state is None:
            self._state = RunState(await self._at.db.fetchval("SELECT state FROM runs WHERE id = $1", self._run_id))
        return self._state in TERMINAL

    async def _archived(self) -> bool:
        return self._tail.mark is None and await archive.exists(self._at, self._run_id)

    async def _rest(self) -> AsyncGenerator[ServerSentEvent]:
        """Send what the broker forgot and the archive kept, and say the end."""
        lines = await archive.lines(self._at, self._run_id)
        async for event in self._merge([agent_event(line) for line in lines]):
            yield event
        row = await self._at.db.fetchrow(_LAST, self._run_id)
        assert row is not None, "a run has at least one step"
        body = RunEnd(run=self._run_id, state=RunState(row["state"]), sentence=row["sentence"])
        yield ServerSentEvent(body.model_dump_json(), event="end", id=str(self._mark))


def _events(messages: list[Message]) -> list[AgentEvent]:
    return [agent_event(message.data, message.mark) for message in messages]


_LAST: Final = """
SELECT r.state, s.sentence FROM runs r JOIN run_steps s ON s.run_id = r.id WHERE r.id = $1
ORDER BY s.number DESC LIMIT 1
"""
