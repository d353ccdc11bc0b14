"""A page's session: a sealed cookie, so that no table and no memory holds it. Only pages and reading accept it.

The cookie is HttpOnly and SameSite=Strict. Forms carry a second token of the session, against forged requests. It
ends with its time, or at once when the principal's token is changed.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

import orjson
from fastapi import Request
from fastapi.responses import Response

from dispatch_common import clock
from dispatch_common.db import Db
from dispatch_common.secrets import Kek, SecretUnreadable
from services.console.auth import Principal, of

COOKIE: Final = "dispatch_session"
LASTS: Final = timedelta(hours=12)
_PURPOSE: Final = "console-session"
_ROW: Final = "SELECT org, name, roles, token_digest FROM principals WHERE org = $1 AND name = $2"


@dataclass(frozen=True, slots=True)
class Session:
    """Who signed in on a page, with which token, until when."""

    org: str
    name: str
    token_digest: str
    until: datetime

    @property
    def csrf(self) -> str:
        """Return what a form of this session must carry."""
        return hmac.new(self.token_digest.encode(), f"form {self.until.isoformat()}".encode(), sha256).hexdigest()


class Sessions:
    """Seals and opens the cookies of one installation."""

    def __init__(self, kek: Kek, *, org: str, secure: bool) -> None:
        self._kek = kek
        self._org = org
        self._secure = secure

    def begin(self, response: Response, principal: Principal) -> None:
        """Set the cookie of a new session."""
        until = clock.now() + LASTS
        body = orjson.dumps({"name": principal.name, "token": principal.token_digest, "until": until})
        sealed = self._kek.seal(purpose=_PURPOSE, owner=self._org, plaintext=body)
        response.set_cookie(
            COOKIE,
            urlsafe_b64encode(sealed).decode(),
            max_age=int(LASTS.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=self._secure,
            path="/",
        )

    def end(self, response: Response) -> None:
        """Remove the cookie."""
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=self._secure)

    def of(self, request: Request) -> Session | None:
        """Return the session of a request, None when it has none that is good."""
        try:
            sealed = urlsafe_b64decode(request.cookies.get(COOKIE, ""))
            body = orjson.loads(self._kek.open(purpose=_PURPOSE, owner=self._org, sealed=sealed))
        except (NotBase64, SecretUnreadable, ValueError):
            return None
        session = Session(self._org, body["name"], body["token"], datetime.fromisoformat(body["until"]))
        return session if session.until > clock.now() else None

    async def principal(self, db: Db, request: Request) -> Principal | None:
        """Return who is signed in, by the principal's present roles."""
        session = self.of(request)
        if session is None:
            return None
        row = await db.fetchrow(_ROW, session.org, session.name)
        if row is None or not hmac.compare_digest(row["token_digest"], session.token_digest):
            return None
        return of(row)


def forged(request: Request, session: Session, token: str) -> bool:
    """Tell whether a form was not sent by a page of ours."""
    if not hmac.compare_digest(session.csrf, token):
        return True
    # Browsers say where a request comes from; one from elsewhere is refused even with a good token.
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
