"""Wires the console: its API, its event streams, its pages."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.routing import BaseRoute

from dispatch_common import secrets, service
from dispatch_common.events import ApprovalAnswered, CancelAsked, ResourceApplied
from dispatch_common.health import ROUTES
from dispatch_common.settings import Settings
from services.console import pages, problems
from services.console.api import catalog, events, runs, system, work
from services.console.desk import Desk, Isolation
from services.console.schemas_admin import LimitOut
from services.console.session import Sessions
from services.console.stream.viewers import Viewers

HEARS: Final = ()
SAYS: Final = (ApprovalAnswered, CancelAsked, ResourceApplied)
_STATIC: Final = Path(__file__).parent / "static"
_DESCRIPTION: Final = """
Everything the console shows and takes. Send a token as `Authorization: Bearer …`. Ids of runs, tasks and deliveries may
be shortened to a unique beginning. Every answer that is not a success has the shape of `ErrorAnswer`.
"""


async def unknown_isolation() -> list[LimitOut]:
    """Return that nothing told which isolation this host offers."""
    return []


def build() -> FastAPI:
    """Return the application; ``app.state.known`` is its Desk while it runs."""
    app = FastAPI(
        title="Agent Dispatch console",
        version="1",
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app, pages.problem_page)
    app.add_exception_handler(pages.SignedOut, pages.to_sign_in)
    for router in (work.router, runs.router, catalog.router, system.router, events.router):
        app.include_router(router)
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    health: list[BaseRoute] = list(ROUTES)
    app.router.routes.extend(health)
    app.add_middleware(pages.Headers)
    return app


@asynccontextmanager
async def serve(settings: Settings, *, isolation: Isolation = unknown_isolation) -> AsyncGenerator[service.Context]:
    """Run the console."""
    async with service.open(settings, "console") as ctx:
        known = Desk(
            ctx=ctx,
            settings=settings,
            kek=(kek := secrets.load_kek(settings.kek_file)),
            sessions=Sessions(kek, org=settings.org, secure=settings.public_url.startswith("https:")),
            viewers=Viewers(settings.console_viewers),
            isolation=isolation,
        )
        app = build()
        app.state.known = known
        async with service.http_server(app, host=settings.console_host, port=settings.console_port) as url:
            ctx.urls["console"] = url
            try:
                yield ctx
            finally:
                known.viewers.close()
