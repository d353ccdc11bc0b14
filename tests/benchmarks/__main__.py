"""`make bench`: every figure as one JSON document, beside the floors of the same run."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from dispatch_common import telemetry
from dispatch_common.db import migrate
from dispatch_common.settings import Settings
from services.local import postgres
from tests.benchmarks import claims, noop, whole

_QUEUES = (1_000, 100_000)


async def _claims(folder: Path) -> dict[str, Any]:
    figures: list[dict[str, Any]] = []
    async with postgres(folder / "postgres") as server:
        for queued in _QUEUES:
            connection = await asyncpg.connect(server.url_for("postgres"))
            await connection.execute(f"CREATE DATABASE claims_{queued}")
            await connection.close()
            url = server.url_for(f"claims_{queued}")
            await migrate(url)
            figures.append(await claims.measure(url, queued))
    few, many = (figure["claims_per_second"] for figure in figures)
    return {"queues": figures, "many_to_few": round(many / few, 2)}


async def _main(names: list[str]) -> None:
    parts: dict[str, Callable[[Path], Awaitable[dict[str, Any]]]] = {
        "noop": noop.measure,
        "claims": _claims,
        "whole": whole.measure,
    }
    result: dict[str, Any] = {"cores": whole.cores()}
    for name in names or parts:
        folder = Path(tempfile.mkdtemp(prefix="dispatch-bench-"))
        print(f"measuring {name} …", file=sys.stderr)
        try:
            result[name] = await parts[name](folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())


telemetry.setup(Settings(log_level="ERROR"), "bench")
asyncio.run(_main(sys.argv[1:]))
