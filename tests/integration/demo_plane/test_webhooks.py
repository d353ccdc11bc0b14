"""The local Plane's webhooks are as the recorded ones: same bytes, same signature, as forgetful."""

import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dispatch_common.http import http_server
from services.demo.plane import LocalPlane, local_plane
from services.demo.plane_hooks import Webhook, sign
from services.demo.plane_state import ADMIN, GUEST
from tests.support.plane_fixtures import Recorded, deliveries, delivery


@dataclass
class Receiver:
    """What arrived, and what is answered."""

    status: int = 202
    bodies: list[bytes] = field(default_factory=list[bytes])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])


@asynccontextmanager
async def receiver() -> AsyncGenerator[tuple[str, Receiver]]:
    seen = Receiver()

    async def hook(request: Request) -> Response:
        seen.bodies.append(await request.body())
        seen.headers.append(dict(request.headers))
        return Response(status_code=seen.status)

    async with http_server(Starlette(routes=[Route("/hook", hook, methods=["POST"])])) as url:
        yield f"{url}/hook", seen


@pytest.fixture
async def plane() -> AsyncGenerator[LocalPlane]:
    async with local_plane() as plane:
        yield plane


@pytest.mark.parametrize("recorded", [each for each in deliveries() if each.body], ids=lambda each: each.name)
def test_the_signature_is_planes(recorded: Recorded):
    assert sign(recorded.secret, recorded.body) == recorded.headers["X-Plane-Signature"]


def test_the_bytes_are_planes():
    recorded = delivery("04a")

    assert json.dumps(json.loads(recorded.body)).encode() == recorded.body


async def test_one_patch_of_three_fields_is_three_deliveries(plane: LocalPlane):
    alice = plane.state.add_person("alice", ADMIN)
    project = plane.state.add_project({"name": "Demo", "identifier": "DISP"}, actor=alice.id)["id"]
    item = plane.state.create_item(project, {"name": "ünïcode ☕"}, actor=alice.id)["id"]
    async with receiver() as (url, seen):
        webhook = plane.add_webhook(url)
        changes = {"priority": "urgent", "name": "new ☕", "state": plane.state.state_named(project, "Done")}
        plane.state.patch_item(item, changes, actor=alice.id)
        plane.state.patch_item(item, changes, actor=alice.id)
        await plane.hooks.idle()

    bodies = [json.loads(body) for body in seen.bodies]
    assert [body["activity"]["field"] for body in bodies] == ["priority", "name", "state"]
    assert list(bodies[0]) == list(delivery("13a").data)
    assert list(bodies[0]["data"]) == list(delivery("13a").data["data"])
    assert bodies[0]["data"]["state"]["group"] == "completed"
    for body, headers in zip(seen.bodies, seen.headers, strict=True):
        expected = hmac.new(webhook.secret.encode(), body, hashlib.sha256).hexdigest()
        assert headers["x-plane-signature"] == expected
        assert b"\\u2615" in body


async def test_a_claimed_author_reaches_only_created_by(plane: LocalPlane):
    alice = plane.state.add_person("alice", ADMIN)
    guest = plane.state.add_person("guest", GUEST)
    project = plane.state.add_project({"name": "Demo", "identifier": "DISP"}, actor=alice.id)["id"]
    item = plane.state.create_item(project, {"name": "a"}, actor=alice.id)["id"]
    async with receiver() as (url, seen):
        plane.add_webhook(url)
        plane.state.add_comment(item, {"comment_html": "/agent", "created_by": alice.id}, actor=guest.id)
        await plane.hooks.idle()

    body = json.loads(seen.bodies[0])
    assert body["data"]["created_by"] == alice.id
    assert body["data"]["actor"] == body["activity"]["actor"]["id"] == guest.id


async def test_any_answer_counts_as_delivered(plane: LocalPlane):
    alice = plane.state.add_person("alice", ADMIN)
    async with receiver() as (url, seen):
        seen.status = 500
        webhook = plane.add_webhook(url)
        plane.state.add_project({"name": "Demo", "identifier": "DISP"}, actor=alice.id)
        await plane.hooks.idle()

    assert len(seen.bodies) == 1
    assert webhook.active


async def test_nobody_there_is_tried_again_under_new_ids_and_then_switched_off(plane: LocalPlane):
    alice = plane.state.add_person("alice", ADMIN)
    webhook = plane.hooks.add(Webhook("http://127.0.0.1:9/hook", tries=3, pause=timedelta(milliseconds=1)))
    plane.state.add_project({"name": "Demo", "identifier": "DISP"}, actor=alice.id)
    await plane.hooks.idle()

    assert len({each.delivery for each in webhook.sent}) == 3
    assert len({each.signature for each in webhook.sent}) == 1
    assert not webhook.active


async def test_deleting_tells_nobody(plane: LocalPlane):
    alice = plane.state.add_person("alice", ADMIN)
    project = plane.state.add_project({"name": "Demo", "identifier": "DISP"}, actor=alice.id)["id"]
    item = plane.state.create_item(project, {"name": "a"}, actor=alice.id)["id"]
    async with receiver() as (url, seen):
        plane.add_webhook(url)
        plane.state.delete_item(item)
        await plane.hooks.idle()

    assert seen.bodies == []
