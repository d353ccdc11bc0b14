"""A world as the invariants see it."""

from typing import Any, Final

from dispatch_common.events import AttemptRequested
from dispatch_common.invariants import AttemptSeen, RunSeen, SlotSeen, Snapshot
from dispatch_common.lifecycle import RunState
from services.dispatcher.run import Run
from tests.simulation import policy
from tests.simulation.world import World

_RUNS: Final[dict[int, tuple[Run, RunSeen]]] = {}
_MOST: Final = 100_000


def snapshot(world: World) -> Snapshot:
    """Return what is to be judged of a world. An agent that stands still with its host is not alive."""
    return Snapshot(
        runs=tuple(_run(world, run) for run in world.runs.values()),
        steps=tuple(step for steps in world.steps.values() for step in steps),
        attempts=tuple(_attempt(world, attempt_id) for attempt_id in world.attempts),
        slots=tuple(SlotSeen(agent, number, attempt) for (agent, number), attempt in world.slots.items()),
        effects=world.outside,
        accepted=world.accepted,
        demands=world.demands,
    )


def _run(world: World, run: Run) -> RunSeen:
    waits = _waits_for(world, run)
    known = _RUNS.get(id(run))
    if known is not None and known[0] is run and known[1].waits_for == waits:
        return known[1]
    seen = RunSeen(
        id=run.id,
        task_id=run.task_id,
        lane=run.lane,
        state=run.state,
        attempt_id=run.attempt_id,
        is_checked=run.next_check is not None,
        is_queued=run.state is RunState.QUEUED,
        waits_for=waits,
        instruction=run.instruction,
        pending=frozenset(ask.key for ask in run.pending),
    )
    if len(_RUNS) > _MOST:
        _RUNS.clear()
    _RUNS[id(run)] = (run, seen)
    return seen


def _waits_for(world: World, run: Run) -> str:
    if run.state is RunState.PARKED and run.question_id and not run.answered:
        return "whoever can answer"
    if run.state is RunState.AWAITING_APPROVAL and policy.waits_for_a_person(world, run.id):
        return "an approver"
    return ""


def _attempt(world: World, attempt_id: Any) -> AttemptSeen:
    attempt = world.attempts[attempt_id]
    supervisor = world.supervisors.get(attempt_id)
    request = world.requests[attempt_id]
    return AttemptSeen(
        id=attempt.id,
        run_id=attempt.run_id,
        fence=attempt.fence,
        is_open=attempt.is_open,
        is_alive=supervisor is not None and supervisor.works,
        instruction=request.instruction if isinstance(request, AttemptRequested) else "",
    )
