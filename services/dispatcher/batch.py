"""One batch of facts against the database: lock, fold ``decide`` over them, write everything once.

Several facts of one run in a batch give several steps and one update.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, cast, get_args
from uuid import UUID

from dispatch_common import ids, telemetry
from dispatch_common.db import Tx
from dispatch_common.events import DeliveryDecided, Fact, ResourceApplied, RunFact, TaskReceived
from services.dispatcher import store
from services.dispatcher.decide import Incoming, decide
from services.dispatcher.draft import opened
from services.dispatcher.run import Change, Rules, Run, Step, Task
from services.dispatcher.tasks import Received, receive

_RUN_FACTS: Final = tuple(cls for cls in get_args(Incoming) if issubclass(cls, Fact))


class Batch:
    """What a batch read, and what it changed so far. Lives as long as its transaction."""

    def __init__(self, tx: Tx, now: datetime, rules: Rules) -> None:
        self.tx = tx
        self.now = now
        self.rules = rules
        self.tasks: dict[UUID, Task] = {}
        self.runs: dict[UUID, Run] = {}
        self._stored: dict[UUID, Run] = {}
        self._saved_tasks: dict[UUID, Task] = {}
        self._steps: list[tuple[Run, int, Step]] = []
        self.wakes_claim = False

    async def read(self, facts: Sequence[Fact], run_ids: Sequence[UUID] = ()) -> None:
        """Lock what the facts are about."""
        task_ids = [task_id(fact) for fact in facts if isinstance(fact, TaskReceived)]
        wanted = [*run_ids, *(fact.run_id for fact in facts if isinstance(fact, RunFact))]
        conn = self.tx.conn
        if task_ids:
            self.tasks = await store.lock_tasks(conn, task_ids)
        if not wanted and not task_ids:
            return
        for run, task in await store.lock_runs(conn, wanted, task_ids):
            self._stored[run.id] = self.runs[run.id] = run
            self.tasks.setdefault(task.id, task)

    def take(self, fact: Fact) -> None:
        """Fold one fact in."""
        if isinstance(fact, TaskReceived):
            self._received(fact)
        elif isinstance(fact, _RUN_FACTS):
            self.apply(cast("RunFact", fact).run_id, cast("Incoming", fact), fact)
        elif isinstance(fact, ResourceApplied):
            self.wakes_claim = True

    def apply(self, run_id: UUID, incoming: Incoming, cause: Fact | None) -> None:
        """Let one fact change one run."""
        run = self.runs.get(run_id)
        if run is None:
            telemetry.log.warning("a fact about an unknown run", run_id=str(run_id), fact=type(incoming).__name__)
            return
        change = decide(run, self.tasks[run.task_id], incoming, cause=cause, now=self.now, rules=self.rules)
        if change.ignored:
            telemetry.log.info("ignored", run_id=str(run_id), fact=type(incoming).__name__, why=change.ignored)
            return
        self._record(change)
        if change.follow_up is not None:
            sentence = "It follows up what was asked while an agent was at work."
            cause = cause or change.says[-1]
            task = self.tasks[run.task_id]
            self._record(opened(change.follow_up, task, cause, sentence, now=self.now, rules=self.rules))

    async def write(self) -> None:
        """Write everything once."""
        conn = self.tx.conn
        await store.save_tasks(conn, list(self._saved_tasks.values()))
        changed = [run for run in self.runs.values() if run is not self._stored.get(run.id)]
        known = sorted((run for run in changed if run.id in self._stored), key=lambda run: run.id)
        queued = [(run, self.tasks[run.task_id]) for run in changed if store.is_queued(run)]
        unqueued = [run.id for run in known if store.is_queued(self._stored[run.id]) and not store.is_queued(run)]
        freed = [old.attempt_id for old in self._stored.values() if old.attempt_id and not self.runs[old.id].attempt_id]
        if changed:
            await store.write(conn, store.Writes(known, self._steps, queued, unqueued, freed))
        # After the update: a follow-up may take its predecessor's place only once that is terminal.
        await store.insert_runs(conn, [run for run in changed if run.id not in self._stored])
        self.wakes_claim = self.wakes_claim or bool(freed) or bool(queued)

    def _received(self, fact: TaskReceived) -> None:
        task = self.tasks.get(task_id(fact))
        live = {run.lane: run for run in self.runs.values() if task and run.task_id == task.id and not run.terminal}
        received = receive(task, live, fact)
        if received.task is not None:
            self.tasks[received.task.id] = received.task
            if received.task != task:
                self._saved_tasks[received.task.id] = received.task
        for run, moved in received.moves:
            self.apply(run.id, moved, fact)
        for run, sentence in received.new_runs:
            assert received.task is not None
            self._record(opened(run, received.task, fact, sentence, now=self.now, rules=self.rules))
        self.tx.say(_decided(fact, received, self.now))

    def _record(self, change: Change) -> None:
        first = change.run.version - len(change.steps) + 1
        self._steps += [(change.run, first + offset, step) for offset, step in enumerate(change.steps)]
        self.runs[change.run.id] = change.run
        self.tx.say(*change.says)


def task_id(fact: TaskReceived) -> UUID:
    """Return the id that a task of this source and object always has."""
    return ids.derived("task", fact.org, fact.snapshot.source, fact.snapshot.object_id)


def _decided(fact: TaskReceived, received: Received, now: datetime) -> DeliveryDecided:
    return DeliveryDecided(
        id=ids.derived("delivery-decided", fact.id),
        org=fact.org,
        time=now,
        cause=fact.id,
        traceparent=fact.traceparent,
        delivery_ids=fact.delivery_ids,
        outcome=received.outcome,
        sentence=received.sentence,
        task_id=received.task.id if received.task else None,
        run_ids=(*(run.id for run, _ in received.new_runs), *(run.id for run, _ in received.moves)),
    )


async def take_all(tx: Tx, facts: Sequence[Fact], rules: Rules) -> Batch:
    """Fold facts over what they are about and write it; the claim is the caller's."""
    batch = Batch(tx, await tx.now(), rules)
    await batch.read(facts)
    for fact in facts:
        batch.take(fact)
    await batch.write()
    return batch
