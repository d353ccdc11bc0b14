"""The floors: what the parts cost by themselves on this machine, now."""

import asyncio
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import nats

_ROUNDS = 400


def summary(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 3),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 3),
    }


async def timed(rounds: int, work: Callable[[], Awaitable[Any]]) -> list[float]:
    """Return how long each of ``rounds`` calls took."""
    took: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return took


async def measure(database_url: str, nats_url: str) -> dict[str, Any]:
    """Return the floors of commit, publish and process start."""
    return {
        "commit": await _commits(database_url),
        "publish": await _publishes(nats_url),
        "process_start": await _processes(["true"]),
        "sandbox_start": await _processes(["bwrap", "--ro-bind", "/", "/", "--unshare-all", "true"]),
    }


async def _commits(database_url: str) -> dict[str, Any]:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS floor (id bigserial PRIMARY KEY, body text)")
        took = await timed(_ROUNDS, lambda: connection.execute("INSERT INTO floor (body) VALUES ('x')"))
    finally:
        await connection.close()
    return {**summary(took), "per_second": round(len(took) / sum(took))}


async def _publishes(nats_url: str) -> dict[str, Any]:
    client = await nats.connect(nats_url)
    try:
        stream = client.jetstream()
        await stream.add_stream(name="FLOOR", subjects=["floor"])
        took = await timed(_ROUNDS, lambda: stream.publish("floor", b"x" * 250))
        await stream.delete_stream("FLOOR")
    finally:
        await client.close()
    return {**summary(took), "per_second": round(len(took) / sum(took))}


async def _processes(command: list[str]) -> dict[str, Any]:
    async def start() -> None:
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await process.wait()

    return summary(await timed(40, start))
