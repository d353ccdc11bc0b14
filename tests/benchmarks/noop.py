"""Governed no-op runs through all services: latency when idle, runs per second in a burst, and what a run costs.

Everything is real but the attempt (an instant launcher: no sandbox, no clone) and the push (nothing was changed).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import nats

from dispatch_common.db import Db, open_db
from dispatch_common.events import AttemptOutcome, AttemptRequested
from dispatch_common.settings import Settings
from dispatch_common.values import ResultRef
from services.cli import stack
from services.executor import app as executor_app
from services.executor.attempt import Answer
from tests.benchmarks import floors
from tests.benchmarks.floors import summary
from tests.support.waiting import eventually

_IDLE = 150
_BURST = 3000
_CLIENTS = 64
_AGENTS = 50
_SLOTS = 8


class Instant:
    """A launcher whose attempts are over at once and changed nothing."""

    instant = True

    def answers(self, asked: Sequence[AttemptRequested]) -> list[Answer]:
        result = ResultRef(base_commit="0" * 40, summary="Nothing was done.")
        return [Answer(AttemptOutcome.SUCCEEDED, "Nothing was done.", result=result) for _ in asked]


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[tuple[stack.Stack, httpx.AsyncClient]]:
    """Run all services in this process, the executor with the instant launcher."""
    async with AsyncExitStack() as entered:
        names = [name for name in stack.SERVICES if name != "executor"]
        started = await entered.enter_async_context(stack.running(settings, names))
        await entered.enter_async_context(executor_app.serve(started.settings, launcher=Instant()))
        assert started.token_file is not None
        headers = {"Authorization": f"Bearer {started.token_file.read_text().strip()}"}
        client = httpx.AsyncClient(headers=headers, timeout=60)
        yield started, await entered.enter_async_context(client)


async def measure(folder: Path) -> dict[str, Any]:
    """Return idle latencies, burst throughput and costs per run, and the floors of the same servers."""
    settings = Settings(data=folder / "data", kek_file=folder / "key", log_level="ERROR", trace_ratio=0.1)
    async with running(settings) as (started, client), open_db(started.settings.database_url, "bench") as db:
        await _catalog(client, started.urls["console"], db)
        receiver = f"{started.urls['receiver']}/v1/tasks"
        idle = await _idle(client, receiver, started.settings.nats_url)
        await _settled(db, _IDLE)
        before = await _costs(db)
        burst = await _burst(client, receiver, db)
        after = await _costs(db)
        parts = await floors.measure(started.settings.database_url, started.settings.nats_url)
        return {"floors": parts, "idle": idle, "burst": {**burst, **_per_run(before, after)}}


async def _catalog(client: httpx.AsyncClient, console: str, db: Db) -> None:
    agents = "\n---\n".join(
        f"apiVersion: dispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: agent-{n}}}\n"
        f"spec: {{role: coder, backend: scripted, permissionSet: build, maxConcurrentTasks: {_SLOTS}}}"
        for n in range(_AGENTS)
    )
    rest = """
apiVersion: dispatch.dev/v1alpha1
kind: AgentPermissionSet
metadata: {name: build}
spec: {}
---
apiVersion: dispatch.dev/v1alpha1
kind: Repository
metadata: {name: sample}
spec: {url: /srv/sample.git}
"""
    body = {"files": [{"name": "bench.yaml", "text": f"{rest}---\n{agents}"}]}
    answer = await client.post(f"{console}/v1/resources", json=body)
    answer.raise_for_status()
    await eventually(lambda: db.fetchval("SELECT count(*) = $1 FROM agent_slots", _AGENTS * _SLOTS))


async def _idle(client: httpx.AsyncClient, receiver: str, nats_url: str) -> dict[str, Any]:
    """One task at a time: from before the request to the launch requested, and to the end of its run."""
    heard: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
    listening = await nats.connect(nats_url)

    async def hear(message: Any) -> None:
        heard.put_nowait((message.subject, time.perf_counter()))

    await listening.subscribe("dispatch.attempt.requested.v1.*", cb=hear)
    await listening.subscribe("dispatch.run.ended.v1.*", cb=hear)
    start, done = list[float](), list[float]()
    try:
        for number in range(_IDLE):
            began = time.perf_counter()
            await _post(client, receiver, f"idle-{number}")
            for _ in range(2):
                subject, at = await asyncio.wait_for(heard.get(), 30)
                (start if "attempt" in subject else done).append(at - began)
    finally:
        await listening.close()
    return {"delivery_to_launch_requested": summary(start), "delivery_to_completed": summary(done)}


async def _burst(client: httpx.AsyncClient, receiver: str, db: Db) -> dict[str, Any]:
    numbers = iter(range(_BURST))

    async def send() -> None:
        # A client of its own: one shared pool costs more than the receiver it loads.
        async with httpx.AsyncClient(headers=client.headers, timeout=60) as own:
            for number in numbers:
                await _post(own, receiver, f"burst-{number}")

    began = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(_CLIENTS)))
    taken = time.perf_counter() - began
    await _settled(db, _IDLE + _BURST)
    spent = time.perf_counter() - began
    return {"runs": _BURST, "taken_in_per_second": round(_BURST / taken), "runs_per_second": round(_BURST / spent)}


async def _post(client: httpx.AsyncClient, receiver: str, key: str) -> None:
    body = {"title": f"No-op {key}", "repository": "sample", "role": "coder", "idempotency_key": key}
    answer = await client.post(receiver, json=body)
    if answer.status_code != 202:
        raise RuntimeError(f"{answer.status_code}: {answer.text}")


async def _settled(db: Db, runs: int) -> None:
    """Wait until so many runs are completed."""
    sql = "SELECT count(*) >= $1 FROM runs WHERE state = 'completed'"
    await eventually(lambda: db.fetchval(sql, runs), within=timedelta(seconds=120), describe=lambda: _story(db))


async def _story(db: Db) -> str:
    """Tell where a run that did not end stands."""
    rows = await db.fetch("SELECT to_state, sentence FROM run_steps ORDER BY at DESC LIMIT 5")
    letters = await db.fetch("SELECT service, reason FROM dead_letters LIMIT 5")
    return "\n".join(str(dict(row)) for row in (*rows, *letters)) or "no run was made"


async def _costs(db: Db) -> dict[str, float]:
    row = await db.fetchrow(
        """SELECT (SELECT sum(xact_commit) FROM pg_stat_database) AS commits,
                  (SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal') AS wal_fsyncs"""
    )
    assert row is not None
    return {"commits": float(row["commits"]), "wal_fsyncs": float(row["wal_fsyncs"] or 0)}


def _per_run(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {f"{name}_per_run": round((after[name] - before[name]) / _BURST, 3) for name in before}
