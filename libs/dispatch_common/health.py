"""Health of this process: /healthz (alive), /readyz (every condition holds, each named), /metrics."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

#: Returns None when the condition holds, a sentence when not; raising is not holding.
Check = Callable[[], Awaitable[str | None]]
_PATIENCE: Final = 2.0


class Health:
    """The conditions of readiness of all services in this process."""

    checks: ClassVar[dict[str, Check]] = {}

    @classmethod
    def add(cls, name: str, check: Check) -> None:
        cls.checks[name] = check

    @classmethod
    def remove(cls, name: str) -> None:
        cls.checks.pop(name, None)

    @classmethod
    async def report(cls) -> dict[str, str]:
        """Return the sentence of every condition that does not hold."""
        names = list(cls.checks)
        answers = await asyncio.gather(*(_ask(cls.checks[name]) for name in names))
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}


async def _ask(check: Check) -> str | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await check()
    except TimeoutError:
        return "no answer in time"
    except Exception as error:  # noqa: BLE001 - whatever a check raises is its answer
        return f"{type(error).__name__}: {error}"


async def healthz(_request: Request) -> Response:
    return PlainTextResponse("alive\n")


async def readyz(_request: Request) -> Response:
    wrong = await Health.report()
    return JSONResponse({"ready": not wrong, "not_ready": wrong}, status_code=503 if wrong else 200)


async def metrics(_request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


ROUTES: Final = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def app() -> Starlette:
    """Return the ASGI application of the operations port."""
    return Starlette(routes=list(ROUTES))
