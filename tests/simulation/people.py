"""What people do in a world, and the receiver that tells of it: every change of a work item is one reading of it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from dispatch_common import ids
from dispatch_common.events import AnswerGiven, ApprovalAnswered, CancelAsked, TaskReceived
from dispatch_common.lifecycle import RunState
from dispatch_common.values import Actor, Ask, TaskSnapshot, Wanted
from services.policy.approval import ApprovalState
from tests.simulation.policy import BOB
from tests.simulation.world import START, Action, Item, World, with_row

ALICE: Final = Actor(id="alice", name="Alice")


def arrive(world: World) -> None:
    """Let every work item of the setting appear, with its labels."""
    for name, labels in world.setting.items:
        world.items[name] = Item(labels)
        _read(world, name)


def actions(world: World) -> Iterator[Action]:
    """Yield what people may still do in this world."""
    for name, item in world.items.items():
        yield from ((verb, name, *more) for verb, cost, *more in _at_an_item(item) if world.can(cost))
    if world.can("cancel"):
        yield from (("cancel", run.id) for run in world.runs.values() if not run.terminal)
    if world.can("consent"):
        for run_id, approvals in world.approvals.items():
            pending = [each.id for each in approvals if each.state is ApprovalState.PENDING]
            yield from ((verb, run_id, each) for each in pending for verb in ("approve", "refuse"))
    if world.can("answer"):
        yield from (("answer", run.id) for run in world.runs.values() if run.question_id and not run.answered)


def _at_an_item(item: Item) -> Iterator[tuple[str, ...]]:
    """Yield what can be done to a work item, and what it costs."""
    yield "edit", "edit"
    yield "comment", "comment"
    yield "label", "label", "off" if item.labels else "on"
    yield ("reopen item", "reopen") if item.closed else ("close item", "close")


def _read(world: World, name: str, *asks: Ask) -> None:
    item = replace(world.items[name], readings=world.items[name].readings + 1)
    world.items[name] = item
    snapshot = TaskSnapshot(
        source="source",
        provider=world.setting.provider,
        object_id=name,
        key=name,
        title=f"version {item.version}",
        labels=tuple(f"agent:{role}" for role in item.labels),
        project="P",
        repository="sample",
        closed=item.closed,
        read_at=START + timedelta(microseconds=item.readings),
        digest=f"{item.version} {item.labels} {item.closed} {item.asks}",
    )
    world.say(
        TaskReceived(
            id=ids.derived("received", name, item.readings),
            time=world.now,
            delivery_ids=(ids.derived("delivery", name, item.readings),),
            snapshot=snapshot,
            wanted=tuple(Wanted(key=f"label:agent:{role}", role=role) for role in item.labels),
            asks=asks,
            actor=ALICE,
            may_start=True,
        )
    )


def changes_item(world: World, name: str, **changes: Any) -> None:
    """Change an item and tell of it."""
    with_row(world.items, name, **changes)
    _read(world, name)


def edit(world: World, name: str) -> None:
    changes_item(world, name, version=world.items[name].version + 1)


def label(world: World, name: str, way: str) -> None:
    """Take the labels off, or put them on again as they were at first."""
    first = dict(world.setting.items)[name]
    changes_item(world, name, labels=first if way == "on" else ())


def comment(world: World, name: str) -> None:
    """Ask for something in a comment, which is obeyed once."""
    item = world.items[name]
    with_row(world.items, name, asks=item.asks + 1)
    role = dict(world.setting.items)[name][0]
    _read(world, name, Ask(key=f"comment:{item.asks + 1}", role=role, instruction=f"<{name} {item.asks + 1}>"))


def cancel(world: World, run_id: Any) -> None:
    world.say(CancelAsked(**_head(world, "cancel", run_id, world.budget["cancel"]), run_id=run_id, by=BOB))


def consent(world: World, run_id: Any, approval_id: Any, *, approve: bool) -> None:
    head = _head(world, "consent", approval_id, world.budget["consent"])
    world.say(ApprovalAnswered(**head, run_id=run_id, approval_id=approval_id, approve=approve, by=BOB))


def answer(world: World, run_id: Any) -> None:
    """Answer the open question; the dispatcher hears of it, and the agent if it still waits."""
    run = world.runs[run_id]
    assert run.question_id is not None
    head = _head(world, "answer", run_id, run.question_id, world.budget["answer"])
    world.say(AnswerGiven(**head, run_id=run_id, question_id=run.question_id, text="The first.", by=BOB))
    it = world.supervisors.get(run.attempt_id) if run.attempt_id and run.state is RunState.AWAITING_ANSWER else None
    if it is not None and it.works:
        assert run.attempt_id is not None
        with_row(world.supervisors, run.attempt_id, waits=False)


def _head(world: World, *parts: object) -> dict[str, Any]:
    return {"id": ids.derived(*parts), "time": world.now}
