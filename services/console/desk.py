"""What every request of the console works with: its service context, key, sessions and streams."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from dispatch_common.db import Db
from dispatch_common.secrets import Kek
from dispatch_common.service import Context
from dispatch_common.settings import Settings
from services.console.schemas_admin import LimitOut
from services.console.session import Sessions
from services.console.stream.viewers import Viewers

#: Tells which isolation and limits are real on this host; the executor knows.
Isolation = Callable[[], Awaitable[list[LimitOut]]]


@dataclass(frozen=True, slots=True)
class Desk:
    """One running console. Kept as ``app.state.known``."""

    ctx: Context
    settings: Settings
    kek: Kek
    sessions: Sessions
    viewers: Viewers
    isolation: Isolation

    @property
    def db(self) -> Db:
        return self.ctx.db

    @property
    def org(self) -> str:
        return self.settings.org


def desk(request: Request) -> Desk:
    """Return the desk: FastAPI's dependency."""
    known: Any = request.app.state.known
    assert isinstance(known, Desk)
    return known
