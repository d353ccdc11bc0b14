"""A run gateway for tests of those who speak to one: a real HTTP server on a unix socket that keeps what it hears."""

import asyncio
import hashlib
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_runner.protocol import (
    FENCE_HEADER,
    AgentEvent,
    EventLine,
    EventsTaken,
    LeaseGranted,
    ResultReport,
    StartedReport,
    StopAsk,
)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class GatewayStandIn:
    """One attempt's gateway. Tests read what it heard, and set how it answers."""

    def __init__(self, folder: Path, *, token: str = "run-token", fence: int = 1) -> None:
        self.socket = folder / "gw.sock"
        self.token, self.fence = token, fence
        self.lease_seconds = 20.0
        self.stop_ask: StopAsk | None = None
        self.answer_with: int | None = None  #: every request is answered with this status
        self.answering = asyncio.Event()  #: cleared: requests are taken and not answered
        self.answering.set()
        self.lines: dict[int, EventLine] = {}
        self.blobs: dict[str, bytes] = {}
        self.started: list[StartedReport] = []
        self.results: list[ResultReport] = []
        self.leases: list[float] = []
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def events(self) -> list[AgentEvent]:
        return [self.lines[seq].event for seq in sorted(self.lines)]

    @property
    def acked(self) -> int:
        seq = 0
        while seq + 1 in self.lines:
            seq += 1
        return seq

    async def open(self) -> None:
        """Begin to listen; what was heard before is still known."""
        self.socket.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(self.socket))
        config = uvicorn.Config(self._app(), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        await self._server.listens.wait()

    async def close(self) -> None:
        """Stop to listen, as if the executor had died."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            await self._serving
        self._server = self._serving = None
        self.socket.unlink(missing_ok=True)

    def _app(self) -> Starlette:
        routes = [
            Route("/v1/lease", self._lease, methods=["POST"]),
            Route("/v1/started", self._started, methods=["POST"]),
            Route("/v1/events", self._events, methods=["POST"]),
            Route("/v1/blobs/{digest}", self._blob, methods=["PUT"]),
            Route("/v1/result", self._result, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def _refusal(self, request: Request) -> Response | None:
        await self.answering.wait()
        if self.answer_with is not None:
            return JSONResponse({"error": "as the test wants it"}, self.answer_with)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"error": "the token is not valid"}, 401)
        if int(request.headers[FENCE_HEADER]) < self.fence:
            return JSONResponse({"error": "a newer attempt exists"}, 409)
        return None

    async def _lease(self, request: Request) -> Response:
        if refusal := await self._refusal(request):
            return refusal
        self.leases.append(monotonic())
        return _json(LeaseGranted(lease_seconds=self.lease_seconds, stop=self.stop_ask))

    async def _started(self, request: Request) -> Response:
        if refusal := await self._refusal(request):
            return refusal
        self.started.append(StartedReport.model_validate_json(await request.body()))
        return JSONResponse({})

    async def _events(self, request: Request) -> Response:
        if refusal := await self._refusal(request):
            return refusal
        for raw in (await request.body()).splitlines():
            line = EventLine.model_validate_json(raw)
            self.lines.setdefault(line.seq, line)
        return _json(EventsTaken(acked_seq=self.acked, stop=self.stop_ask))

    async def _blob(self, request: Request) -> Response:
        if refusal := await self._refusal(request):
            return refusal
        raw, digest = await request.body(), request.path_params["digest"]
        if hashlib.sha256(raw).hexdigest() != digest:
            return JSONResponse({"error": "the digest does not fit"}, 422)
        self.blobs[digest] = raw
        return JSONResponse({"digest": digest, "size": len(raw)})

    async def _result(self, request: Request) -> Response:
        if refusal := await self._refusal(request):
            return refusal
        self.results.append(ResultReport.model_validate_json(await request.body()))
        return JSONResponse({})


def _json(value: LeaseGranted | EventsTaken) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")


@asynccontextmanager
async def gateway_stand_in() -> AsyncGenerator[GatewayStandIn]:
    """A listening gateway in a folder whose name is short enough for a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    gateway = GatewayStandIn(folder)
    try:
        await gateway.open()
        yield gateway
    finally:
        await gateway.close()
        shutil.rmtree(folder, ignore_errors=True)
