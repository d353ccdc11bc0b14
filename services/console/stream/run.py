"""The stream of one run: its steps from the database, its agent's events from the broker, in the order they happened.

Steps are numbered rows, so nothing that happens to the broker can lose or double one; the agent's events are kept whole
by ``agent``. What is lost all the same is said with ``reset``.
"""

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from sse_starlette import ServerSentEvent

from dispatch_common import streams
from dispatch_common.lifecycle import TERMINAL, RunState
from dispatch_common.runlog import Position
from services.console.desk import Desk
from services.console.reads import run_detail
from services.console.schemas import Out, RunDetail, StepOut
from services.console.stream.agent import AgentEvent, AgentLog, Gap
from services.console.stream.position import RunMark
from services.console.stream.tail import Begin, Lost, Message, Tail

_BUSY_WAIT: Final = 0.1
_CALM_WAIT: Final = 0.5
_CALM_AFTER: Final = 100  #: rounds without news
_RETRY_MS: Final = 1000
_LAST: Final = """
SELECT r.state, s.sentence FROM runs r JOIN run_steps s ON s.run_id = r.id WHERE r.id = $1
ORDER BY s.number DESC LIMIT 1
"""


class RunReset(Out):
    """A part of the agent's events was lost; this is what stands. The steps are whole."""

    reason: str
    run: RunDetail


class RunEnd(Out):
    """The run has ended and everything was sent (or, without following, this is all for now)."""

    run: UUID
    state: RunState
    sentence: str


class RunStream:
    """One viewer of one run."""

    def __init__(self, at: Desk, run_id: UUID, mark: RunMark, *, follow: bool) -> None:
        self._at = at
        self._run_id = run_id
        self._mark = mark
        self._follow = follow
        self._steps: deque[StepOut] = deque()
        self._fetched = mark.step
        self._quiet = 0
        self._log = AgentLog(at, run_id, Position(mark.fence, mark.seq))
        begin = mark.mark or Begin.FIRST
        subject = streams.agent_subject(run_id)
        self._tail = Tail(lambda: at.ctx.js, streams.AGENT, [subject], at=begin, lost_begin=Begin.FIRST)

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """Yield the run's events until it has ended and everything was sent."""
        try:
            yield ServerSentEvent(comment="run", retry=_RETRY_MS)
            while True:
                ended = await self._ended()
                wait = _BUSY_WAIT if self._quiet < _CALM_AFTER else _CALM_WAIT
                got = await self._at.viewers.until_closing(self._tail.next(wait))
                if got is None:
                    return
                async for event in self._round(got):
                    yield event
                if ended and self._drained():
                    async for event in self._rest():
                        yield event
                    return
        finally:
            await self._tail.close()

    async def _ended(self) -> bool:
        """Tell whether no more steps can come. Asked before the sources are read, so that what is read is whole."""
        if not self._follow:
            return True
        return RunState(await self._at.db.fetchval("SELECT state FROM runs WHERE id = $1", self._run_id)) in TERMINAL

    def _drained(self) -> bool:
        return not self._steps and (self._tail.caught_up or self._tail.mark is None)

    async def _round(self, got: list[Message] | Lost) -> AsyncGenerator[ServerSentEvent]:
        """Take what is new of both sources and send it in order."""
        fresh = await run_detail.steps(self._at.db, self._run_id, after=self._fetched)
        self._steps.extend(fresh)
        self._fetched = fresh[-1].number if fresh else self._fetched
        self._quiet = 0 if fresh or got else self._quiet + 1
        if isinstance(got, Lost):
            async for event in self._lost(got):
                yield event
            return
        async for news in self._log.news(got):
            if isinstance(news, Gap):
                yield await self._reset("a part of the agent's events is gone")
            else:
                for event in self._with_steps(news):
                    yield event
        # While the broker has more, a step may belong behind what is still to come.
        if self._tail.caught_up or self._tail.mark is None:
            for event in self._due(None):
                yield event

    async def _lost(self, lost: Lost) -> AsyncGenerator[ServerSentEvent]:
        """After the broker forgot: go on from the log if it is here, else say what stands."""
        self._mark = self._mark.moved(lost.mark)
        if not self._log.has_log():
            yield await self._reset(lost.reason)
            return
        async for news in self._log.kept():
            for event in self._with_steps(news):
                yield event

    async def _reset(self, reason: str) -> ServerSentEvent:
        body = RunReset(reason=reason, run=await run_detail.detail(self._at.db, self._run_id))
        return ServerSentEvent(body.model_dump_json(), event="reset", id=str(self._mark))

    def _with_steps(self, event: AgentEvent) -> Iterable[ServerSentEvent]:
        yield from self._due(event.at)
        self._mark = self._mark.after_event(event.mark, event.place.fence, event.place.seq)
        yield ServerSentEvent(event.raw, event="agent", id=str(self._mark))

    def _due(self, before: datetime | None) -> Iterable[ServerSentEvent]:
        while self._steps and (before is None or self._steps[0].at <= before):
            step = self._steps.popleft()
            self._mark = self._mark.after_step(step.number)
            yield ServerSentEvent(step.model_dump_json(), event="step", id=str(self._mark))

    async def _rest(self) -> AsyncGenerator[ServerSentEvent]:
        """Send what only the log has, and say the end."""
        async for news in self._log.kept():
            for event in self._with_steps(news):
                yield event
        row = await self._at.db.fetchrow(_LAST, self._run_id)
        assert row is not None, "a run has at least one step"
        body = RunEnd(run=self._run_id, state=RunState(row["state"]), sentence=row["sentence"])
        yield ServerSentEvent(body.model_dump_json(), event="end", id=str(self._mark))
