"""The events of a run's agent, in order, each once, whole: from the broker, and from the run's log where it has gaps.

An event is known by its attempt's fence and its number, which has no gaps; so what the broker forgot is noticed, and
read from the log if the log is on this machine.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from dispatch_common import runlog
from dispatch_common.runlog import Position
from services.console.desk import Desk
from services.console.stream.position import Mark
from services.console.stream.tail import Message

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """One event of an attempt, as it is sent on. ``mark``: its place in the broker's stream, if it came from there."""

    place: Position
    at: datetime
    raw: str
    mark: Mark | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Events before the next one are nowhere to be found."""


class AgentLog:
    """What one viewer has of a run's agent."""

    def __init__(self, at: Desk, run_id: UUID, place: Position) -> None:
        self._at = at
        self._run_id = run_id
        self._fences: dict[UUID, int] = {}
        self.place = place

    async def news(self, messages: Sequence[Message]) -> AsyncGenerator[AgentEvent | Gap]:
        """Yield what the viewer does not have, after what is missing before it."""
        for message in messages:
            line = orjson.loads(message.data)
            place = Position(await self._fence(UUID(line["attempt"])), int(line["seq"]))
            if place <= self.place:
                continue
            if not self._follows(place):
                async for kept in self.kept(before=place):
                    yield kept
            if not self._follows(place) and place.seq > 1:
                yield Gap()
            yield self._had(AgentEvent(place, datetime.fromisoformat(line["at"]), message.data.decode(), message.mark))

    async def kept(self, *, before: Position | None = None) -> AsyncGenerator[AgentEvent]:
        """Yield what the log on this machine has behind the viewer's place."""
        while page := await runlog.read_events(self._at.settings.data, self._run_id, self.place, limit=_PAGE):
            for logged in page:
                if before is not None and logged.at >= before:
                    return
                at = datetime.fromisoformat(logged.event["at"])
                yield self._had(AgentEvent(logged.at, at, logged.line.decode()))

    def has_log(self) -> bool:
        """Tell whether the run's log is on this machine."""
        return runlog.folder(self._at.settings.data, self._run_id).is_dir()

    def _follows(self, place: Position) -> bool:
        return place.fence == self.place.fence and place.seq == self.place.seq + 1

    def _had(self, event: AgentEvent) -> AgentEvent:
        self.place = event.place
        return event

    async def _fence(self, attempt: UUID) -> int:
        if attempt not in self._fences:
            rows = await self._at.db.fetch("SELECT id, fence FROM attempts WHERE run_id = $1", self._run_id)
            self._fences = {row["id"]: row["fence"] for row in rows}
        # The executor writes an attempt's row before its agent can speak; one without a row is the newest.
        return self._fences.get(attempt, max(self._fences.values(), default=0) + 1)
