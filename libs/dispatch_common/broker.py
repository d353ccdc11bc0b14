"""The connection to the broker. FastStream carries it and describes the facts; it never gives up reconnecting."""

import contextlib
import os
import signal

from faststream.nats import NatsBroker
from faststream.nats.opentelemetry import NatsTelemetryMiddleware
from nats.aio.client import Client
from nats.errors import Error as NatsError

from dispatch_common import telemetry
from dispatch_common.settings import Settings


def make_broker(settings: Settings, service: str) -> NatsBroker:
    """Return a broker that reconnects for ever: FastStream's default freezes the process after two minutes away."""

    async def closed() -> None:
        if not broker_is_stopping(broker):
            telemetry.log.error("the broker's connection closed for good; the process ends", service=service)
            os.kill(os.getpid(), signal.SIGTERM)

    async def failed(error: Exception) -> None:
        telemetry.log.warning("the broker's connection reports", service=service, reason=str(error))

    broker = NatsBroker(
        settings.nats_url,
        name=f"dispatch-{service}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        connect_timeout=5,
        pending_size=64 * 1024 * 1024,
        closed_cb=closed,
        error_cb=failed,
        middlewares=[NatsTelemetryMiddleware()],
        logger=None,
    )
    return broker


_STOPPING: set[int] = set()


def broker_is_stopping(broker: NatsBroker) -> bool:
    """Return whether ``stop`` was called on it."""
    return id(broker) in _STOPPING


async def stop(broker: NatsBroker) -> None:
    """Close the connection on purpose."""
    _STOPPING.add(id(broker))
    try:
        await broker.stop()
    except NatsError:
        # Nothing can be drained while the broker is away, and closing says good-bye to a connection that is gone.
        with contextlib.suppress(NatsError, OSError):
            await client(broker).close()
    finally:
        _STOPPING.discard(id(broker))


def client(broker: NatsBroker) -> Client:
    """Return the nats client under a started broker, for pull loops and atomic batches."""
    return broker.connection
