"""What tests of the executor share: somebody who asks, and eyes on what was said."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID

from dispatch_common import ids, service
from dispatch_common.db import Db
from dispatch_common.events import (
    AttemptFinished,
    AttemptPreparing,
    AttemptRequested,
    AttemptStarted,
    AttemptStopAsked,
    Fact,
    QuestionAsked,
    decode,
)
from dispatch_common.settings import Settings
from dispatch_common.values import Actor, AgentSpec, Grant, Limits, RepositorySpec, TaskSnapshot, WakeReason
from tests.support.waiting import eventually

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
Kind = TypeVar("Kind", bound=Fact)
SAID = (AttemptPreparing, AttemptStarted, AttemptFinished, QuestionAsked)


def script(*lines: str) -> str:
    """A task's text with a script for the scripted agent."""
    return "\n".join(["Please:", "", "```dispatch-script", *lines, "```", ""])


def a_request(body: str = "", **changes: Any) -> AttemptRequested:
    """An AttemptRequested as the dispatcher says it, each of another run unless told so."""
    run_id: UUID = changes.pop("run_id", None) or ids.fresh()
    fence: int = changes.pop("fence", 1)
    limits = changes.pop("limits", Limits(wall_seconds=60, idle_seconds=60, memory_mib=1024, pids=256))
    fields: dict[str, Any] = {
        "id": ids.fresh(),
        "time": NOON,
        "run_id": run_id,
        "attempt_id": ids.derived("attempt", run_id, fence),
        "fence": fence,
        "task_id": ids.derived("task", run_id),
        "task_version": 1,
        "snapshot": TaskSnapshot(
            source="plane",
            provider="plane",
            object_id="1",
            key="DISP-1",
            title="Fix it",
            body=body,
            read_at=NOON,
            digest="d",
        ),
        "instruction": "",
        "wake_reason": WakeReason.TICKET_ASSIGNMENT,
        "actor": Actor(id="alice", name="Alice"),
        "agent": AgentSpec(name="Vega", role="coder", backend="scripted", persona="A careful engineer."),
        "repository": None,
        "grant": Grant(limits=limits),
        "deadline": None,
    }
    return AttemptRequested(**{**fields, **changes})


def again(fact: Kind) -> Kind:
    """The same fact, said again: a new id, as after silence."""
    return fact.model_copy(update={"id": ids.fresh()})


def a_stop(of: AttemptRequested, sentence: str = "Alice cancelled it.") -> AttemptStopAsked:
    return AttemptStopAsked(
        id=ids.fresh(), time=NOON, run_id=of.run_id, attempt_id=of.attempt_id, fence=of.fence, sentence=sentence
    )


class Asker:
    """Stands where the dispatcher stands: says facts to the executor and reads what it said."""

    def __init__(self, db: Db) -> None:
        self.db = db

    async def says(self, *facts: Fact) -> None:
        async with self.db.transaction() as tx:
            tx.say(*facts)

    async def heard(self, of: AttemptRequested, kind: type[Kind] | None = None) -> list[Any]:
        """All that the executor said about an attempt, in order."""
        rows = await self.db.fetch(
            "SELECT body FROM outbox WHERE service = 'executor' AND about = $1 ORDER BY position", str(of.run_id)
        )
        facts = [decode(row["body"]) for row in rows]
        mine = [fact for fact in facts if getattr(fact, "attempt_id", None) == of.attempt_id]
        return [fact for fact in mine if kind is None or isinstance(fact, kind)]

    async def names(self, of: AttemptRequested) -> list[str]:
        return [type(fact).__name__ for fact in await self.heard(of)]

    async def row(self, of: AttemptRequested) -> Any:
        return await self.db.fetchrow("SELECT * FROM attempts WHERE id = $1", of.attempt_id)

    async def state(self, of: AttemptRequested) -> str | None:
        return await self.db.fetchval("SELECT state FROM attempts WHERE id = $1", of.attempt_id)

    async def until(self, of: AttemptRequested, kind: type[Kind], *, within: float = 20) -> Kind:
        """Wait until something was said about an attempt, and return it."""
        found = await eventually(
            lambda: self.heard(of, kind), within=timedelta(seconds=within), describe=lambda: self._story(of)
        )
        return cast("list[Kind]", found)[0]

    async def _story(self, of: AttemptRequested) -> str:
        row = await self.row(of)
        letters = await self.db.fetch("SELECT service, reason, detail FROM dead_letters")
        said = await self.names(of)
        kept = {name: row[name] for name in ("state", "executor", "answer", "launch", "lease_until")} if row else None
        return f"said: {said}\nrow: {kept}\ndead letters: {[dict(each) for each in letters]}"


@asynccontextmanager
async def asker(settings: Settings) -> AsyncGenerator[Asker]:
    """Somebody who asks, connected to the broker."""
    async with service.open(settings, "dispatcher") as ctx:
        yield Asker(ctx.db)


def a_repository(path: Path, name: str = "sample") -> RepositorySpec:
    return RepositorySpec(name=name, url=str(path), test_command="python3 -m unittest -q")


def kinds(facts: Iterable[Fact]) -> list[str]:
    return [type(fact).__name__ for fact in facts]
