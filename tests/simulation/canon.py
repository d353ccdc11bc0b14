"""Tells worlds apart by what can still matter: contents without ids and texts, times as distances from now.

Two worlds that differ only in when they came to be the same are the same world; that keeps small worlds small.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

from agent_runner.lease import Lease
from dispatch_common.events import Fact, PolicyAsked
from services.dispatcher.run import Run
from tests.simulation.world import START, World

#: What nobody decides by, or what follows from something else that is told.
_DEAD: Final = frozenset(
    {"id", "org", "time", "cause", "traceparent", "sentence", "snapshot", "judged", "reasons", "created_at", "comment"}
    | {"answered_at", "task_id", "decision_id", "grace_until"}
)
_DEAD_IN_RUNS: Final = _DEAD | {"version", "queued_at", "family", "stop", "last_attempt_id", "lane", "role", "actor"}
#: Longer ago than any margin.
_LONG_AGO: Final = timedelta(seconds=-400)
_TABLES: Final = (
    "items", "tasks", "runs", "slots", "approvals", "unheard", "attempts", "starting", "supervisors", "publications",
)  # fmt: skip


def key(world: World) -> int:
    """Return the number that worlds share which behave alike."""
    return hash(
        (
            tuple(sorted(world.budget.items())),
            *(frozenset(_rows(getattr(world, table), world.now)) for table in _TABLES),
            frozenset(_rows(_open_questions(world), world.now)),
            tuple(sorted(_under_way(world), key=hash)),
            tuple(sorted((str(each.run_id), each.revision, each.kind, each.content) for each in world.outside)),
            tuple(run.id for run in sorted(world.runs.values(), key=_place) if not run.terminal),
        )
    )


def _place(run: Run) -> tuple[datetime, str]:
    return run.queued_at or START, str(run.id)


def _open_questions(world: World) -> dict[Any, Any]:
    """Return the newest answer to each run, and what waits for its base commit; nobody asks for older answers."""
    newest: dict[Any, int] = {}
    for run_id, ask in world.decisions:
        newest[run_id] = max(ask, newest.get(run_id, 0))
    open_ones = {name: row for name, row in world.decisions.items() if isinstance(row, PolicyAsked)}
    return open_ones | {name: world.decisions[name] for name in newest.items()}


def _rows(table: dict[Any, Any], now: datetime) -> Iterator[Hashable]:
    for name, row in table.items():
        static, times = _split(row)
        yield name, static, *(max(moment - now, _LONG_AGO) for moment in times)


def _under_way(world: World) -> Iterator[Hashable]:
    for (service, fact_id), fact in world.flying.items():
        yield "flying", service, _split(fact)[0], (service, fact_id) in world.taken
    if world.can("recall"):
        for where, fact in world.lost.items():
            if where not in world.taken:
                yield "lost", where[0], _split(fact)[0]


_Split = tuple[int, tuple[datetime, ...]]
_KNOWN: Final[dict[int, tuple[object, _Split]]] = {}
_MOST: Final = 400_000


def _split(row: Any) -> _Split:
    """Return what a row is apart from its times, and its times. Rows never change, so once per row is enough."""
    known = _KNOWN.get(id(row))
    if known is not None and known[0] is row:
        return known[1]
    static: list[Hashable] = []
    times: list[datetime] = []
    _flatten(row, static, times)
    split = (hash(tuple(static)), tuple(times))
    if len(_KNOWN) > _MOST:
        _KNOWN.clear()
    _KNOWN[id(row)] = (row, split)
    return split


def _flatten(value: Any, static: list[Hashable], times: list[datetime]) -> None:
    if isinstance(value, datetime):
        times.append(value)
    elif isinstance(value, Lease):
        times.append(START + timedelta(seconds=value.asked_at))
        static.append(value.seconds)
    elif isinstance(value, Fact):
        static.append(value.type)
        static.extend(_plain(part) for name, part in value if name not in _DEAD and not isinstance(part, datetime))
    else:
        parts = _parts(value)
        static.append(type(value).__name__ if parts else _plain(value))
        for part in parts:
            _flatten(part, static, times)


def _parts(value: Any) -> Sequence[Any]:
    """Return what a row of ours is made of; nothing for a value that is told apart as a whole."""
    if isinstance(value, Run):
        return [part for name, part in value if name not in _DEAD_IN_RUNS]
    if isinstance(value, tuple):
        return cast("tuple[Any, ...]", value)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value) if field.name not in _DEAD]
    return ()


def _plain(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
