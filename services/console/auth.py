"""Who is asking: bearer tokens of principals, and the roles that each action wants.

Tokens are stored as digests only. A page's session is in ``session``; both end in a Principal.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from fastapi import Request

from dispatch_common import ids, secrets
from dispatch_common.db import Db
from dispatch_common.errors import InvalidInput
from dispatch_common.values import Actor
from services.console.problems import Problem


class Role(StrEnum):
    """What a principal may do. ``admin`` may do everything."""

    VIEWER = "viewer"  #: read
    OPERATOR = "operator"  #: start and cancel work, merge pulls
    APPROVER = "approver"  #: answer approvals
    ADMIN = "admin"  #: apply resources, set secrets


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved a token."""

    org: str
    name: str
    roles: frozenset[str]
    token_digest: str = ""

    @property
    def actor(self) -> Actor:
        """Return the principal as facts name it."""
        return Actor(id=f"principal:{self.name}", name=self.name)

    def may(self, role: Role) -> bool:
        """Tell whether the roles allow what ``role`` allows; everybody who is known may read."""
        return role is Role.VIEWER or not self.roles.isdisjoint({role.value, Role.ADMIN.value})


_FIND: Final = "SELECT org, name, roles, token_digest FROM principals WHERE token_digest = $1"
_STORE: Final = """
INSERT INTO principals (org, name, roles, token_digest) VALUES ($1, $2, $3, $4)
ON CONFLICT (org, name) DO UPDATE SET roles = excluded.roles, token_digest = excluded.token_digest
"""
_UNKNOWN: Final = "Give a token: 'Authorization: Bearer …'. 'dispatch up' wrote one into its data folder."


def of(row: Any) -> Principal:
    """Return the principal in a row."""
    return Principal(row["org"], row["name"], frozenset(row["roles"]), row["token_digest"])


async def by_token(db: Db, token: str) -> Principal | None:
    """Return who holds a token. The digest is looked up, so no comparison leaks the token."""
    row = await db.fetchrow(_FIND, secrets.digest_of(token))
    return None if row is None else of(row)


def bearer(request: Request) -> str | None:
    """Return the bearer token of a request."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


Authenticate = Callable[[Request], Awaitable[Principal]]


def wants(role: Role, *, session: bool = False) -> Authenticate:
    """Return the FastAPI dependency for a role. With ``session`` a page's cookie counts too: only for reading."""

    async def authenticate(request: Request) -> Principal:
        token = bearer(request)
        known = request.app.state.known
        if token is not None:
            principal = await by_token(known.db, token)
        elif session:
            principal = await known.sessions.principal(known.db, request)
        else:
            principal = None
        if principal is None or principal.org != known.settings.org:
            what = "The token is not known." if token else "No token was given."
            raise Problem(401, "unauthenticated", what, field="Authorization", remedy=_UNKNOWN)
        if not principal.may(role):
            raise Problem(
                403,
                "forbidden",
                f"'{principal.name}' lacks the role '{role}'.",
                remedy=f"Ask an administrator for a token with the role '{role}'.",
            )
        return principal

    return authenticate


reader: Final = wants(Role.VIEWER, session=True)
operator: Final = wants(Role.OPERATOR)
approver: Final = wants(Role.APPROVER)
admin: Final = wants(Role.ADMIN)


async def ensure_principal(db: Db, name: str, roles: Sequence[str], *, token_file: Path, org: str = "default") -> str:
    """Return the token of a principal, kept in ``token_file`` (mode 0600); a lost file gets a new token."""
    unknown = set(roles) - {role.value for role in Role}
    if unknown:
        raise InvalidInput(
            f"'{min(unknown)}' is not a role.", field="roles", remedy=f"Use {', '.join(role.value for role in Role)}."
        )
    token = _kept(token_file)
    if token is None:
        token = secrets.new_token("dsp")
        _keep(token_file, token)
    await db.execute(_STORE, org, name, sorted(set(roles)), secrets.digest_of(token))
    return token


def _kept(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None


def _keep(path: Path, token: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{ids.fresh().hex}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, f"{token}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    aside.replace(path)
