"""The command line as people start it: a process of its own, against a real console."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.consoles import Api, admin, api, console, db, settings

__all__ = ["admin", "api", "console", "db", "settings"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return orjson.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [orjson.loads(line) for line in self.out.splitlines()]


Dispatch = Callable[..., Awaitable[Ended]]


async def start(*words: str, environment: dict[str, str], within: Path) -> asyncio.subprocess.Process:
    """Start a command."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from services.cli import main; main()",
        *words,
        cwd=within,
        env={"PATH": os.defpath, "HOME": str(within), "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.fixture
async def environment(api: Api) -> dict[str, str]:
    """Where the console is, for commands."""
    return {"DISPATCH_URL": api.url, "DISPATCH_TOKEN": await api.token("admin")}


@pytest.fixture
def dispatch(environment: dict[str, str], tmp_path: Path) -> Dispatch:
    """Run a command to its end."""

    async def run(*words: str, stdin: str = "", **changes: str) -> Ended:
        process = await start(*words, environment={**environment, **changes}, within=tmp_path)
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        assert "Traceback" not in err.decode(), err.decode()
        return Ended(process.returncode, out.decode(), err.decode())

    return run
