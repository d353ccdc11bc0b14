"""Turns what is overdue into ordinary changes through the same ``decide``, and claims what no fact woke up."""

from typing import Final

from dispatch_common import telemetry
from dispatch_common.db import Db
from services.dispatcher.batch import Batch
from services.dispatcher.catalog import Catalog
from services.dispatcher.claim import claim
from services.dispatcher.decide import Overdue
from services.dispatcher.run import Rules

_MOST: Final = 200
_DUE: Final = """
SELECT id FROM runs WHERE next_check <= clock_timestamp() ORDER BY next_check LIMIT $1 FOR UPDATE SKIP LOCKED
"""


class Sweep:
    """The dispatcher's own looking around. Several replicas may sweep at once."""

    def __init__(self, db: Db, catalog: Catalog, rules: Rules, org: str) -> None:
        self._db = db
        self._catalog = catalog
        self._rules = rules
        self._org = org

    async def overdue(self) -> None:
        """Ask again, wake up or give up whatever has been silent past its next check."""
        while await self._overdue_round() == _MOST:
            continue

    async def claims(self) -> None:
        """Follow changed resources and claim: two transactions that free and queue at once do not see each other."""
        async with self._db.transaction() as tx:
            await self._catalog.refresh(tx)
            batch = Batch(tx, await tx.now(), self._rules)
            claimed = await claim(batch, self._catalog, self._org)
        if claimed:
            telemetry.log.info("claimed by the sweep", service="dispatcher", runs=claimed)

    async def _overdue_round(self) -> int:
        async with self._db.transaction() as tx:
            due = [row["id"] for row in await tx.conn.fetch(_DUE, _MOST)]
            if not due:
                return 0
            batch = Batch(tx, await tx.now(), self._rules)
            await batch.read((), due)
            for run_id in due:
                batch.apply(run_id, Overdue(), None)
            await batch.write()
            if batch.wakes_claim:
                await claim(batch, self._catalog, self._org)
        return len(due)
