"""The webhooks of the local Plane: signed, in Plane's own bytes, and as forgetful as the real ones.

Any answer, also 500, counts as delivered. Only a broken connection is tried again, with a new delivery id; after
``tries`` of them the webhook is switched off and later events are dropped.
"""

import asyncio
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import httpx

from dispatch_common import ids
from services.demo import plane_rows as rows
from services.demo.plane_rows import Row
from services.demo.plane_state import Change, PlaneState

_TIMEOUT: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt to deliver. ``status`` is None when nobody answered."""

    delivery: str
    event: str
    body: bytes
    signature: str
    status: int | None


@dataclass(slots=True)
class Webhook:
    """One registered receiver."""

    url: str
    secret: str = field(default_factory=lambda: f"plane_wh_{ids.fresh().hex}")
    id: str = field(default_factory=lambda: str(ids.fresh()))
    active: bool = True
    tries: int = 6
    pause: timedelta = timedelta(milliseconds=200)
    sent: list[Sent] = field(default_factory=list[Sent])


def sign(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def payload(state: PlaneState, change: Change, webhook_id: str) -> bytes | None:
    """Return the body of the delivery, or None when the object is gone by now. Python's JSON defaults are Plane's."""
    data = _data(state, change)
    if data is None:
        return None
    activity: Row = {
        "field": change.field, "new_value": change.new, "old_value": change.old,
        "actor": rows.user_lite(state.users[change.actor]), "old_identifier": None, "new_identifier": None,
    }  # fmt: skip
    body: dict[str, Any] = {
        "event": change.event, "action": change.action, "webhook_id": webhook_id, "workspace_id": state.workspace,
        "data": data, "activity": activity,
    }  # fmt: skip
    return json.dumps(body).encode()


def _data(state: PlaneState, change: Change) -> Row | None:
    match change.event:
        case "issue":
            row = state.items.get(change.object_id)
            if row is None:
                return None
            return rows.item_event(
                row,
                labels=[state.labels[each] for each in row["labels"]],
                assignees=[state.users[each] for each in row["assignees"]],
                state_row=state.states[row["state"]],
            )
        case "issue_comment":
            return state.comments.get(change.object_id)
        case _:
            return state.projects.get(change.object_id)


@dataclass
class Hooks:
    """Sends every change to every active webhook, in order, one worker per webhook."""

    state: PlaneState
    hooks: list[Webhook] = field(default_factory=list[Webhook])
    _queues: dict[str, asyncio.Queue[Change]] = field(default_factory=dict[str, "asyncio.Queue[Change]"])
    _workers: list[asyncio.Task[None]] = field(default_factory=list["asyncio.Task[None]"])

    def add(self, webhook: Webhook) -> Webhook:
        self.hooks.append(webhook)
        queue = self._queues[webhook.id] = asyncio.Queue()
        self._workers.append(asyncio.create_task(self._work(webhook, queue), name=f"webhook {webhook.url}"))
        return webhook

    def tell(self, change: Change) -> None:
        for webhook in self.hooks:
            if webhook.active:
                self._queues[webhook.id].put_nowait(change)

    async def idle(self) -> None:
        """Wait until everything that happened has been sent."""
        for queue in self._queues.values():
            await queue.join()

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self, webhook: Webhook, queue: asyncio.Queue[Change]) -> None:
        async with httpx.AsyncClient(
            timeout=_TIMEOUT.total_seconds(), follow_redirects=True, trust_env=False
        ) as client:
            while True:
                change = await queue.get()
                body = payload(self.state, change, webhook.id) if webhook.active else None
                if body is not None:
                    await self._deliver(client, webhook, change.event, body)
                queue.task_done()

    async def _deliver(self, client: httpx.AsyncClient, webhook: Webhook, event: str, body: bytes) -> None:
        for attempt in range(webhook.tries):
            if attempt:
                await asyncio.sleep(webhook.pause.total_seconds())
            if await send(client, webhook, event, body) is not None:
                return
        webhook.active = False


async def send(client: httpx.AsyncClient, webhook: Webhook, event: str, body: bytes) -> int | None:
    """Send one delivery and note it; None when the connection failed."""
    delivery, signature = str(ids.fresh()), sign(webhook.secret, body)
    headers = {
        "User-Agent": "Autopilot", "Content-Type": "application/json", "X-Plane-Delivery": delivery,
        "X-Plane-Event": event, "X-Plane-Signature": signature,
    }  # fmt: skip
    try:
        answer = await client.post(webhook.url, content=body, headers=headers)
        status: int | None = answer.status_code
    except httpx.HTTPError:
        status = None
    webhook.sent.append(Sent(delivery, event, body, signature, status))
    return status
