"""A server inside our process: heard as long as it is wanted, and gone without a trace for whoever comes after it."""

import asyncio
import contextlib
from pathlib import Path

import httpx

from dispatch_common import health
from dispatch_common.http import http_server


async def test_a_server_whose_end_is_cut_short_deafens_none_that_comes_after_it(tmp_path: Path) -> None:
    async def serve(path: Path, listens: asyncio.Event) -> None:
        async with http_server(health.app(), uds=path):
            listens.set()
            await asyncio.Event().wait()

    for number in range(5):
        listens = asyncio.Event()
        first = asyncio.create_task(serve(tmp_path / f"{number}.first", listens))
        await listens.wait()
        first.cancel()
        await asyncio.wait([first], timeout=0.001)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first

        # The next socket gets the number of the one that was closed.
        async with http_server(health.app(), uds=tmp_path / f"{number}.second") as path:
            transport = httpx.AsyncHTTPTransport(uds=path)
            async with httpx.AsyncClient(transport=transport, base_url="http://here", timeout=2) as http:
                assert (await http.get("/healthz")).status_code == 200
