"""What can happen next in a world, and what comes of it: the table from actions to the services' functions."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final

from tests.simulation import dispatcher, executor, people, policy, publisher, supervisor
from tests.simulation.world import Action, World, with_row

_HEARS: Final[dict[str, Callable[..., None]]] = {
    "dispatcher": dispatcher.hears,
    "policy": policy.hears,
    "executor": executor.hears,
    "publisher": publisher.hears,
}


def begin(world: World) -> World:
    """Let a new world begin."""
    people.arrive(world)
    return world


def ordinary(world: World) -> list[Action]:
    """Return what happens by itself, without waiting, when nothing goes wrong. Empty: everybody waits."""
    found: list[Action] = [("deliver", *key) for key in sorted(world.flying, key=_order)]
    for part in (dispatcher, policy, executor, supervisor, publisher):
        found += part.actions(world)
    return found


def _order(key: tuple[str, object]) -> tuple[str, str]:
    return key[0], str(key[1])


def patience(world: World) -> list[Action]:
    """Return the one thing that happens when everybody waits: time passes until the next of them has had enough."""
    later = [moment for moment in _timers(world) if moment > world.now]
    return [("wait", min(later))] if later else []


def _timers(world: World) -> Iterator[datetime]:
    for part in (dispatcher, policy, executor, supervisor, publisher):
        yield from part.timers(world)


def misfortunes(world: World) -> list[Action]:
    """Return what can go wrong and what people can do, as far as this world's budget goes."""
    found = list(people.actions(world))
    found += supervisor.misfortunes(world)
    for key in world.flying:
        if world.can("lose"):
            found.append(("lose", *key))
        if world.can("double") and key not in world.taken:
            found.append(("double", *key))
    if world.can("forget") and world.flying:
        found.append(("forget",))
    if world.lost and world.can("recall"):
        found.append(("recall",))
    if world.can("late"):
        found += [("late", *wait[1:]) for wait in patience(world)]
    if world.can("crash") and (world.starting or any(row.hand for row in world.publications.values())):
        found.append(("crash",))
    return found


def _deliver(world: World, key: Any, *, again: bool) -> None:
    """One transaction of one service: the inbox, and what it does. Doubled, the acknowledgement is lost."""
    fact = world.flying[key]
    if again:
        world.spend("double")
    else:
        del world.flying[key]
    if key in world.taken and world.parts.remembers:
        return
    world.taken |= {key}
    _HEARS[key[0]](world, fact)


def _pass_time(world: World, moment: datetime) -> None:
    world.now = moment
    supervisor.time_passed(world)
    publisher.time_passed(world)


def _late(world: World, moment: datetime) -> None:
    """Time passes although somebody could have done something."""
    _pass_time(world, moment)


def _lose(world: World, *key: Any) -> None:
    """A message is lost after it was published; nobody knows."""
    world.lost[key] = world.flying.pop(key)  # pyright: ignore[reportArgumentType]


def _forget(world: World) -> None:
    """The broker loses everything."""
    world.lost |= world.flying
    world.flying.clear()


def _recall(world: World) -> None:
    """The relays notice that the broker lost its memory, and say all kept facts again."""
    world.flying |= world.lost
    world.lost.clear()


def _crash(world: World) -> None:
    """Executor and publisher die: what they had in memory is gone, and their leases run out by themselves."""
    world.starting.clear()
    for name in [name for name, row in world.publications.items() if row.hand]:
        with_row(world.publications, name, hand=())


#: What a misfortune costs, and what it does.
_MISFORTUNE: Final[dict[str, tuple[str, Callable[..., None]]]] = {
    "late": ("late", _late),
    "lose": ("lose", _lose),
    "forget": ("forget", _forget),
    "recall": ("recall", _recall),
    "crash": ("crash", _crash),
    "die": ("die", supervisor.die),
    "freeze": ("freeze", supervisor.freeze),
    "renew unheard": ("deaf", partial(supervisor.renew, is_heard=False)),
    "report unheard": ("deaf", partial(supervisor.report, is_heard=False)),
    "ask": ("ask", supervisor.ask),
    "edit": ("edit", people.edit),
    "close item": ("close", partial(people.changes_item, closed=True)),
    "reopen item": ("reopen", partial(people.changes_item, closed=False)),
    "label": ("label", people.label),
    "comment": ("comment", people.comment),
    "cancel": ("cancel", people.cancel),
    "approve": ("consent", partial(people.consent, approve=True)),
    "refuse": ("consent", partial(people.consent, approve=False)),
    "answer": ("answer", people.answer),
}
_PERFORM: Final[dict[str, Callable[..., None]]] = {
    "wait": _pass_time,
    "sweep": dispatcher.sweep,
    "claim": dispatcher.claim,
    "pin": policy.pin,
    "close": policy.close,
    "expire": policy.expire,
    "repeat": policy.repeat,
    "launch": executor.launch,
    "start": executor.start,
    "reconcile": executor.reconcile,
    "expire attempt": executor.expire,
    "renew": supervisor.renew,
    "tell": supervisor.tell,
    "work": supervisor.work,
    "report": supervisor.report,
    "wake": supervisor.wake,
    "check": publisher.check,
    "move": publisher.move,
    "write": publisher.write,
    "record": publisher.record,
}


def perform(before: World, action: Action) -> World:
    """Return the world after one action."""
    world = before.copy()
    verb, *rest = action
    if verb in ("deliver", "double"):
        _deliver(world, tuple(rest), again=verb == "double")
    elif verb in _MISFORTUNE:
        cost, does = _MISFORTUNE[verb]
        world.spend(cost)
        does(world, *rest)
    else:
        _PERFORM[verb](world, *rest)
    return world
