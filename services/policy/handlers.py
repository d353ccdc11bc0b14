"""Facts in, answers out: one transaction per batch, a few statements whatever the batch's size."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from dispatch_common.db import Tx
from dispatch_common.errors import Transient
from dispatch_common.events import ApprovalAnswered, ApprovalDecided, Fact, PolicyAsked
from dispatch_common.values import Stage
from services.policy import store
from services.policy.answering import Consequence, approval_decided, newest, reply, said_again
from services.policy.approval import Answer, Answered, answer
from services.policy.snapshot import Snapshots
from services.policy.uptime import Uptime


class Handlers:
    """Policy's reaction to facts, with what it keeps between batches."""

    def __init__(self, snapshots: Snapshots, uptime: Uptime) -> None:
        self._snapshots = snapshots
        self._uptime = uptime
        #: Set when a base commit is wanted.
        self.wanted = asyncio.Event()

    async def react(self, tx: Tx, facts: Sequence[Fact]) -> None:
        """Take a batch: people's answers first, since what is asked afterwards may rest on them."""
        for org in dict.fromkeys(fact.org for fact in facts):
            answers = [fact for fact in facts if isinstance(fact, ApprovalAnswered) and fact.org == org]
            asks = [fact for fact in facts if isinstance(fact, PolicyAsked) and fact.org == org]
            if answers:
                await self._answers(tx, org, answers)
            if asks:
                await self._asks(tx, org, asks)

    async def _asks(self, tx: Tx, org: str, asks: Sequence[PolicyAsked]) -> None:
        policies, now = await self._snapshots.today(tx, org)
        run_ids = sorted({asked.run_id for asked in asks})
        # The first question of a run can neither rest on an approval nor void one, so nothing needs to be read for it;
        # if it was answered before, its row cannot be stored twice and tells.
        first = all(asked.ask == 1 and asked.stage is Stage.LAUNCH for asked in asks)
        approvals = {} if first else await store.approvals(tx, run_ids)
        stored = {} if first else await store.decisions(tx, run_ids)
        fresh: list[Consequence] = []
        for asked in sorted(asks, key=lambda each: (each.run_id, each.ask)):
            known = stored.setdefault(asked.run_id, {})
            if asked.ask in known:
                _say_again(tx, known[asked.ask], asked, now)
            elif asked.ask > newest(known):
                consequence = reply(asked, policies, approvals.get(asked.run_id, ()), now)
                approvals[asked.run_id] = consequence.approvals
                known[asked.ask] = store.Stored(asked.run_id, asked.ask, consequence.decided)
                fresh.append(consequence)
            # An ask older than one that was answered is nobody's question any more.
        new = await store.decide(tx, org, fresh, policies.generation)
        known_before = [each for each in fresh if (each.asked.run_id, each.asked.ask) not in new]
        if known_before and not first:
            raise Transient("another policy answered the same question; asking the table again")
        await self._finish(tx, org, [each for each in fresh if each not in known_before])
        if known_before:
            stored = await store.decisions(tx, [each.asked.run_id for each in known_before])
            for each in known_before:
                _say_again(tx, stored[each.asked.run_id][each.asked.ask], each.asked, now)

    async def _finish(self, tx: Tx, org: str, new: Sequence[Consequence]) -> None:
        """Store and say what follows from answers that were not stored before."""
        await store.keep(tx, org, {a.id: a for each in new for a in each.changed}.values())
        tx.say(*(each.decided for each in new if each.decided is not None))
        if any(each.decided is None for each in new):
            self.wanted.set()
        await store.settle(tx, [(each.asked.run_id, each.asked.ask) for each in new if each.approvals])

    async def _answers(self, tx: Tx, org: str, facts: Sequence[ApprovalAnswered]) -> None:
        now = await tx.now()
        approvals = await store.approvals_by_id(tx, org, sorted({fact.approval_id for fact in facts}))
        roles = await store.roles(tx, org, [fact.by for fact in facts])
        for fact in facts:
            approval = approvals.get(fact.approval_id)
            if approval is None or approval.run_id != fact.run_id:
                sentence = "It does not count: this run has no such approval."
                await store.record_answer(tx, fact, counted=False, sentence=sentence, now=now)
                continue
            given = Answer(fact.by, fact.approve, fact.comment, roles.get(fact.by.id, frozenset()))
            done = answer(approval, given, now, self._uptime.since(now))
            approvals[approval.id] = done.approval
            await store.record_answer(tx, fact, counted=done.counted, sentence=done.sentence, now=now)
            await conclude(tx, org, done, now, answered=fact)


async def conclude(
    tx: Tx, org: str, done: Answered, now: datetime, *, answered: ApprovalAnswered | None = None
) -> ApprovalDecided | None:
    """Store and say how an approval ended, if it did."""
    fact = approval_decided(done, org, now, by=answered.by if answered else None)
    if fact is not None:
        if answered is not None:
            fact = fact.model_copy(update={"cause": answered.id, "traceparent": answered.traceparent})
        await store.ended(tx, org, done, fact)
        tx.say(fact)
    return fact


def _say_again(tx: Tx, known: store.Stored, asked: PolicyAsked, now: datetime) -> None:
    if known.decided is not None:
        tx.say(said_again(known.decided, asked, now))
