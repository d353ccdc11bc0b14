"""Bugs on purpose, one per promise at least: each is a function of the product, wrapped, in a world where it shows."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from dispatch_common import invariants as seen
from dispatch_common.events import AttemptFinished, Verification
from dispatch_common.invariants import Invariant
from dispatch_common.lifecycle import RunState
from services.dispatcher.decide import Overdue, decide
from services.dispatcher.run import Change, Run
from services.dispatcher.tasks import Received, receive
from services.executor import lease
from services.executor.attempt import Attempt, Terms
from services.executor.attempt import Change as AttemptChange
from services.result_publisher import judge as judging
from services.result_publisher.plan import after_look, next_move
from services.result_publisher.protocol import Look, Publication, Seen
from tests.simulation.parts import Parts
from tests.simulation.settings import TWO, setting
from tests.simulation.world import Setting


def _but(change: Change, **changes: Any) -> Change:
    return replace(change, run=change.run.model_copy(update=changes))


# --- the dispatcher ---


def frees_at_the_cancel(run: Run, task: Any, incoming: Any, **more: Any) -> Change:
    change = decide(run, task, incoming, **more)
    return _but(change, attempt_id=None) if change.run.state is RunState.CANCELLING else change


def never_looks_again(run: Run, task: Any, incoming: Any, **more: Any) -> Change:
    change = decide(run, task, incoming, **more)
    return change if change.ignored else _but(change, next_check=None)


def serves_nobody(_waiting: Any, _slots: Any) -> tuple[()]:
    return ()


def never_wakes(run: Run, task: Any, incoming: Any, **more: Any) -> Change:
    if isinstance(incoming, Overdue) and run.state is RunState.PARKED:
        return Change(run, ignored="it sleeps so well")
    return decide(run, task, incoming, **more)


def gives_up_at_once(run: Run, task: Any, incoming: Any, *, now: datetime, **more: Any) -> Change:
    """Takes the first silence for the deadline."""
    if isinstance(incoming, Overdue) and run.holds_slot:
        run = run.model_copy(update={"deadline": now - timedelta(days=1)})
    return decide(run, task, incoming, now=now, **more)


def wakes_the_dead(run: Run, task: Any, incoming: Any, **more: Any) -> Change:
    if run.terminal and isinstance(incoming, AttemptFinished):
        run = run.model_copy(update={"state": RunState.RUNNING, "attempt_id": incoming.attempt_id})
    return decide(run, task, incoming, **more)


def ends_at_the_cancel(run: Run, task: Any, incoming: Any, **more: Any) -> Change:
    """Confirms a cancel while the publisher is still writing."""
    change = decide(run, task, incoming, **more)
    if change.run.state is not RunState.CANCELLING or run.state not in (RunState.VERIFYING, RunState.PUBLISHING):
        return change
    last = replace(change.steps[-1], source=RunState.CANCELLING, to=RunState.CANCELLED)
    ended = _but(change, state=RunState.CANCELLED, version=change.run.version + 1, next_check=None)
    return replace(ended, steps=(*change.steps, last), says=())


def forgets_joins(task: Any, live: Any, fact: Any) -> Received:
    received = receive(task, live, fact)
    return replace(received, moves=tuple((run, replace(moved, asks=())) for run, moved in received.moves))


def sees_no_live_run(task: Any, live: Any, fact: Any) -> Received:
    return receive(task.model_copy(update={"wanted": ()}) if task else None, {}, fact)


# --- the executor ---


def launches_beside(attempt: Attempt, _others: Any, **more: Any) -> AttemptChange:
    return lease.launch(attempt, (), **more)


def expires_early(attempt: Attempt, *, now: datetime, **more: Any) -> AttemptChange:
    return lease.expired(attempt, now=now + timedelta(hours=2), **more)


def stops_with_words(asked: Any, known: Any) -> tuple[AttemptChange, ...]:
    """Confirms a stop before anything was killed."""
    changes = lease.stop(asked, known)
    return tuple(lease.lost(change.attempt, "stopped") if change.attempt.is_open else change for change in changes)


# --- the publisher ---


def forgets_intents(publication: Publication, now: datetime, rules: Any) -> Any:
    begun = tuple(e for e in publication.effects if e.settled)
    move = next_move(replace(publication, effects=begun), now, rules)
    if isinstance(move, Look):
        return after_look(replace(publication, effects=begun), move.kind, Seen.ABSENT, now, rules=rules)
    return move


def accepts_everything(findings: Any, grant: Any, *, approved: Any = None) -> Any:
    """Lets the publisher go on with what the checks did not accept."""
    judged = judging.judge(findings, grant, approved=approved)
    return replace(judged, verification=Verification.ACCEPTED)


@dataclass(frozen=True)
class Planted:
    """A bug, the promise that notices it, and a small world in which it shows."""

    parts: Parts
    promise: Invariant
    world: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def setting(self) -> Setting:
        """Return the world, judged by this one promise alone."""
        return replace(setting(parts=self.parts, **self.world), promises=(self.promise,))


_CANCEL: Final = {"misfortune": {"cancel": 1}}
_LATE: Final = {"misfortune": {"late": 1}}
_GUARDED: Final = {"outcomes": ("clean", "guarded"), "misfortune": {"bad": 1}}

PLANTED: Final[dict[str, Planted]] = {
    "forgets what joins": Planted(Parts(receive=forgets_joins), seen.no_task_lost, {"misfortune": {"comment": 1}}),
    "sees no live run": Planted(
        Parts(receive=sees_no_live_run), seen.one_live_run_per_lane, {"misfortune": {"edit": 1}}
    ),
    "gives up at once and launches beside": Planted(
        Parts(decide=gives_up_at_once, launch=launches_beside),
        seen.one_live_attempt_per_lane,
        {"misfortune": {"late": 2}, "terms": Terms(lease=timedelta(minutes=5))},
    ),
    "wakes late and goes on": Planted(
        Parts(kills_in_time=False), seen.one_live_attempt_per_lane, {"misfortune": {"freeze": 1}}
    ),
    "ends leases early": Planted(Parts(expired=expires_early), seen.one_live_attempt_per_lane, _LATE),
    "forgets intents": Planted(Parts(next_move=forgets_intents), seen.no_effect_doubled, {"misfortune": {"crash": 1}}),
    "takes taken slots": Planted(Parts(sees_taken=False), seen.capacity_is_kept, {"items": TWO}),
    "frees at the cancel": Planted(Parts(decide=frees_at_the_cancel), seen.capacity_is_kept, _CANCEL),
    "confirms stops with words": Planted(Parts(stop=stops_with_words), seen.capacity_is_kept, _CANCEL),
    "never frees": Planted(Parts(frees=False), seen.no_slot_leaked),
    "wakes the dead": Planted(Parts(decide=wakes_the_dead), seen.terminal_is_terminal, _CANCEL),
    "never looks again": Planted(Parts(decide=never_looks_again), seen.everything_moves),
    "accepts everything": Planted(Parts(judge=accepts_everything), seen.effects_are_of_the_accepted_result, _GUARDED),
    "ends at the cancel": Planted(Parts(decide=ends_at_the_cancel), seen.nothing_after_a_cancel, _CANCEL),
}
