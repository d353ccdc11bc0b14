"""What a fresh reading of a task changes: new runs, moves of live ones, and what becomes of the delivery. Pure.

Labels are levels: an agent is wanted as long as its label stands, and a run is made once per time it is put on.
Comments and API calls are edges: each is obeyed once, by its key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from dispatch_common import ids
from dispatch_common.events import DeliveryOutcome, TaskReceived
from dispatch_common.lifecycle import FOLLOWS_TASK, RunState
from dispatch_common.values import Ask, TaskSnapshot, Wanted
from services.dispatcher.decide import TaskMove, TaskMoved, is_label
from services.dispatcher.run import Run, Task

_ASKS_KEPT = 200


@dataclass(frozen=True, slots=True)
class Received:
    """What a TaskReceived leads to. ``task`` is None when nothing is kept of it."""

    task: Task | None
    new_runs: tuple[tuple[Run, str], ...] = ()
    moves: tuple[tuple[Run, TaskMoved], ...] = ()
    outcome: DeliveryOutcome = DeliveryOutcome.IGNORED
    sentence: str = ""


def receive(task: Task | None, live: Mapping[str, Run], fact: TaskReceived) -> Received:
    """Return what the reading changes. ``live`` is the task's live run per lane."""
    seen = task.asks_seen if task else ()
    asks = tuple(ask for ask in fact.asks if ask.key not in seen)
    stale = task is not None and fact.snapshot.read_at <= task.snapshot.read_at
    if stale and not asks:
        return Received(task, sentence="A newer reading of this task was taken before.")
    if task is None and not fact.wanted and not asks:
        return Received(None, sentence=fact.refusal or "Nothing in it asks for an agent.")
    kept = _kept(task, fact, asks, stale=stale)
    if kept.snapshot.closed:
        return _closed(kept, live)
    if stale:
        return _asked(kept, live, (), asks, fact, changed=False)
    edges = tuple(want for want in fact.wanted if task is None or want.key not in task.wanted)
    changed = task is not None and task.version != kept.version
    gone = _unwanted(live, fact)
    # What has not begun ends at once and leaves its lane to what is asked now.
    staying = {lane: run for lane, run in live.items() if run.id not in gone or run.state not in FOLLOWS_TASK}
    return _with_moves(_asked(kept, staying, edges, asks, fact, changed=changed), gone)


def _kept(task: Task | None, fact: TaskReceived, asks: tuple[Ask, ...], *, stale: bool) -> Task:
    seen = (*(task.asks_seen if task else ()), *(ask.key for ask in asks))[-_ASKS_KEPT:]
    if task is not None and stale:
        return task.model_copy(update={"asks_seen": seen})
    snapshot, wanted = fact.snapshot, tuple(want.key for want in fact.wanted)
    if task is None:
        identity = ids.derived("task", fact.org, snapshot.source, snapshot.object_id)
        return Task(id=identity, org=fact.org, version=1, snapshot=snapshot, wanted=wanted, asks_seen=seen)
    version = task.version + (snapshot.digest != task.snapshot.digest)
    return task.model_copy(update={"version": version, "snapshot": snapshot, "wanted": wanted, "asks_seen": seen})


def _closed(task: Task, live: Mapping[str, Run]) -> Received:
    how = "cancelled" if task.snapshot.cancelled else "closed"
    moves = tuple((run, TaskMoved(TaskMove.CLOSED, f"{task.snapshot.key} was {how}.")) for run in live.values())
    outcome = DeliveryOutcome.CANCELLED if moves else DeliveryOutcome.IGNORED
    return Received(task, moves=moves, outcome=outcome, sentence=f"{task.snapshot.key} is {how}.")


def _asked(
    task: Task,
    live: Mapping[str, Run],
    edges: tuple[Wanted, ...],
    asks: tuple[Ask, ...],
    fact: TaskReceived,
    *,
    changed: bool,
) -> Received:
    if (edges or asks) and not fact.may_start:
        who = fact.actor.name or fact.actor.id
        sentence = fact.refusal or f"{who} may not start an agent."
        return Received(
            task, moves=_changed(task, live, {}, changed), outcome=DeliveryOutcome.REFUSED, sentence=sentence
        )
    new: dict[str, Run] = {}
    joined: dict[str, tuple[Ask, ...]] = {}
    for demand in (*edges, *asks):
        lane = demand.role
        if lane in live or lane in new:
            more = _more(demand, live.get(lane))
            joined[lane] = (*joined.get(lane, ()), *more)
            if lane in new:
                new[lane] = _joined(new[lane], more)
        else:
            new[lane] = _run(task, demand, fact)
    moves = _changed(task, live, joined, changed)
    runs = tuple((run, _why(run, fact, task.snapshot)) for run in new.values())
    return Received(task, runs, moves, *_outcome(task, runs, moves, joined))


def _more(demand: Wanted | Ask, run: Run | None) -> tuple[Ask, ...]:
    """Return what a demand adds to the run it joins. A label adds nothing, unless that run is being stopped."""
    if isinstance(demand, Ask):
        return (demand,)
    if run is None or run.state is not RunState.CANCELLING:
        return ()
    return (Ask(key=demand.key, role=demand.role, agent=demand.agent, instruction="", wake_reason=demand.wake_reason),)


def _outcome(
    task: Task,
    runs: tuple[tuple[Run, str], ...],
    moves: tuple[tuple[Run, TaskMoved], ...],
    joined: Mapping[str, tuple[Ask, ...]],
) -> tuple[DeliveryOutcome, str]:
    if runs:
        roles = ", ".join(run.role for run, _ in runs)
        return DeliveryOutcome.CREATED, f"{task.snapshot.key} was given to: {roles}."
    if moves or joined:
        return DeliveryOutcome.COALESCED, "It was added to the run that this task already has."
    return DeliveryOutcome.IGNORED, "Nothing changed that an agent must know."


def _changed(
    task: Task, live: Mapping[str, Run], joined: Mapping[str, tuple[Ask, ...]], changed: bool
) -> tuple[tuple[Run, TaskMoved], ...]:
    sentence = f"{task.snapshot.key} was changed."
    return tuple(
        (run, TaskMoved(TaskMove.CHANGED, sentence, joined.get(lane, ())))
        for lane, run in live.items()
        if changed or joined.get(lane)
    )


def _unwanted(live: Mapping[str, Run], fact: TaskReceived) -> dict[UUID, tuple[Run, TaskMoved]]:
    """Return the runs whose label is gone, or that were to be followed up for a label that is gone again."""
    standing = {want.key for want in fact.wanted}
    gone: dict[UUID, tuple[Run, TaskMoved]] = {}
    for run in live.values():
        keys = [ask.key for ask in run.pending] if run.state is RunState.CANCELLING else [run.trigger]
        for key in keys:
            if is_label(key) and key not in standing:
                sentence = f"The label {key.removeprefix('label:')} was removed."
                gone[run.id] = (run, TaskMoved(TaskMove.UNWANTED, sentence))
    return gone


def _with_moves(received: Received, gone: Mapping[UUID, tuple[Run, TaskMoved]]) -> Received:
    """Cancel runs that nobody wants any more, before what else happens to them."""
    if not gone:
        return received
    outcome = DeliveryOutcome.CREATED if received.new_runs else DeliveryOutcome.CANCELLED
    sentence = next(iter(gone.values()))[1].sentence
    return Received(received.task, received.new_runs, (*gone.values(), *received.moves), outcome, sentence)


def _run(task: Task, demand: Wanted | Ask, fact: TaskReceived) -> Run:
    return Run(
        id=ids.derived("run", task.id, demand.role, demand.key, fact.id),
        org=task.org,
        task_id=task.id,
        lane=demand.role,
        task_version=task.version,
        trigger=demand.key,
        role=demand.role,
        wanted_agent=demand.agent,
        instruction=demand.instruction if isinstance(demand, Ask) else "",
        wake_reason=demand.wake_reason,
        actor=fact.actor,
    )


def _joined(run: Run, asks: tuple[Ask, ...]) -> Run:
    parts = (run.instruction, *(ask.instruction for ask in asks))
    return run.model_copy(update={"instruction": "\n\n".join(part for part in parts if part)})


def _why(run: Run, fact: TaskReceived, snapshot: TaskSnapshot) -> str:
    who = fact.actor.name or fact.actor.id
    if is_label(run.trigger):
        return f"{who} put the label {run.trigger.removeprefix('label:')} on {snapshot.key}."
    return f"{who} asked for {run.role} on {snapshot.key}."
