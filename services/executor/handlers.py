"""What the executor does with the facts it hears: one transaction per batch, a few array statements, no waiting.

Workspaces, processes and sockets are the worker's; it is woken after the commit.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from dispatch_common import telemetry
from dispatch_common.db import Tx
from dispatch_common.events import AttemptRequested, AttemptStopAsked, Fact
from services.executor import facts, lease, store
from services.executor.attempt import TERMS, Attempt, Change, Say, State, Terms
from services.executor.instant import AnyLauncher, is_instant
from services.executor.store import New

Asked = AttemptRequested | AttemptStopAsked


class Handlers:
    """Takes requests and stops. ``begin`` and ``stop`` are called after the commit, with what there is to do.

    ``room`` says how many attempts this executor can start at present; those are launched by the transaction that takes
    them, which spares a second one.
    """

    def __init__(
        self,
        executor: str,
        launcher: AnyLauncher,
        *,
        room: Callable[[], int],
        begin: Callable[[Sequence[AttemptRequested]], None],
        stop: Callable[[Sequence[Attempt]], None],
        terms: Terms = TERMS,
    ) -> None:
        self._executor = executor
        self._launcher = launcher
        self._room = room
        self._begin = begin
        self._stop = stop
        self._terms = terms

    async def react(self, tx: Tx, heard: Sequence[Fact]) -> None:
        """Take a batch of facts, in order."""
        asked = [fact for fact in heard if isinstance(fact, AttemptRequested | AttemptStopAsked)]
        rows = await store.lock_runs(tx, [fact.run_id for fact in asked])
        book = Book(row.attempt for row in rows)
        now = await tx.now()
        for fact in asked:
            self._take(tx, book, fact, now)
        launched = self._end_at_once(tx, book, now) if is_instant(self._launcher) else self._launch(tx, book, now)
        await store.insert(tx, book.new)
        await store.update(tx, book.changed)
        self._wake(tx, book, launched)

    def _take(self, tx: Tx, book: "Book", fact: Asked, now: datetime) -> None:
        known = book.of_run(fact.run_id)
        match fact:
            case AttemptRequested():
                changes = lease.take(fact, known, executor=self._executor)
            case AttemptStopAsked():
                changes = lease.stop(fact, known)
        if not changes:
            telemetry.log.info("an older fence was refused", run_id=str(fact.run_id), fence=fact.fence)
        for change in changes:
            book.put(change, fact)
            # Of an attempt that another one revoked nobody asked anything; its end is news of its own.
            own = change.attempt.id == fact.attempt_id
            origin = facts.Origin(fact.org, now, fact.id, fact.traceparent) if own else facts.Origin(fact.org, now)
            tx.say(*facts.about(change.attempt, change.says, origin))

    def _launch(self, tx: Tx, book: "Book", now: datetime) -> list[AttemptRequested]:
        launched: list[AttemptRequested] = []
        room = self._room()
        for request in book.accepted():
            if len(launched) >= room:
                break
            change = lease.launch(
                book.one(request.attempt_id),
                book.of_run(request.run_id),
                executor=self._executor,
                now=now,
                terms=self._terms,
            )
            book.put(change, request)
            tx.say(*facts.about(change.attempt, change.says, facts.Origin(request.org, now, None, request.traceparent)))
            if change.attempt.state is State.LAUNCHING:
                launched.append(request)
        return launched

    def _end_at_once(self, tx: Tx, book: "Book", now: datetime) -> list[AttemptRequested]:
        assert is_instant(self._launcher)
        requests = [request for request in book.accepted() if not book.must_wait(request)]
        for request, answer in zip(requests, self._launcher.answers(requests), strict=True):
            launched = lease.launch(
                book.one(request.attempt_id), (), executor=self._executor, now=now, terms=self._terms
            ).attempt
            began = lease.started(launched, request.fence, now=now, base_commit=request.grant.base_commit).attempt
            ended = lease.finished(began, request.fence, answer)
            book.put(ended, request)
            origin = facts.Origin(request.org, now, request.id, request.traceparent)
            tx.say(*facts.about(ended.attempt, (Say.STARTED, Say.FINISHED), origin))
        return []

    def _wake(self, tx: Tx, book: "Book", launched: Sequence[AttemptRequested]) -> None:
        if launched:
            tx.afterwards(lambda: self._begin(launched))
        ending = book.ending()
        if ending:
            tx.afterwards(lambda: self._stop(ending))


class Book:
    """The attempts of a batch's runs as they become, with what is new and what changed."""

    def __init__(self, known: Iterable[Attempt]) -> None:
        self._before = {attempt.id: attempt for attempt in known}
        self._now = dict(self._before)
        self._runs: dict[UUID, list[UUID]] = {}
        self._asked: dict[UUID, Asked] = {}
        for attempt in self._before.values():
            self._runs.setdefault(attempt.run_id, []).append(attempt.id)

    def one(self, attempt_id: UUID) -> Attempt:
        return self._now[attempt_id]

    def of_run(self, run_id: UUID) -> list[Attempt]:
        return [self._now[each] for each in self._runs.get(run_id, [])]

    def put(self, change: Change, fact: Asked) -> None:
        """Take note of what became of an attempt; ``fact`` is kept as the request of a new one."""
        attempt = change.attempt
        if attempt.id not in self._now:
            self._runs.setdefault(attempt.run_id, []).append(attempt.id)
            self._asked[attempt.id] = fact
        self._now[attempt.id] = attempt

    def accepted(self) -> list[AttemptRequested]:
        """Return the requests of new attempts that nobody launched yet."""
        return [
            fact
            for attempt_id, fact in self._asked.items()
            if self._now[attempt_id].state is State.ACCEPTED and isinstance(fact, AttemptRequested)
        ]

    def must_wait(self, request: AttemptRequested) -> bool:
        """Return whether another attempt of the run may still live."""
        return any(each.id != request.attempt_id and each.is_open for each in self.of_run(request.run_id))

    def ending(self) -> list[Attempt]:
        """Return what lives and shall not: stopped, or overtaken by a newer attempt."""
        return [
            attempt
            for attempt in self._now.values()
            if attempt.is_open
            and attempt.state is not State.ACCEPTED
            and (attempt.stop is not None or attempt.is_revoked)
            and attempt != self._before.get(attempt.id)
        ]

    @property
    def new(self) -> list[New]:
        return [New(self._now[attempt_id], fact) for attempt_id, fact in self._asked.items()]

    @property
    def changed(self) -> list[Attempt]:
        return [
            attempt
            for attempt in self._now.values()
            if attempt.id in self._before and attempt != self._before[attempt.id]
        ]
