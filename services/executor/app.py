"""Wires the executor: facts in, supervisors out, the gateway between them, and the rounds that find what was left."""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Final

from agent_runner.protocol import SandboxKind
from dispatch_common import service
from dispatch_common.blobs import Blobs
from dispatch_common.db import Tx
from dispatch_common.events import (
    AttemptFinished,
    AttemptPreparing,
    AttemptRequested,
    AttemptStarted,
    AttemptStopAsked,
    Fact,
    QuestionAsked,
)
from dispatch_common.service import Context
from dispatch_common.settings import Settings
from services.executor.attempt import Attempt, Terms
from services.executor.gateway import sockets
from services.executor.gateway.door import Door
from services.executor.gateway.intake import Intake
from services.executor.gateway.journals import Journals
from services.executor.gateway.renewals import Renewals
from services.executor.gateway.results import Results
from services.executor.gateway.routes import Routes
from services.executor.gateway.sockets import Sockets
from services.executor.handlers import Handlers
from services.executor.instant import AnyLauncher, is_instant
from services.executor.launchers import Launcher
from services.executor.launchers.local import local_launcher
from services.executor.launchers.report import Confining, confining
from services.executor.preparing import Preparing
from services.executor.spec import Ground
from services.executor.sweep import Sweep
from services.executor.worker import Worker
from services.executor.workspace import Workspaces

HEARS: Final = (AttemptRequested, AttemptStopAsked)
SAYS: Final = (AttemptPreparing, AttemptStarted, AttemptFinished, QuestionAsked)

_LOOK_EVERY: Final = timedelta(seconds=2)
_LEAST_HOLD: Final = timedelta(seconds=10)
_LEAST_MARGIN: Final = timedelta(seconds=1)
_MOST_MARGIN: Final = timedelta(seconds=5)
_TIDY_EVERY: Final = timedelta(minutes=10)


@asynccontextmanager
async def serve(settings: Settings, launcher: AnyLauncher | None = None) -> AsyncGenerator[Context]:
    """Run the executor. ``launcher``: another one than this machine's, for benchmarks."""
    async with AsyncExitStack() as stack:
        executor = stack.enter_context(named(settings.data, settings.executor_name))
        handlers: asyncio.Future[Handlers] = asyncio.get_running_loop().create_future()

        async def react(tx: Tx, heard: Sequence[Fact]) -> None:
            await (await asyncio.shield(handlers)).react(tx, heard)

        ctx = await stack.enter_async_context(service.open(settings, "executor", hears=HEARS, react=react))
        if launcher is not None and is_instant(launcher):
            handlers.set_result(Handlers(executor, launcher, room=lambda: 0, begin=_nothing, stop=_nothing))
        else:
            local = (
                launcher
                if launcher is not None
                else await stack.enter_async_context(local_launcher(settings.data.absolute() / "attempts"))
            )
            handlers.set_result(await _wired(ctx, executor, local))
        yield ctx


def _nothing(_: object) -> None:
    """An instant launcher leaves nothing to begin or to stop."""


async def _wired(ctx: Context, executor: str, launcher: Launcher) -> Handlers:
    settings = ctx.settings
    data = settings.data.absolute()
    confined = await asyncio.to_thread(confining, data, SandboxKind(settings.sandbox))
    terms = terms_of(settings)
    wake = asyncio.Event()
    over: list[Callable[[Attempt], None]] = []
    blobs = Blobs(settings.blob_root)
    journals = Journals(ctx, blobs)
    intake = Intake(ctx.db, journals, grace=timedelta(seconds=settings.question_grace_seconds))
    results = Results(ctx.db, blobs, over=lambda attempt: over[0](attempt))
    door = Door(ctx.db)
    renewals = Renewals(ctx.db, terms, seq=journals.seq)
    listening = Sockets(ctx, Routes(ctx.db, blobs, door, renewals, intake, results).app())
    preparing = Preparing(
        db=ctx.db,
        blobs=blobs,
        executor=executor,
        launcher=launcher,
        workspaces=Workspaces(data, owner=confined.sandbox.uid, overlay=confined.overlay),
        confining=confined,
        sockets=listening,
        results=results,
        ground=Ground(data / "attempts", sockets.folder(data), confined.sandbox, terms.lease),
    )
    ctx.ready("isolation", lambda: _isolated(confined))
    worker = Worker(ctx, preparing, journals=journals, intake=intake, wake=wake)
    over.append(worker.over)
    sweep = Sweep(ctx, worker, launcher, results, executor=executor, terms=terms, wake=wake)
    _rounds(ctx, sweep, journals, terms)
    return Handlers(executor, launcher, room=worker.room, begin=worker.begin, stop=worker.stop, terms=terms)


async def _isolated(confined: Confining) -> str | None:
    return None if confined.works else confined.report[0].sentence


def _rounds(ctx: Context, sweep: Sweep, journals: Journals, terms: Terms) -> None:
    period = timedelta(seconds=ctx.settings.sweep_seconds)
    ctx.spawn(sweep.pick(), "pick")
    ctx.spawn(sweep.first(), "first-look")
    ctx.every(min(period, _LOOK_EVERY), sweep.reconcile, "reconcile")
    ctx.every(terms.hold / 3, sweep.hold, "hold")
    ctx.every(min(period, terms.lease / 4), sweep.expire, "expire")
    ctx.spawn(journals.resume_at_start(), "first-logs")
    ctx.every(_TIDY_EVERY, journals.resume, "resume-logs")
    ctx.every(_TIDY_EVERY, sweep.tidy, "tidy")


def terms_of(settings: Settings) -> Terms:
    """Return the executor's patience: its margin comes on top of what the supervisor keeps back of its lease."""
    lease = timedelta(seconds=settings.attempt_lease_seconds)
    return Terms(lease=lease, hold=max(lease, _LEAST_HOLD), margin=min(max(lease / 4, _LEAST_MARGIN), _MOST_MARGIN))


@contextmanager
def named(data: Path, name: str) -> Generator[str]:
    """Hold a name for this executor. A second one on the same data folder gets the next: name-2, name-3, …

    A restarted executor gets the name of the one that died, and with it that one's attempts.
    """
    folder = data / "executors"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in count(1):
        mine = name if number == 1 else f"{name}-{number}"
        descriptor = os.open(folder / f"{mine.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield mine
        finally:
            os.close(descriptor)
        return
