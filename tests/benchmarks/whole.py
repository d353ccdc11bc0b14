"""`dispatch up` as users start it: time to ready, idle memory, and real runs in the sandbox up to the pull request."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil

from dispatch_common.db import open_db
from dispatch_common.settings import Settings
from tests.benchmarks.floors import summary
from tests.support.instance import Instance, Options, beside_plane
from tests.support.waiting import eventually

_RUNS = 12
_SQL = """
SELECT extract(epoch FROM max(s.at) FILTER (WHERE s.to_state = 'running') - min(d.received_at)) AS running,
       extract(epoch FROM max(s.at) FILTER (WHERE s.to_state = 'completed') - min(d.received_at)) AS completed
FROM run_steps s JOIN deliveries d ON d.run_ids ? s.run_id::text GROUP BY s.run_id
"""


async def measure(folder: Path) -> dict[str, Any]:
    """Return what a user of one machine feels."""
    began = time.perf_counter()
    async with _up(folder) as (process, ready):
        up = time.perf_counter() - began
        memory = await _memory(process.pid)
        settings = Settings(data=folder / "data", database_url=ready["postgres"], nats_url=ready["nats"])
        token = Path(ready["token_file"]).read_text().strip()
        async with beside_plane(settings, ready, token, folder, Options(slots=4)) as here:
            runs = await _runs(here)
    return {"up_to_ready_s": round(up, 2), "idle_memory_mib": memory, "sandboxed_runs": runs}


@asynccontextmanager
async def _up(folder: Path) -> AsyncGenerator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    ready = folder / "ready.json"
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "DISPATCH_KEK_FILE": str(folder / "key"),
        "DISPATCH_LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-c", "from services.cli import main; main()", "up"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--data",
        str(folder / "data"),
        "--ready-file",
        str(ready),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(ready.exists)
        yield process, orjson.loads(ready.read_bytes())
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()


async def _memory(pid: int) -> int:
    """Return the proportional memory of everything that was started, in MiB, once it is quiet."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return round(sum(each.memory_full_info().pss for each in family) / (1 << 20))


async def _runs(here: Instance) -> dict[str, Any]:
    for number in range(_RUNS):
        run = await here.run_of(here.item("agent:coder", name=f"Bench {number}"))
        await here.until(run, "completed", "failed")
    async with open_db(here.settings.database_url, "bench") as db:
        rows = await db.fetch(_SQL)
    return {
        "delivery_to_agent_running": summary([float(row["running"]) for row in rows]),
        "delivery_to_completed": summary([float(row["completed"]) for row in rows]),
    }


def cores() -> int:
    """Return how many cores these figures were made on."""
    return os.cpu_count() or 0
