"""Takes a supervisor's lines: bounded, checked, redacted, kept on disk; questions become facts. Then acknowledged."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import AwareDatetime, ValidationError

from agent_runner.protocol import ErrorSeen, EventLine, Question, Wire
from dispatch_common import telemetry
from dispatch_common.clock import monotonic
from dispatch_common.db import Db
from services.executor import facts, lease, store
from services.executor.attempt import OpenQuestion
from services.executor.gateway.door import Turned, Visitor
from services.executor.gateway.eventlog import Line
from services.executor.gateway.journals import Journals
from services.executor.gateway.redaction import Redactor
from services.executor.store import Row

_LONGEST_LINE: Final = 1 << 20
_PER_SECOND: Final = 5_000
_BURST: Final = 20_000


class _Head(Wire):
    """What every line begins with, whatever its event is."""

    attempt: UUID
    seq: int
    at: AwareDatetime


class _Allowance:
    """How many events an attempt may send now: a bucket that fills again with time."""

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._at = monotonic()

    def takes(self, count: int) -> bool:
        now = monotonic()
        self._left = min(_BURST, self._left + (now - self._at) * _PER_SECOND)
        self._at = now
        if self._left <= 0:
            return False
        self._left -= count
        return True


class Intake:
    """The way of an event into the log."""

    def __init__(self, db: Db, journals: Journals, *, grace: timedelta) -> None:
        self._db = db
        self._journals = journals
        self._grace = grace
        self._redactors: dict[UUID, Redactor] = {}
        self._allowances: dict[UUID, _Allowance] = {}

    def over(self, attempt_id: UUID) -> None:
        """Forget what was kept of an attempt for the sake of its next line."""
        self._redactors.pop(attempt_id, None)
        self._allowances.pop(attempt_id, None)

    async def take(self, visitor: Visitor, body: bytes) -> int:
        """Keep the lines of one request and return the highest seq that is kept. Lines that were kept are skipped."""
        attempt = visitor.row.attempt
        events = [_line(attempt.id, raw) for raw in body.splitlines() if raw.strip()]
        if not self._allowances.setdefault(attempt.id, _Allowance()).takes(len(events)):
            raise Turned(429, "rate", f"More than {_PER_SECOND} events in a second; send them a little later.")
        seq, questions = await self._keep(visitor.row, visitor.token, events)
        if questions:
            await self._ask(visitor, questions)
        return seq

    async def salvage(self, row: Row, token: str, raw: bytes) -> None:
        """Keep what a dead supervisor left on its disk, as far as it can be read."""
        events: list[EventLine] = []
        for line in raw.splitlines():
            try:
                events.append(_line(row.attempt.id, line))
            except Turned as wrong:
                telemetry.log.warning("a line was left behind", attempt_id=str(row.attempt.id), reason=str(wrong))
        await self._keep(row, token, events)

    async def _keep(self, row: Row, token: str, events: Sequence[EventLine]) -> tuple[int, list[Question]]:
        attempt = row.attempt
        kept = self._journals.log(attempt.run_id, attempt.fence, attempt.id).last_seq
        redactor = self._redactors.setdefault(attempt.id, Redactor([token]))
        lines: list[Line] = []
        questions: list[Question] = []
        for event in events:
            if event.seq > kept:
                event = event.model_copy(update={"event": redactor.event(event.event)})
                lines.append(Line(event.seq, event.model_dump_json().encode()))
                kept = event.seq
            if isinstance(event.event, Question):
                questions.append(event.event)
        return await self._journals.append(row, lines), questions

    async def _ask(self, visitor: Visitor, questions: Sequence[Question]) -> None:
        async with self._db.transaction() as tx:
            for row in await store.lock(tx, [visitor.attempt_id]):
                now, attempt = await tx.now(), row.attempt
                for question in questions:
                    asked = OpenQuestion(question.question, question.text, now + self._grace)
                    change = lease.asked(attempt, visitor.fence, asked, now=now)
                    attempt = change.attempt
                    origin = facts.Origin(row.org, now, traceparent=row.traceparent)
                    tx.say(*facts.about(attempt, change.says, origin))
                await store.update(tx, [attempt])


def _line(attempt_id: UUID, raw: bytes) -> EventLine:
    if len(raw) > _LONGEST_LINE:
        raise Turned(413, "size", f"A line is longer than {_LONGEST_LINE} bytes.")
    try:
        line = EventLine.model_validate_json(raw)
    except ValidationError as wrong:
        line = _unknown(raw, wrong)
    if line.attempt != attempt_id:
        raise Turned(422, "attempt", "A line belongs to another attempt.")
    return line


def _unknown(raw: bytes, wrong: ValidationError) -> EventLine:
    """Keep the place of an event that this version does not know, so that its successors are not refused with it."""
    try:
        head = _Head.model_validate_json(raw)
    except ValidationError as error:
        raise Turned(422, "line", f"A line is no event: {wrong.errors()[0]['msg']}") from error
    telemetry.log.warning("an event of an unknown kind", attempt_id=str(head.attempt), seq=head.seq)
    return EventLine(
        attempt=head.attempt,
        seq=head.seq,
        at=head.at,
        event=ErrorSeen(text="An event of an unknown kind was left out."),
    )
