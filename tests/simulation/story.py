"""Tells how a world came about: a numbered line per action, with what each service's rows and the outside became."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from dispatch_common.fact import AttemptFact, Fact, RunFact
from tests.simulation.machine import begin, perform
from tests.simulation.world import Action, Setting, World

_MOST_LINES = 400


@dataclass
class Trace:
    """How a world came about."""

    setting: Setting
    actions: list[Action] = field(default_factory=list)
    seed: int | None = None

    def with_one_more(self, action: Action) -> "Trace":
        return Trace(self.setting, [*self.actions, action], self.seed)


def replay(trace: Trace) -> Iterator[tuple[Action, World, World]]:
    """Yield every action of a trace with the world before and after it, without judging."""
    world = begin(World(trace.setting))
    for action in trace.actions:
        after = perform(world, action)
        yield action, world, after
        world = after


def story(trace: Trace) -> str:
    """Return the story of a trace; of a long one, its end."""
    lines: list[str] = []
    try:
        for number, (action, before, after) in enumerate(replay(trace), 1):
            lines += [f"{number:4d}. {_at(before)} {_told(before, action)}", *_became(before, after)]
    except Exception as error:  # noqa: BLE001 - the story of an action that failed ends with its failure
        lines.append(f"      then: {type(error).__name__}: {error}")
    if len(lines) > _MOST_LINES:
        lines = ["      …", *lines[-_MOST_LINES:]]
    return "\n".join(lines)


def _at(world: World) -> str:
    return world.now.strftime("%H:%M:%S")


def _told(world: World, action: Action) -> str:
    verb, *rest = action
    if verb in ("deliver", "double", "lose"):
        fact = world.flying[rest[0], rest[1]]
        return f"{verb} to {rest[0]}: {_fact(fact)}"
    return " ".join([verb, *(str(each)[:8] for each in rest)])


def _fact(fact: Fact) -> str:
    about = fact.run_id.hex[:6] if isinstance(fact, RunFact) else ""
    fence = f" attempt {fact.fence}" if isinstance(fact, AttemptFact) else ""
    more = [f"{name} {getattr(fact, name)}" for name in _TELLING if hasattr(fact, name)]
    return " ".join([type(fact).__name__, about + fence, *more])


_TELLING = ("ask", "revision", "verdict", "outcome", "verification", "family")


def _became(before: World, after: World) -> Iterator[str]:
    for run_id, run in after.runs.items():
        was = before.runs.get(run_id)
        if was is None or was.state is not run.state:
            yield f"        run {run_id.hex[:6]}: {was.state if was else 'new'} → {run.state} (attempt {run.attempt})"
    for attempt_id, attempt in after.attempts.items():
        was = before.attempts.get(attempt_id)
        if was is None or was.state is not attempt.state:
            yield f"        attempt {attempt.fence} of {attempt.run_id.hex[:6]}: {attempt.state}"
    for attempt_id, it in after.supervisors.items():
        was = before.supervisors.get(attempt_id)
        if was is None or was.works != it.works:
            yield f"        agent of {attempt_id.hex[:6]} {'works' if it.works else 'does not work'}"
    for effect in after.outside[len(before.outside) :]:
        yield f"        outside: {effect.kind} of {effect.run_id.hex[:6]} revision {effect.revision}"
