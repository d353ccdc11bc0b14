"""Wires the result publisher: intake of facts, and the worker that checks results and makes effects."""

import asyncio
import re
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from dispatch_common import service
from dispatch_common.events import PublishRequested, PublishStopAsked, ResultPublished, ResultVerified, RunEnded
from dispatch_common.settings import Settings
from services.result_publisher.handlers import Handlers
from services.result_publisher.protocol import RULES, Rules
from services.result_publisher.worker import Worker

HEARS: Final = (PublishRequested, PublishStopAsked, RunEnded)
SAYS: Final = (ResultVerified, ResultPublished)

#: The first git with ``merge-tree --write-tree``; ``cat-file --batch-command`` is older.
_OLDEST_GIT: Final = (2, 38)


@asynccontextmanager
async def serve(settings: Settings, *, rules: Rules = RULES) -> AsyncGenerator[service.Context]:
    """Run the result publisher."""
    handlers = Handlers()
    async with service.open(settings, "result-publisher", hears=HEARS, react=handlers.react) as ctx:
        worker = Worker(ctx.db, settings, rules)
        handlers.wakes(worker.wake)
        ctx.ready("git", _git_is_new_enough)
        ctx.spawn(worker.run(), "worker")
        yield ctx


async def _git_is_new_enough() -> str | None:
    try:
        done = await asyncio.to_thread(subprocess.run, ["git", "version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "git is not installed; install git 2.38 or newer"
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_GIT:
        return f"{done.stdout.strip() or 'git'} is too old; install git 2.38 or newer"
    return None
