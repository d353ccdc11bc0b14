"""What this executor does beside hearing facts: starts what it took, stops what shall end, forgets what is over.

Bounded by the number of agents that may live here at once. Everything it begins can be begun again by ``Sweep``.
"""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from agent_runner.protocol import JOURNAL_FILE, OUT_DIR
from dispatch_common import telemetry
from dispatch_common.db import AWAY
from dispatch_common.events import AttemptRequested
from dispatch_common.families import ErrorFamily
from dispatch_common.service import Context
from dispatch_common.values import RepositorySpec
from services.executor import lease, store
from services.executor.attempt import Attempt
from services.executor.gateway.intake import Intake
from services.executor.gateway.journals import Journals
from services.executor.gateway.results import Results
from services.executor.gateway.sockets import Sockets
from services.executor.launchers import Launcher, LaunchFailed
from services.executor.manifest import Place
from services.executor.preparing import Preparing
from services.executor.store import Row
from services.executor.workspace import Workspaces

_FILES: Final = ("bundle", "manifest.json", "stdout", "stderr")
_TOGETHER: Final = 4  # preparations at once; git and the disk gain nothing from more


class Worker:
    """The attempts that this executor has."""

    def __init__(
        self,
        ctx: Context,
        preparing: Preparing,
        *,
        journals: Journals,
        intake: Intake,
        wake: asyncio.Event,
    ) -> None:
        self._ctx = ctx
        self._preparing = preparing
        self._launcher: Launcher = preparing.launcher
        self._results: Results = preparing.results
        self._sockets: Sockets = preparing.sockets
        self._workspaces: Workspaces = preparing.workspaces
        self._journals = journals
        self._intake = intake
        self._wake = wake
        self._together = asyncio.Semaphore(_TOGETHER)
        self.held: set[UUID] = set()
        self.preparing: set[UUID] = set()

    def room(self) -> int:
        """Return how many more agents may live here."""
        return max(0, self._ctx.settings.max_local_attempts - len(self.held))

    def begin(self, requests: Sequence[AttemptRequested]) -> None:
        """Launch attempts that are LAUNCHING in our name, each in a task of its own."""
        for asked in requests:
            if asked.attempt_id in self.preparing:
                continue
            self.held.add(asked.attempt_id)
            self.preparing.add(asked.attempt_id)
            self._ctx.spawn(self._prepare(asked), f"launch-{asked.attempt_id.hex[:8]}")

    async def _prepare(self, asked: AttemptRequested) -> None:
        try:
            async with self._together:
                await self._preparing.launch(asked)
        except AWAY as error:
            # The row stays LAUNCHING; the sweep begins anew.
            telemetry.log.warning("a launch was put off", attempt_id=str(asked.attempt_id), reason=str(error))
        except Exception as error:  # noqa: BLE001 - one attempt's surprise must not end the others
            telemetry.log.error("a launch failed", attempt_id=str(asked.attempt_id), exc_info=error)
            await self._results.fail(asked.attempt_id, ErrorFamily.UNKNOWN, f"It could not be launched: {error}")
        finally:
            self.preparing.discard(asked.attempt_id)

    def stop(self, attempts: Sequence[Attempt]) -> None:
        """Have attempts end that were stopped or overtaken; those that live elsewhere hear of it by their lease."""
        for attempt in attempts:
            if attempt.id in self.held and attempt.id not in self.preparing:
                self._ctx.spawn(self._end(attempt), f"stop-{attempt.id.hex[:8]}")

    async def _end(self, attempt: Attempt) -> None:
        try:
            if attempt.is_revoked:
                await self._launcher.kill(attempt.id)
            else:
                await self._launcher.stop(attempt.id, attempt.stop or "It was asked to stop.")
        except (LaunchFailed, OSError) as error:
            telemetry.log.warning("a stop is tried again", attempt_id=str(attempt.id), reason=str(error))

    def over(self, attempt: Attempt) -> None:
        """Give the place of an ended attempt to another. Its socket stays until its supervisor has left."""
        self.held.discard(attempt.id)
        self._journals.over(attempt.run_id, attempt.fence, attempt.id)
        self._intake.over(attempt.id)
        self._wake.set()

    async def listen(self, attempt_id: UUID) -> None:
        """Listen for an attempt that lives; a supervisor finds us where we were."""
        await self._sockets.open(attempt_id, self._place(attempt_id).socket)

    async def collect(self, row: Row) -> None:
        """Take the result of a supervisor that left without having delivered it."""
        attempt_id = row.attempt.id
        await self._salvage(row)
        report = await self._launcher.collect(attempt_id)
        if report is None:
            await self._left_without(row)
            return
        await self._results.end(attempt_id, lease.left)
        await self._store_files(attempt_id)
        fresh = await store.read(self._ctx.db, attempt_id) or row
        if missing := self._results.missing(fresh, report):
            sentence = f"Its supervisor left without what it reports: {', '.join(missing)}."
            await self._results.fail(attempt_id, ErrorFamily.WORKER_LOST, sentence)
            return
        await self._results.deliver(row, report)

    async def _left_without(self, row: Row) -> None:
        note = (await self._launcher.state(row.attempt.id)).note
        why = note.sentence if note is not None and note.sentence else "It gave no reason."
        sentence = f"Its supervisor ended it without a result. {why}"
        await self._results.fail(row.attempt.id, ErrorFamily.WORKER_LOST, sentence)

    async def lose(self, row: Row) -> None:
        """End an attempt whose supervisor died; nothing of it lives, the launcher says so."""
        await self._salvage(row)
        sentence = "Its supervisor died, and nothing of the attempt lives any more."
        await self._results.fail(row.attempt.id, ErrorFamily.WORKER_LOST, sentence)

    async def forget(self, attempt: Attempt) -> None:
        """Remove what an ended attempt left on this host; its blobs, its log and the task's HOME stay."""
        self._sockets.close(attempt.id)
        await self._workspaces.remove(attempt.id)
        await self._launcher.remove(attempt.id)

    def _place(self, attempt_id: UUID) -> Place:
        return self._preparing.ground.place(attempt_id)

    async def sweep_checkouts(self, repositories: Sequence[RepositorySpec], alive: Sequence[UUID]) -> None:
        """Remove prepared checkouts that nobody uses."""
        removed = await self._workspaces.sweep(repositories, alive)
        if removed:
            telemetry.log.info("prepared checkouts removed", count=removed)

    async def _store_files(self, attempt_id: UUID) -> None:
        place = self._place(attempt_id)
        token = place.token_file.read_text().strip() if place.token_file.exists() else ""
        for name in _FILES:
            if (place.folder / OUT_DIR / name).is_file():
                await self._results.keep(attempt_id, place.folder / OUT_DIR / name, token)

    async def _salvage(self, row: Row) -> None:
        """Take the events that a dead supervisor had on its disk and not delivered."""
        place = self._place(row.attempt.id)
        try:
            raw = await asyncio.to_thread((place.folder / JOURNAL_FILE).read_bytes)
            token = place.token_file.read_text().strip()
        except OSError:
            return
        await self._intake.salvage(row, token, raw[: raw.rfind(b"\n") + 1])
