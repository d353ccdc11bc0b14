"""What the publisher does with facts, inside the intake's transaction. Outside writes are the worker's."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from dispatch_common import ids
from dispatch_common.db import Tx
from dispatch_common.events import (
    Fact,
    PublishOutcome,
    PublishRequested,
    PublishStopAsked,
    ResultPublished,
    ResultVerified,
    RunEnded,
)
from dispatch_common.lifecycle import RunState
from services.result_publisher import store
from services.result_publisher.record import NOTICE
from services.result_publisher.store import Name

#: Providers whose tasks live somewhere that can be told.
TRACKERS: Final = frozenset({"plane"})

Asked = PublishRequested | PublishStopAsked


class Handlers:
    """Reacts to facts, and tells the worker when there is something to do."""

    def __init__(self) -> None:
        self._wake: Callable[[], None] = _nobody

    def wakes(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` from now on when a publication is due."""
        self._wake = wake

    async def react(self, tx: Tx, facts: Sequence[Fact]) -> None:
        requests = [fact for fact in facts if isinstance(fact, PublishRequested)]
        stops = [fact for fact in facts if isinstance(fact, PublishStopAsked)]
        told = [fact for fact in facts if isinstance(fact, RunEnded) and fact.state is not RunState.COMPLETED]
        if requests:
            await self._requested(tx, requests, await tx.now())
        if stops:
            await self._stopped(tx, stops, await tx.now())
        if told:
            await self._ended(tx, told)

    async def _requested(self, tx: Tx, requests: Sequence[PublishRequested], now: datetime) -> None:
        by_name = {(fact.run_id, fact.revision): fact for fact in requests}
        empty = {name: _nothing(fact, now) for name, fact in by_name.items() if is_nothing(fact)}
        new = await store.insert(tx, [_row(fact, answer=empty.get(name)) for name, fact in by_name.items()])
        tx.say(*(empty[name] for name in new if name in empty))
        later = [(run_id, revision, "A newer result takes its place.") for run_id, revision in new if revision > 1]
        if later:
            await store.ask_stop_below(tx, later)
        if new - empty.keys():
            self._wake()
        await _say_again(tx, [fact for name, fact in by_name.items() if name not in new], now)

    async def _stopped(self, tx: Tx, stops: Sequence[PublishStopAsked], now: datetime) -> None:
        by_name = {(fact.run_id, fact.revision): fact for fact in stops}
        # A stop may overtake the request; then its row keeps the request from ever beginning.
        rows = [_row(fact, answer=_stopped(fact, now), stop=fact.sentence) for fact in by_name.values()]
        new = await store.insert(tx, rows)
        tx.say(*(_stopped(by_name[name], now) for name in new))
        known = [fact for name, fact in by_name.items() if name not in new]
        if known:
            await store.ask_stop(tx, [(fact.run_id, fact.revision, fact.sentence) for fact in known])
            await _say_again(tx, known, now)
            self._wake()

    async def _ended(self, tx: Tx, ended: Sequence[RunEnded]) -> None:
        by_run: dict[UUID, RunEnded] = {fact.run_id: fact for fact in ended}
        # Terminal is terminal: whatever of the run is still unpublished stays so.
        await store.ask_stop_below(tx, [(run_id, 1 << 62, fact.sentence) for run_id, fact in by_run.items()])
        rows = [_row(fact) for fact in by_run.values() if fact.snapshot.provider in TRACKERS]
        if rows:
            await store.insert(tx, rows)
        self._wake()


def _nobody() -> None:
    """Leave it to the worker's poll."""


def is_nothing(fact: PublishRequested) -> bool:
    """Return whether there is neither a commit to publish nor a work item to tell."""
    return fact.result.commit is None and fact.snapshot.provider not in TRACKERS


def _row(fact: Asked | RunEnded, *, answer: ResultPublished | None = None, stop: str | None = None) -> dict[str, Any]:
    return {
        "run_id": fact.run_id,
        "revision": NOTICE if isinstance(fact, RunEnded) else fact.revision,
        "org": fact.org,
        "state": "finished" if answer else "asked",
        "request": fact.model_dump(mode="json"),
        "answer": answer.model_dump(mode="json") if answer else None,
        "stop_asked": stop,
    }


def _nothing(fact: PublishRequested, now: datetime) -> ResultPublished:
    sentence = "The attempt changed no file."
    return _published(fact, now, PublishOutcome.NOTHING, sentence)


def _stopped(fact: PublishStopAsked, now: datetime) -> ResultPublished:
    return _published(fact, now, PublishOutcome.STOPPED, "Stopped; nothing had been written.")


def _published(fact: Asked, now: datetime, outcome: PublishOutcome, sentence: str) -> ResultPublished:
    return ResultPublished(
        id=ids.derived("result-published", fact.run_id, fact.revision),
        org=fact.org,
        time=now,
        cause=fact.id,
        traceparent=fact.traceparent,
        run_id=fact.run_id,
        revision=fact.revision,
        outcome=outcome,
        sentence=sentence,
    )


async def _say_again(tx: Tx, asked: Sequence[Asked], now: datetime) -> None:
    """Answer what was answered before with the same words under new ids."""
    if not asked:
        return
    askers: defaultdict[Name, list[Asked]] = defaultdict(list)
    for fact in asked:
        askers[fact.run_id, fact.revision].append(fact)
    for row in await store.read(tx, list(askers)):
        for fact in askers[row["run_id"], row["revision"]]:
            answer = await _answer(tx, row, fact, now)
            if answer is not None:
                again = {"id": ids.derived("again", answer.id, fact.id), "time": now, "cause": fact.id}
                tx.say(answer.model_copy(update=again))


async def _answer(tx: Tx, row: Any, fact: Asked, now: datetime) -> ResultPublished | ResultVerified | None:
    if row["answer"]:
        return ResultPublished.model_validate(row["answer"])
    if isinstance(fact, PublishStopAsked):
        if row["state"] != "finished":
            return None
        # It was checked and not accepted; the stop makes that final.
        answer = _stopped(fact, now)
        await tx.conn.execute(
            "UPDATE publications SET answer = $3 WHERE run_id = $1 AND revision = $2",
            fact.run_id,
            fact.revision,
            answer.model_dump(mode="json"),
        )
        return answer
    verified = row["verified"]
    return ResultVerified.model_validate(verified) if verified and "verification" in verified else None
