"""Reads git objects through one ``cat-file --batch-command``: size first, content only when it is small enough."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from dispatch_common.errors import Permanent
from services.result_publisher.git import Git

_BATCH: Final = 400


class ObjectUnusable(Permanent):
    """An object is missing, of another type, or larger than it may be."""


@dataclass(frozen=True, slots=True)
class Info:
    """Type and size of an object."""

    type: str
    size: int


class Objects:
    """Objects of one repository. One reader at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in = process.stdin
        self._out = process.stdout

    async def infos(self, oids: Iterable[str]) -> dict[str, Info]:
        """Return type and size of each; ObjectUnusable when one is missing."""
        wanted = list(dict.fromkeys(oids))
        found: dict[str, Info] = {}
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            self._in.write("".join(f"info {oid}\n" for oid in batch).encode())
            await self._in.drain()
            for oid in batch:
                found[oid] = await self._header(oid)
        return found

    async def content(self, oid: str, kind: str, most: int) -> bytes:
        """Return the content; ObjectUnusable when it is not of this type or is larger than ``most`` bytes."""
        info = (await self.infos([oid]))[oid]
        if info.type != kind:
            raise ObjectUnusable(f"{oid} is a {info.type}, not a {kind}")
        if info.size > most:
            raise ObjectUnusable(f"the {kind} {oid} has {info.size} bytes, more than {most}")
        self._in.write(f"contents {oid}\n".encode())
        await self._in.drain()
        info = await self._header(oid)
        content = await self._out.readexactly(info.size + 1)
        return content[:-1]

    async def _header(self, oid: str) -> Info:
        line = (await self._out.readline()).decode().split()
        if len(line) != 3 or line[0] != oid or not line[2].isdigit():
            raise ObjectUnusable(f"{oid} is missing")
        return Info(type=line[1], size=int(line[2]))


@asynccontextmanager
async def opened(git: Git) -> AsyncGenerator[Objects]:
    """Open the objects of a repository; ends by itself when git does not answer in time."""
    async with git.started("cat-file", "--batch-command") as process, asyncio.timeout(git.deadline.total_seconds()):
        yield Objects(process)
