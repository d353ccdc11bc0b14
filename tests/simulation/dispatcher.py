"""The dispatcher in a world: takes facts, looks at what is overdue, claims; as its batch does around ``decide``."""

from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from dispatch_common import ids
from dispatch_common.events import DeliveryOutcome, Fact, RunFact, TaskReceived
from dispatch_common.invariants import DemandSeen, StepSeen
from dispatch_common.lifecycle import RunState
from dispatch_common.values import AgentSpec, RepositorySpec
from services.dispatcher.decide import Overdue, SlotClaimed, is_label
from services.dispatcher.draft import opened
from services.dispatcher.match import Assignment, FreeSlot, Waiting
from services.dispatcher.run import Change, Run, Task
from services.dispatcher.tasks import Received
from tests.simulation.world import Action, World

REPOSITORY = RepositorySpec(name="sample", url="/srv/sample.git")


class InVain(AssertionError):
    """A sweep looked at a run, changed nothing, and would look at it again at once, for ever."""


def hears(world: World, fact: Fact) -> None:
    """Take one fact in one transaction."""
    if isinstance(fact, TaskReceived):
        _received(world, fact)
    elif isinstance(fact, RunFact) and fact.run_id in world.runs:
        _apply(world, fact.run_id, fact, fact)


def _received(world: World, fact: TaskReceived) -> None:
    task_id = ids.derived("task", fact.org, fact.snapshot.source, fact.snapshot.object_id)
    task = world.tasks.get(task_id)
    live = {run.lane: run for run in world.runs.values() if run.task_id == task_id and not run.terminal}
    received: Received = world.parts.receive(task, live, fact)
    if received.task is not None:
        world.tasks[received.task.id] = received.task
    for run, moved in received.moves:
        _apply(world, run.id, moved, fact)
    for run, sentence in received.new_runs:
        assert received.task is not None
        _record(world, opened(run, received.task, fact, sentence, now=world.now, rules=world.setting.rules))
    if received.task is not None:
        _note_demands(world, fact, task, received)


def _note_demands(world: World, fact: TaskReceived, before: Task | None, received: Received) -> None:
    """Remember what the dispatcher took, so that it can be missed; forget what people took back."""
    task = world.tasks[received.task.id] if received.task else None
    assert task is not None
    if task.snapshot.read_at == fact.snapshot.read_at:
        world.demands = tuple(each for each in world.demands if each.task_id != task.id or _stands(task, each))
    if task.snapshot.closed or received.outcome is DeliveryOutcome.REFUSED:
        return
    labels = set(before.wanted if before else ())
    asks = set(before.asks_seen if before else ())
    if task.snapshot.read_at == fact.snapshot.read_at:
        new = [want for want in fact.wanted if want.key not in labels]
        world.demands += tuple(DemandSeen(task.id, want.role, want.key, world.moment) for want in new)
    world.demands += tuple(
        DemandSeen(task.id, ask.role, ask.key, world.moment, ask.instruction)
        for ask in fact.asks
        if ask.key not in asks
    )


def _stands(task: Task, demand: DemandSeen) -> bool:
    return not task.snapshot.closed and (not is_label(demand.key) or demand.key in task.wanted)


def _apply(world: World, run_id: UUID, incoming: Any, cause: Fact | None) -> Change:
    run = world.runs[run_id]
    task = world.tasks[run.task_id]
    change: Change = world.parts.decide(run, task, incoming, cause=cause, now=world.now, rules=world.setting.rules)
    if change.ignored:
        return change
    _record(world, change)
    if change.follow_up is not None:
        last = cause or change.says[-1]
        _record(world, opened(change.follow_up, task, last, "Follow-up.", now=world.now, rules=world.setting.rules))
    return change


def _record(world: World, change: Change) -> None:
    run = change.run
    before = world.runs.get(run.id)
    world.runs[run.id] = run
    first = run.version - len(change.steps) + 1
    world.steps[run.id] = world.steps.get(run.id, ()) + tuple(
        StepSeen(run.id, first + n, step.source, step.to, world.moment) for n, step in enumerate(change.steps)
    )
    if before is not None and before.attempt_id is not None and run.attempt_id is None and world.parts.frees:
        for slot, attempt_id in world.slots.items():
            if attempt_id == before.attempt_id:
                world.slots[slot] = None
    world.say(*change.says)


# --- what it does by itself ---


def actions(world: World) -> Iterator[Action]:
    """Yield what the dispatcher can do now."""
    for run in world.runs.values():
        if run.next_check is not None and run.next_check <= world.now:
            yield "sweep", run.id
    if _pairs(world):
        yield ("claim",)


def timers(world: World) -> Iterator[Any]:
    for run in world.runs.values():
        if run.next_check is not None:
            yield run.next_check


def sweep(world: World, run_id: UUID) -> None:
    """Look at a run that was silent for too long."""
    change = _apply(world, run_id, Overdue(), None)
    if change.ignored:
        raise InVain(f"everything moves: an overdue run stays overdue: {change.ignored}")


def claim(world: World) -> None:
    """Give free slots to waiting runs, in one transaction."""
    for pair in _pairs(world):
        run = world.runs[pair.waiting.run_id]
        attempt_id = ids.derived("attempt", run.id, run.attempt + 1)
        agent = AgentSpec(name=pair.slot.agent, role=pair.slot.role, backend="scripted")
        _apply(world, run.id, SlotClaimed(attempt_id, agent, REPOSITORY, pair.sentence), None)
        if world.runs[run.id].attempt_id == attempt_id:
            world.slots[pair.slot.agent, pair.slot.number] = attempt_id


def _pairs(world: World) -> tuple[Assignment, ...]:
    queued = [run for run in world.runs.values() if run.state is RunState.QUEUED]
    free = [slot for slot, attempt_id in world.slots.items() if attempt_id is None or not world.parts.sees_taken]
    if not queued:
        return ()
    roles = {(agent, number): role for agent, number, role in world.setting.slots}
    load = Counter(agent for (agent, _), attempt_id in world.slots.items() if attempt_id is not None)
    slots = [FreeSlot(agent, n, roles[agent, n], frozenset(), load[agent]) for agent, n in sorted(free)]
    return world.parts.match(_waiting(world, queued), slots)


def _waiting(world: World, queued: list[Run]) -> list[Waiting]:
    """Number the heads within their project, so that projects take turns; as the claim does."""
    ranks: Counter[str] = Counter()
    waiting: list[Waiting] = []
    keyed = [(run.sort_key(world.tasks[run.task_id].snapshot.priority), run) for run in queued]
    for key, run in sorted(keyed, key=lambda pair: (pair[0], pair[1].id)):
        project = world.tasks[run.task_id].snapshot.project
        waiting.append(Waiting(run.id, run.line, project, frozenset(), key, ranks[project]))
        ranks[project] += 1
    return waiting
