"""Keeps the attempt's lease: asks in time, passes a stop on, and says in time that the lease is lost."""

import asyncio
from collections.abc import Callable
from typing import Final

from agent_runner.clock import elapsed
from agent_runner.ending import Cause, Ending
from agent_runner.gateway_client import Gateway, GatewayAway, GatewayRefused, NotOurs
from agent_runner.lease import Lease, margin
from agent_runner.protocol import LeaseTerms, StopAsk

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0


class Keeper:
    """One lease, from the first to the last. ``ends`` is called with every reason to end; the first one counts."""

    def __init__(
        self, gateway: Gateway, terms: LeaseTerms, *, seq: Callable[[], int], ends: Callable[[Ending], None]
    ) -> None:
        self._gateway = gateway
        self._terms = terms
        self._seq = seq
        self._ends = ends
        self._lease = Lease(elapsed(), terms.lease_seconds)
        self.is_lost = False

    def stop(self, ask: StopAsk | None) -> None:
        """Pass a stop on, wherever it was heard."""
        if ask is not None:
            self._ends(Ending(Cause.STOP_ASKED, ask.sentence or "It was asked to stop."))

    async def first(self) -> bool:
        """Get the first lease; without one nothing is started. Returns False when there is none to be had."""
        return await self._renew()

    async def keep(self) -> None:
        """Renew for ever. Returns when the lease is lost or the attempt is not ours any more."""
        while not self.is_lost:
            await asyncio.sleep(min(self._terms.renew_seconds, self._lease.left(elapsed())))
            await self._renew()

    async def _renew(self) -> bool:
        pause = _FIRST_PAUSE
        while (left := self._lease.left(elapsed())) > 0:
            try:
                await self._ask(left)
            except (GatewayAway, GatewayRefused):
                await asyncio.sleep(min(pause, self._lease.left(elapsed())))
                pause = min(pause * 2, _LONGEST_PAUSE)
            except NotOurs as error:
                return self._lose(Ending(Cause.NOT_OURS, f"The gateway does not know this attempt any more: {error}"))
            else:
                return True
        return self._lose(
            Ending(
                Cause.LEASE_LOST,
                f"The run gateway did not answer for {self._lease.seconds - margin(self._lease.seconds):.1f} s;"
                " the agent was killed before the lease could run out.",
            )
        )

    async def _ask(self, left: float) -> None:
        asked_at = elapsed()
        granted = await self._gateway.lease(self._seq(), within=min(left, max(1.0, self._terms.renew_seconds)))
        self._lease = self._lease.renewed(asked_at, granted.lease_seconds)
        self.stop(granted.stop)

    def _lose(self, ending: Ending) -> bool:
        self.is_lost = True
        self._ends(ending)
        return False
