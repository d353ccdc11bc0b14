"""Supervisors and their agents, as they really live: they keep a lease, work, ask, end, and report."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from agent_runner.lease import Lease
from services.executor.attempt import Refusal
from tests.simulation import executor
from tests.simulation.world import START, Action, Supervisor, World, with_row


def actions(world: World) -> Iterator[Action]:
    """Yield what supervisors and their agents can do now."""
    for attempt_id, it in world.supervisors.items():
        if not it.is_alive or it.is_frozen or it.has_reported:
            continue
        if it.result is not None:
            yield "report", attempt_id
            continue
        if wants_lease(world, it):
            yield "renew", attempt_id
        if not it.works:
            continue
        if not it.told:
            yield "tell", attempt_id
        if it.stops:
            yield "work", attempt_id, "stopped"
        elif not it.waits:
            yield "work", attempt_id, world.setting.outcomes[0]


def misfortunes(world: World) -> Iterator[Action]:
    """Yield what can go wrong with them."""
    for attempt_id, it in world.supervisors.items():
        if not it.is_alive or it.has_reported:
            continue
        if it.is_frozen:
            yield "wake", attempt_id
        else:
            yield from ((verb, attempt_id, *more) for verb, cost, *more in _wrong(world, it) if world.can(cost))


def _wrong(world: World, it: Supervisor) -> Iterator[tuple[str, ...]]:
    """Yield what can go wrong with one of them, and what it costs."""
    yield "die", "die"
    if it.lease is not None:
        yield "freeze", "freeze"
    if it.result is not None:
        yield "report unheard", "deaf"
    elif wants_lease(world, it):
        yield "renew unheard", "deaf"
    if it.works and not it.stops and not it.waits:
        yield from (("work", "bad", kind) for kind in world.setting.outcomes[1:])
        yield "ask", "ask"


def seconds(moment: datetime) -> float:
    return (moment - START).total_seconds()


def renews_at(world: World, it: Supervisor) -> datetime:
    return it.asked_at + world.setting.terms.lease / 3 if it.asked_at else START


def wants_lease(world: World, it: Supervisor) -> bool:
    return it.lease is None or renews_at(world, it) <= world.now


def timers(world: World) -> Iterator[datetime]:
    for it in world.supervisors.values():
        if it.is_alive and it.lease is not None and it.result is None and not it.is_frozen:
            yield renews_at(world, it)
            yield START + timedelta(seconds=it.lease.kill_at)


def time_passed(world: World) -> None:
    """Kill every agent whose lease was not renewed in time; where the host stands still, the agent does too."""
    for attempt_id, it in list(world.supervisors.items()):
        if it.works and _is_late(world, it) and world.parts.kills_in_time:
            with_row(world.supervisors, attempt_id, is_alive=False)


def _is_late(world: World, it: Supervisor) -> bool:
    return it.lease is not None and it.lease.left(seconds(world.now)) <= 0


# --- one act each ---


def renew(world: World, attempt_id: UUID, *, is_heard: bool = True) -> None:
    """Ask for a lease. Refused, everything is killed at once; an answer that is not heard changes nothing here."""
    it = world.supervisors[attempt_id]
    granted = executor.renew(world, attempt_id)
    if not is_heard:
        return
    if isinstance(granted, Refusal):
        with_row(world.supervisors, attempt_id, is_alive=False)
        return
    asked_at, length = seconds(world.now), granted.total_seconds()
    new = Lease(asked_at, length) if it.lease is None else it.lease.renewed(asked_at, length)
    stops = it.stops or world.attempts[attempt_id].stop is not None
    with_row(world.supervisors, attempt_id, lease=new, asked_at=world.now, stops=stops)


def tell(world: World, attempt_id: UUID) -> None:
    executor.started(world, attempt_id)
    with_row(world.supervisors, attempt_id, told=True)


def ask(world: World, attempt_id: UUID) -> None:
    it = world.supervisors[attempt_id]
    executor.asked(world, attempt_id, it.asked + 1)
    with_row(world.supervisors, attempt_id, asked=it.asked + 1, waits=True)


def work(world: World, attempt_id: UUID, kind: str) -> None:
    """The agent ends; nothing of it lives, and what it made is on disk."""
    if kind not in ("stopped", world.setting.outcomes[0]):
        world.spend("bad")
    with_row(world.supervisors, attempt_id, result=kind)


def report(world: World, attempt_id: UUID, *, is_heard: bool = True) -> None:
    """Deliver the result; unheard, it is delivered again."""
    kind = world.supervisors[attempt_id].result
    assert kind is not None
    executor.reported(world, attempt_id, kind)
    if is_heard:
        with_row(world.supervisors, attempt_id, has_reported=True, is_alive=False)


def die(world: World, attempt_id: UUID) -> None:
    """The host kills everything of it without a word; what is on disk stays."""
    with_row(world.supervisors, attempt_id, is_alive=False)


def freeze(world: World, attempt_id: UUID) -> None:
    with_row(world.supervisors, attempt_id, is_frozen=True)


def wake(world: World, attempt_id: UUID) -> None:
    """The host goes on. Before anything else the supervisor sees how late it is."""
    it = world.supervisors[attempt_id]
    late = it.result is None and _is_late(world, it) and world.parts.kills_in_time
    with_row(world.supervisors, attempt_id, is_frozen=False, is_alive=not late)
