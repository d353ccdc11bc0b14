"""The frame of every service: its database, its broker, its intake and relay, its background tasks, its health.

A service is an async context manager ``serve(settings)``: entering starts it, leaving drains it. The process owns the
signals. A background task that dies ends the process; it is never logged and forgotten.
"""

import asyncio
import contextvars
import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from opentelemetry import context as otel_context

from dispatch_common import broker as broker_module
from dispatch_common import inbox, streams, telemetry
from dispatch_common.db import AWAY, Db, open_db
from dispatch_common.errors import Transient
from dispatch_common.events import Fact
from dispatch_common.health import Check, Health
from dispatch_common.http import http_server as http_server
from dispatch_common.intake import Intake, React
from dispatch_common.outbox import Relay
from dispatch_common.pull import Pull
from dispatch_common.settings import Settings

Serve = Callable[[Settings], AbstractAsyncContextManager[Any]]

_DRAIN: Final = timedelta(seconds=10)
_PRUNE_EVERY: Final = timedelta(minutes=5)


class BrokerAway(Transient):
    """The broker is not connected."""


class Context:
    """What a running service works with."""

    def __init__(self, settings: Settings, name: str, db: Db) -> None:
        self.settings = settings
        self.name = name
        self.db = db
        self.broker: NatsBroker | None = None
        self.urls: dict[str, str] = {}  #: where it listens, by what people call it
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._checks: list[str] = []

    @property
    def nc(self) -> Client:
        """Return the broker's connection, or raise BrokerAway before the first one."""
        if self.broker is None:
            raise BrokerAway
        return broker_module.client(self.broker)

    @property
    def js(self) -> JetStreamContext:
        """Return JetStream on the broker's connection."""
        return self.nc.jetstream()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` beside the service. If it raises, the process ends."""
        # A fresh context: a loop must not become part of the trace that happened to start it.
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name}/{name}", context=_untraced())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(self, period: timedelta, work: Callable[[], Awaitable[object]], name: str) -> None:
        """Call ``work`` about every ``period`` for ever; an error is logged and counted, and it is called again."""
        self.spawn(self._every(period, work, name), f"every-{name}")

    def ready(self, name: str, check: Check) -> None:
        """Register a condition of readiness: a coroutine that raises, or returns a sentence when it does not hold."""
        key = f"{self.name}/{name}"
        Health.add(key, check)
        self._checks.append(key)

    async def close(self) -> None:
        """Cancel the tasks and wait for them."""
        for key in self._checks:
            Health.remove(key)
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_DRAIN.total_seconds())

    async def _every(self, period: timedelta, work: Callable[[], Awaitable[object]], name: str) -> None:
        while True:
            await asyncio.sleep(period.total_seconds() * random.uniform(0.8, 1.2))
            try:
                await work()
            except (*AWAY, NatsError, Transient) as error:
                telemetry.log.warning("a sweep could not run", service=self.name, sweep=name, reason=str(error))
            except Exception as error:  # noqa: BLE001 - the next round tries again; the counter and the log tell
                telemetry.SWEEPS_FAILED.labels(self.name, name).inc()
                telemetry.log.error("a sweep failed", service=self.name, sweep=name, exc_info=error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        telemetry.log.critical("a task died; the service ends", service=self.name, task=task.get_name(), exc_info=error)
        if not self.died.done():
            self.died.set_exception(error)
            self.died.exception()  # seen: run() reads it when it waits


@asynccontextmanager
async def open(
    settings: Settings,
    name: str,
    *,
    hears: Sequence[type[Fact]] = (),
    react: React | None = None,
    works_alone: bool = False,
) -> AsyncGenerator[Context]:
    """Open a service: its pool at once, its broker as soon as there is one. Leaving drains it.

    One that ``works_alone`` does its work for a while without database and broker, so it stays ready without them:
    taking it out of service then would be the loss that its spool prevents.
    """
    async with open_db(settings.database_url, name, size=settings.database_pool) as db:
        ctx = Context(settings, name, db)
        if not works_alone:
            ctx.ready("database", lambda: _database_answers(db))
            ctx.ready("broker", lambda: _broker_answers(ctx))
        ctx.spawn(_speak(ctx, hears, react), "speak")
        try:
            yield ctx
        finally:
            await ctx.close()
            if ctx.broker is not None:
                await broker_module.stop(ctx.broker)


async def _speak(ctx: Context, hears: Sequence[type[Fact]], react: React | None) -> None:
    broker = broker_module.make_broker(ctx.settings, ctx.name)
    await broker.start()
    try:
        await _prepare(ctx, broker_module.client(broker).jetstream(), hears)
    except BaseException:
        await broker_module.stop(broker)
        raise
    ctx.broker = broker
    relay = Relay(ctx.db, ctx.nc, ctx.js, ctx.settings)
    ctx.every(_PRUNE_EVERY, relay.prune, "outbox-prune")
    ctx.every(_PRUNE_EVERY, lambda: inbox.prune(ctx.db), "inbox-prune")
    pull = Pull(ctx.nc, streams.FACTS, ctx.name)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(relay.run())
            if react is not None and hears:
                await pull.start()
                group.create_task(Intake(ctx.db, pull, react).run())
                group.create_task(_keep_consumer(ctx, hears))
    finally:
        await pull.stop()
        await relay.drain()


async def _prepare(ctx: Context, js: JetStreamContext, hears: Sequence[type[Fact]]) -> None:
    while True:
        try:
            await streams.ensure(js, ctx.settings)
            if hears:
                await streams.ensure_consumer(js, ctx.name, hears, settings=ctx.settings)
        except (NatsError, TimeoutError) as error:
            telemetry.log.warning("the broker is not ready", service=ctx.name, reason=str(error))
            await asyncio.sleep(0.5)
        else:
            return


async def _keep_consumer(ctx: Context, hears: Sequence[type[Fact]]) -> None:
    """Create the durable consumer again when the broker lost it."""
    while True:
        await asyncio.sleep(1.0)
        try:
            await ctx.js.consumer_info(streams.FACTS, ctx.name)
        except NatsError as error:
            telemetry.log.warning("the consumer is gone or silent", service=ctx.name, reason=str(error))
            await _prepare(ctx, ctx.js, hears)


async def _database_answers(db: Db) -> str | None:
    await db.fetchval("SELECT 1")
    return None


async def _broker_answers(ctx: Context) -> str | None:
    return None if ctx.broker is not None and ctx.nc.is_connected else "the broker is not connected"


def _untraced() -> Any:
    fresh = contextvars.copy_context()
    fresh.run(otel_context.attach, otel_context.Context())
    return fresh


async def first_death(contexts: Iterable[Context]) -> None:
    """Wait until a background task of any of these services dies, and raise what killed it."""
    done, _ = await asyncio.wait([ctx.died for ctx in contexts], return_when=asyncio.FIRST_COMPLETED)
    for death in done:
        death.result()


@asynccontextmanager
async def stop_signals() -> AsyncGenerator[asyncio.Event]:
    """Turn SIGINT and SIGTERM into an event for as long as this is open."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def wait_for(stop: asyncio.Event, *works: Coroutine[Any, Any, None]) -> None:
    """Wait for ``stop``, or raise what the first of ``works`` raises."""
    waiting = asyncio.create_task(stop.wait())
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            task.result()
    finally:
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)
