"""Looks up the base commits that escalations wait for, outside any transaction, and answers their questions."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Final

from dispatch_common import telemetry
from dispatch_common.backoff import backoff
from dispatch_common.db import AWAY, Db, Tx
from services.policy import store
from services.policy.answering import BASE_TRIES, Consequence, newest, reply, without_base
from services.policy.approval import Base
from services.policy.base import BaseUnknown, pin
from services.policy.question import Policies
from services.policy.snapshot import Snapshots

_AT_ONCE: Final = 8
_POLL: Final = 1.0
#: After a wake-up the row may not be committed yet.
_SOON: Final = (0.0, 0.01, 0.05, 0.2)
_FIRST_PAUSE: Final = timedelta(seconds=2)


class Pins:
    """The worker. Several may run: a row is taken by one of them at a time."""

    def __init__(self, db: Db, snapshots: Snapshots, wanted: asyncio.Event) -> None:
        self._db = db
        self._snapshots = snapshots
        self._wanted = wanted

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            woken = True
            try:
                async with asyncio.timeout(_POLL):
                    await self._wanted.wait()
            except TimeoutError:
                woken = False
            self._wanted.clear()
            for pause in _SOON if woken else (0.0,):
                await asyncio.sleep(pause)
                with contextlib.suppress(*AWAY):
                    while await self.once():
                        pass

    async def once(self) -> int:
        """Take what is due and answer it; return how many there were."""
        async with self._db.transaction() as tx:
            wanted = await store.claim(tx, _AT_ONCE)
        results = await asyncio.gather(*(self._answer(each) for each in wanted), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, AWAY):
                telemetry.log.error("a base commit could not be looked up", service="policy", exc_info=result)
        return len(wanted)

    async def _answer(self, wanted: store.Wanted) -> None:
        asked = wanted.asked
        async with self._db.transaction() as tx:
            policies, _ = await self._snapshots.today(tx, asked.org)
        try:
            base = await self._pin(policies, asked.judged.repository or "")
        except BaseUnknown as error:
            await self._unknown(wanted, str(error))
        else:
            await self._known(wanted, base)

    async def _pin(self, policies: Policies, name: str) -> Base | None:
        """Return the base, or None when the repository is gone; today's policy will say so."""
        repository = policies.repositories.get(name)
        return None if repository is None else await pin(name, repository)

    async def _known(self, wanted: store.Wanted, base: Base | None) -> None:
        asked = wanted.asked
        async with self._db.transaction() as tx:
            if not await self._still_wanted(tx, wanted):
                return
            policies, now = await self._snapshots.today(tx, asked.org)
            approvals = await store.approvals(tx, [asked.run_id])
            consequence = reply(asked, policies, approvals.get(asked.run_id, ()), now, base=base)
            if consequence.decided is None:
                # The repository was changed meanwhile: look where it is now.
                await store.look_later(tx, wanted.decision_id, timedelta(0))
                return
            await self._store(tx, wanted, consequence, policies.generation)

    async def _unknown(self, wanted: store.Wanted, why: str) -> None:
        async with self._db.transaction() as tx:
            if not await self._still_wanted(tx, wanted):
                return
            if wanted.tries < BASE_TRIES:
                await store.look_later(tx, wanted.decision_id, backoff(_FIRST_PAUSE, wanted.tries - 1))
                return
            policies, now = await self._snapshots.today(tx, wanted.asked.org)
            approvals = await store.approvals(tx, [wanted.asked.run_id])
            mine = approvals.get(wanted.asked.run_id, ())
            await self._store(tx, wanted, without_base(wanted.asked, why, mine, now), policies.generation)

    async def _still_wanted(self, tx: Tx, wanted: store.Wanted) -> bool:
        """Lock the question and tell whether it is the run's newest, so that no later answer is undone."""
        if not await store.lock_pinning(tx, wanted.decision_id):
            return False
        asks = await store.decisions(tx, [wanted.asked.run_id])
        if newest(asks[wanted.asked.run_id]) > wanted.asked.ask:
            await store.outdated(tx, wanted.decision_id)
            return False
        return True

    async def _store(self, tx: Tx, wanted: store.Wanted, consequence: Consequence, generation: str) -> None:
        assert consequence.decided is not None
        now = consequence.decided.time
        await store.pinned(tx, wanted.decision_id, consequence.decided, generation, now)
        await store.keep(tx, wanted.asked.org, consequence.changed)
        tx.say(consequence.decided)
