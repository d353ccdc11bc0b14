"""Streams, subjects and durable consumers: created and updated here, and nowhere else."""

import contextlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    PersistMode,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError, NotFoundError

from dispatch_common.events import Fact
from dispatch_common.settings import Settings

FACTS: Final = "FACTS"
AGENT: Final = "AGENT"
_KEEP_FACTS: Final = timedelta(days=7)
_KEEP_AGENT: Final = timedelta(days=3)
_MIB: Final = 1 << 20


def agent_subject(run_id: UUID) -> str:
    """Return the literal subject of one run's agent stream (a wildcard tail would replay ten times slower)."""
    return f"dispatch.agent.{run_id.hex}"


def _facts(replicas: int) -> StreamConfig:
    return StreamConfig(
        name=FACTS,
        description="Facts between services",
        subjects=["dispatch.*.*.*.*"],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=_KEEP_FACTS.total_seconds(),
        max_bytes=2048 * _MIB,
        max_msg_size=8 * _MIB,
        duplicate_window=120,
        num_replicas=replicas,
        allow_direct=True,
        allow_atomic=True,
    )


def _agent(replicas: int) -> StreamConfig:
    return StreamConfig(
        name=AGENT,
        description="Normalized events of running agents",
        subjects=["dispatch.agent.*"],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=_KEEP_AGENT.total_seconds(),
        max_bytes=2048 * _MIB,
        duplicate_window=120,
        num_replicas=replicas,
        allow_direct=True,
        # The run's log on disk is the truth; an fsync per event would cost ten times the rate.
        persist_mode=PersistMode.ASYNC if replicas == 1 else None,
    )


async def ensure(js: JetStreamContext, settings: Settings) -> None:
    """Create or update the streams. Safe to call from every service at once, and again after the broker lost them."""
    for config in (_facts(settings.nats_replicas), _agent(settings.nats_replicas)):
        try:
            await js.stream_info(str(config.name))
            await js.update_stream(config)
        except NotFoundError:
            with contextlib.suppress(BadRequestError):  # another service was quicker
                await js.add_stream(config)


async def ensure_consumer(
    js: JetStreamContext, durable: str, hears: Iterable[type[Fact]], *, settings: Settings, max_ack_pending: int = 4096
) -> None:
    """Create or update the durable consumer of a service. Delivery is unlimited: dead letters are ours to decide."""
    await js.add_consumer(
        FACTS,
        ConsumerConfig(
            durable_name=durable,
            filter_subjects=[f"{fact.type}.{settings.org}" for fact in hears],
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=settings.ack_wait_seconds,
            max_deliver=-1,
            max_ack_pending=max_ack_pending,
            max_waiting=64,
        ),
    )
