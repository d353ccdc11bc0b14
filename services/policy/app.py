"""Policy's wiring. Entering ``serve`` starts it, leaving drains it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from dispatch_common import service
from dispatch_common.events import ApprovalAnswered, ApprovalDecided, PolicyAsked, PolicyDecided
from dispatch_common.settings import Settings
from services.policy.handlers import Handlers
from services.policy.pins import Pins
from services.policy.snapshot import Snapshots
from services.policy.sweep import sweep
from services.policy.uptime import Uptime

HEARS = (PolicyAsked, ApprovalAnswered)
SAYS = (PolicyDecided, ApprovalDecided)


@asynccontextmanager
async def serve(settings: Settings) -> AsyncGenerator[service.Context, None]:
    """Answer what the dispatcher asks, and what people say to approvals."""
    period = timedelta(seconds=settings.sweep_seconds)
    snapshots, uptime = Snapshots(), Uptime(period)
    handlers = Handlers(snapshots, uptime)
    async with service.open(settings, "policy", hears=HEARS, react=handlers.react) as ctx:
        ctx.spawn(Pins(ctx.db, snapshots, handlers.wanted).run(), "base-commits")
        ctx.every(period, sweep(ctx.db, uptime), "approvals")
        yield ctx
