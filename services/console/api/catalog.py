"""Resources and secrets: what administrators say about who works on what."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from dispatch_common import secret_rows
from dispatch_common.resources import KINDS
from services.console import applying, problems, store
from services.console.api.work import At
from services.console.auth import Principal, admin, reader
from services.console.problems import Problem, conflict, not_found
from services.console.schemas import Page
from services.console.schemas_admin import AppliedOut, Apply, ApplyOut, ResourceOut, SecretIn, SecretOut

router: Final = APIRouter(prefix="/v1", tags=["catalog"], responses=problems.ANSWERS)
Admin = Annotated[Principal, Depends(admin)]
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@router.post("/resources")
async def apply(body: Apply, at: At, who: Admin) -> ApplyOut:
    """Check and store YAML resources, all or none. Every mistake is told with file, line, field and remedy."""
    files = [(file.name, file.text) for file in body.files]
    async with at.db.transaction() as tx:
        stored = await store.lock_resources(tx, at.org)
        changes = applying.plan(applying.parse(files, store.known(stored)), stored)
        if not body.dry_run:
            await store.put_resources(tx, at.org, changes, by=who.name)
    return ApplyOut(dry_run=body.dry_run, items=[_applied(change) for change in changes])


def _applied(change: applying.Change) -> AppliedOut:
    return AppliedOut(
        kind=change.kind,
        name=change.name,
        outcome=change.outcome,
        generation=change.generation,
        fields=list(change.fields),
    )


@router.get("/resources", dependencies=[Depends(reader)])
async def list_resources(at: At, kind: str | None = None) -> Page[ResourceOut]:
    """List resources by kind and name."""
    return Page(items=await store.list_resources(at.db, at.org, _kind(kind) if kind else None))


@router.get("/resources/{kind}/{name}", dependencies=[Depends(reader)])
async def get_resource(kind: str, name: str, at: At) -> ResourceOut:
    """Return one resource."""
    found = await store.list_resources(at.db, at.org, _kind(kind), name)
    if not found:
        raise not_found(_kind(kind), name, "'dispatch get resources' lists them.")
    return found[0]


@router.delete("/resources/{kind}/{name}")
async def delete_resource(
    kind: str, name: str, at: At, who: Admin, dry_run: Annotated[bool, Query()] = False
) -> AppliedOut:
    """Delete a resource that no other one names."""
    kind = _kind(kind)
    async with at.db.transaction() as tx:
        stored = await store.lock_resources(tx, at.org)
        row = stored.get((kind, name))
        if row is None or row.spec is None:
            raise not_found(kind, name, "'dispatch get resources' lists them.")
        if needing := applying.needed_by(kind, name, store.known(stored)):
            raise conflict(f"{kind} '{name}' is in use: {', '.join(needing[:5])}", "Change those first.")
        change = applying.Change(kind, name, "deleted", row.generation + 1, None)
        if not dry_run:
            await store.put_resources(tx, at.org, [change], by=who.name)
    return _applied(change)


def _kind(text: str) -> str:
    """Return the kind that a person means: Agent, agent, agents."""
    for name, cls in KINDS.items():
        if text.lower() in (name.lower(), cls.plural):
            return name
    raise Problem(
        422, "unknown_kind", f"'{text[:60]}' is not a kind.", field="kind", remedy=f"Kinds: {', '.join(KINDS)}."
    )


@router.get("/secrets", dependencies=[Depends(admin)])
async def list_secrets(at: At) -> Page[SecretOut]:
    """List the names of secrets. Values are never shown."""
    return Page(items=await store.list_secrets(at.db, at.org))


@router.put("/secrets/{name}", dependencies=[Depends(admin)])
async def set_secret(name: str, body: SecretIn, at: At) -> SecretOut:
    """Set or rotate a secret. The value before stays good until ``DELETE /v1/secrets/{name}/previous``."""
    if not _NAME.fullmatch(name):
        raise Problem(
            422,
            "invalid_name",
            f"'{name[:60]}' is not a name.",
            field="name",
            remedy="Use lower-case letters, digits and hyphens.",
        )
    if not body.value.get_secret_value():
        raise Problem(422, "invalid_input", "The value is empty.", field="value", remedy="Give a value, or remove it.")
    await secret_rows.put(at.db.pool, at.kek, org=at.org, name=name, value=body.value, keep_previous=body.keep_previous)
    return next(secret for secret in await store.list_secrets(at.db, at.org) if secret.name == name)


@router.delete("/secrets/{name}", status_code=204, dependencies=[Depends(admin)])
async def remove_secret(name: str, at: At) -> Response:
    """Forget a secret."""
    if not await store.remove_secret(at.db, at.org, name):
        raise not_found("secret", name, "'dispatch secret list' lists them.")
    return Response(status_code=204)


@router.delete("/secrets/{name}/previous", status_code=204, dependencies=[Depends(admin)])
async def forget_previous(name: str, at: At) -> Response:
    """End a rotation: the value before stops being good."""
    if not await store.forget_previous(at.db, at.org, name):
        raise not_found("secret", name, "'dispatch secret list' lists them.")
    return Response(status_code=204)
