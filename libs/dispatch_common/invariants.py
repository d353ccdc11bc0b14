"""What must always hold of the whole system, written once: for the simulation, for drills and for ``dispatch doctor``.

Pure functions over a plain snapshot. They read nothing themselves and never repair anything; a broken promise is a
value that names the promise, the run and what was seen.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final
from uuid import UUID

from dispatch_common.lifecycle import NEXT, TERMINAL, RunState

_STOPPED: Final = frozenset({RunState.CANCELLING, RunState.CANCELLED, RunState.SUPERSEDED})
_OVER: Final = TERMINAL | {RunState.CANCELLING}
#: Kinds of effects that are a run's product, of which there is at most one each, whatever its revisions.
PRODUCT: Final = frozenset({"branch", "pull"})


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run as the dispatcher keeps it. ``waits_for`` names the person without whom it cannot go on, or nobody."""

    id: UUID
    task_id: UUID
    lane: str
    state: RunState
    attempt_id: UUID | None = None
    is_checked: bool = False  #: something looks at it again at a stated time
    is_queued: bool = False  #: it stands in the queue
    waits_for: str = ""
    instruction: str = ""
    pending: frozenset[str] = frozenset()  #: keys of the demands that its follow-up will take


@dataclass(frozen=True, slots=True)
class StepSeen:
    """One step of a run."""

    run_id: UUID
    number: int
    source: RunState | None
    to: RunState
    at: datetime


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """An attempt. ``is_alive``: its agent's process really lives, whatever anybody has written down."""

    id: UUID
    run_id: UUID
    fence: int
    is_open: bool
    is_alive: bool
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class SlotSeen:
    """One unit of an agent's capacity."""

    agent: str
    number: int
    attempt_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class EffectSeen:
    """One thing that was made outside, as it is found there; made twice, it is here twice."""

    run_id: UUID
    revision: int
    kind: str
    content: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AcceptedSeen:
    """A result that passed the checks, with a person's consent where one was wanted."""

    run_id: UUID
    revision: int
    content: str


@dataclass(frozen=True, slots=True)
class DemandSeen:
    """Something a person asked for and was told that it was taken. ``text`` is what an agent must be told of it."""

    task_id: UUID
    lane: str
    key: str
    at: datetime
    text: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it at one moment."""

    runs: tuple[RunSeen, ...] = ()
    steps: tuple[StepSeen, ...] = ()
    attempts: tuple[AttemptSeen, ...] = ()
    slots: tuple[SlotSeen, ...] = ()
    effects: tuple[EffectSeen, ...] = ()
    accepted: tuple[AcceptedSeen, ...] = ()
    demands: tuple[DemandSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that does not hold."""

    promise: str
    sentence: str
    run_id: UUID | None = None

    def __str__(self) -> str:
        return f"{self.promise}: {self.sentence}"


Invariant = Callable[[Snapshot], Iterator[Broken]]


def no_task_lost(seen: Snapshot) -> Iterator[Broken]:
    """Whatever was taken joined a run that was not on its way out, and no run completes without telling it.

    Who stops a run stops what had joined it.
    """
    over = _over_since(seen.steps)
    stopped = {step.run_id for step in seen.steps if step.to in _STOPPED}
    told: defaultdict[UUID, str] = defaultdict(str)
    for attempt in seen.attempts:
        told[attempt.run_id] += attempt.instruction
    lanes: defaultdict[tuple[UUID, str], list[RunSeen]] = defaultdict(list)
    for run in seen.runs:
        lanes[run.task_id, run.lane].append(run)
    for demand in seen.demands:
        lane = lanes[demand.task_id, demand.lane]
        joined = [run for run in lane if _joined(demand, over.get(run.id))]
        kept = any(demand.key in run.pending for run in lane)
        if not kept and not any(run.id in stopped or demand.text in _known_to(run, told[run.id]) for run in joined):
            yield Broken("no task lost", f"nothing came of {demand.key} {demand.text!r} for {demand.lane}")


def _joined(demand: DemandSeen, over: datetime | None) -> bool:
    """Whether a run was there to take a demand, and not on its way out."""
    return over is None or over > demand.at


def _known_to(run: RunSeen, told: str) -> str:
    """Return what an agent of the run was told, or will be."""
    return told if run.state is RunState.COMPLETED else run.instruction


def one_live_run_per_lane(seen: Snapshot) -> Iterator[Broken]:
    """A task has at most one live run per lane."""
    live = Counter((run.task_id, run.lane) for run in seen.runs if run.state not in TERMINAL)
    for (task_id, lane), count in live.items():
        if count > 1:
            yield Broken("one live run per lane", f"task {task_id} has {count} live runs in {lane}")


def one_live_attempt_per_lane(seen: Snapshot) -> Iterator[Broken]:
    """No two agents work on the same lane of a task, whatever their rows say."""
    lanes = {run.id: (run.task_id, run.lane) for run in seen.runs}
    alive = Counter(lanes.get(attempt.run_id) for attempt in seen.attempts if attempt.is_alive)
    for lane, count in alive.items():
        if count > 1:
            yield Broken("one live attempt per lane", f"{count} agents live in {lane}")


def no_effect_doubled(seen: Snapshot) -> Iterator[Broken]:
    """Nothing stands outside twice."""
    made = Counter(
        (effect.run_id, 0 if effect.kind in PRODUCT else effect.revision, effect.kind) for effect in seen.effects
    )
    for (run_id, _, kind), count in made.items():
        if count > 1:
            yield Broken("no effect doubled", f"the {kind} was made {count} times", run_id)


def capacity_is_kept(seen: Snapshot) -> Iterator[Broken]:
    """Every agent at work has a slot of its own."""
    taken = Counter(slot.attempt_id for slot in seen.slots if slot.attempt_id is not None)
    for attempt in seen.attempts:
        if attempt.is_alive and taken[attempt.id] != 1:
            yield Broken(
                "capacity is kept", f"attempt {attempt.fence} lives in {taken[attempt.id]} slots", attempt.run_id
            )
    for run in seen.runs:
        if run.attempt_id is not None and taken[run.attempt_id] != 1:
            yield Broken("capacity is kept", f"its attempt stands in {taken[run.attempt_id]} slots", run.id)


def no_slot_leaked(seen: Snapshot) -> Iterator[Broken]:
    """Every taken slot belongs to a run that is not over and knows it."""
    holders = {run.attempt_id for run in seen.runs if run.state not in TERMINAL}
    for slot in seen.slots:
        if slot.attempt_id is not None and slot.attempt_id not in holders:
            yield Broken("no slot leaked", f"slot {slot.number} of {slot.agent} is held by nobody")


def terminal_is_terminal(seen: Snapshot) -> Iterator[Broken]:
    """A run's steps are legal, numbered without a gap, lead to where it stands, and end with its end."""
    steps: defaultdict[UUID, list[StepSeen]] = defaultdict(list)
    for step in seen.steps:
        steps[step.run_id].append(step)
    for run in seen.runs:
        at: RunState | None = None
        for number, step in enumerate(sorted(steps[run.id], key=lambda step: step.number), 1):
            if step.number != number or step.source is not at or (at is not None and step.to not in NEXT[at]):
                yield Broken(
                    "terminal is terminal", f"step {step.number} leads from {step.source} to {step.to}", run.id
                )
            at = step.to
        if at is not run.state:
            yield Broken("terminal is terminal", f"it is {run.state}, and its last step led to {at}", run.id)


def everything_moves(seen: Snapshot) -> Iterator[Broken]:
    """Every waiting run has something that will move it: a time, the queue, or a named person."""
    for run in seen.runs:
        if run.state not in TERMINAL and not (run.is_checked or run.is_queued or run.waits_for):
            yield Broken("everything moves", f"nothing will ever move a run that is {run.state}", run.id)


def effects_are_of_the_accepted_result(seen: Snapshot) -> Iterator[Broken]:
    """What stands outside was accepted, exactly as it stands."""
    accepted = {(each.run_id, each.revision, each.content) for each in seen.accepted}
    for effect in seen.effects:
        if effect.kind in PRODUCT and (effect.run_id, effect.revision, effect.content) not in accepted:
            yield Broken("effects are of the accepted result", f"the {effect.kind} was never accepted", effect.run_id)


def nothing_after_a_cancel(seen: Snapshot) -> Iterator[Broken]:
    """Once a run was cancelled, nothing of it is published any more."""
    ended = {step.run_id: step.at for step in seen.steps if step.to in (RunState.CANCELLED, RunState.SUPERSEDED)}
    for effect in seen.effects:
        if effect.kind in PRODUCT and effect.run_id in ended and effect.at > ended[effect.run_id]:
            yield Broken("nothing after a cancel", f"the {effect.kind} was made afterwards", effect.run_id)


#: What holds at every moment.
ALWAYS: Final[tuple[Invariant, ...]] = (
    no_task_lost,
    one_live_run_per_lane,
    one_live_attempt_per_lane,
    no_effect_doubled,
    capacity_is_kept,
    no_slot_leaked,
    terminal_is_terminal,
    everything_moves,
    effects_are_of_the_accepted_result,
    nothing_after_a_cancel,
)


def everything_ended(seen: Snapshot) -> Iterator[Broken]:
    """After a calm time every run is over or waits for a named person; no agent lives and no slot is taken."""
    for run in seen.runs:
        if run.state not in TERMINAL and not run.waits_for:
            yield Broken("everything ended", f"it is still {run.state}", run.id)
    for attempt in seen.attempts:
        if attempt.is_alive:
            yield Broken("everything ended", f"attempt {attempt.fence} still lives", attempt.run_id)


#: What holds besides, once nothing disturbs the system and nobody asks for more.
AT_REST: Final[tuple[Invariant, ...]] = (everything_ended,)


def broken(seen: Snapshot, invariants: Iterable[Invariant] = ALWAYS) -> tuple[Broken, ...]:
    """Return every promise that a snapshot breaks."""
    return tuple(chain.from_iterable(invariant(seen) for invariant in invariants))


def _over_since(steps: Iterable[StepSeen]) -> dict[UUID, datetime]:
    """Return since when runs have been over, or on their way out."""
    over: dict[UUID, datetime] = {}
    for step in steps:
        if step.to in _OVER:
            over[step.run_id] = min(step.at, over.get(step.run_id, step.at))
    return over
