"""What is wrong with a request: a clear answer to the sender, and a row that says why."""

import asyncio
import json

import httpx
import pytest

from tests.support.plane_fixtures import delivery
from tests.support.receiver import SECRET, TOKEN, World, set_secret
from tests.support.waiting import eventually

BODY = json.dumps({"event": "issue", "action": "updated", "data": {"id": "i-1"}, "activity": {}}).encode()
HEAD = (
    "POST /webhooks/plane/plane HTTP/1.1\r\nHost: x\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)
DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000


async def rejected(world: World, answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["remedy"]
    row = (await world.refusals())[-1]
    assert (row["code"], row["sentence"]) == (code, error["message"])
    assert await world.db.fetchval("SELECT count(*) FROM deliveries") == 0


async def test_unsigned(world: World):
    await rejected(world, await world.post(BODY, secret=None), 401, "unsigned")


async def test_signed_with_another_secret(world: World):
    await rejected(world, await world.post(BODY, secret="plane_wh_other"), 401, "wrong_signature")


async def test_changed_on_the_way(world: World):
    answer = await world.post(BODY, headers={"X-Plane-Signature": "0" * 64})

    await rejected(world, answer, 401, "wrong_signature")


async def test_cut_short_with_the_signature_of_the_whole(world: World):
    recorded = delivery("04a")
    await set_secret(world.db, world.settings, "plane-webhook", recorded.secret)

    answer = await world.post(
        recorded.body[:-100], headers={"X-Plane-Signature": recorded.headers["X-Plane-Signature"]}
    )

    await rejected(world, answer, 401, "wrong_signature")


async def test_the_sender_goes_away_in_the_middle(world: World):
    url = world.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(HEAD.format(length=500).encode() + BODY)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    reader.feed_eof()

    (row,) = await world.refusals()
    assert row["code"] == "truncated"


async def test_announced_as_too_large_is_refused_before_it_is_read(world: World):
    url = world.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(HEAD.format(length=26 * 1024 * 1024).encode())
    await writer.drain()

    assert b"413" in await reader.readline()
    writer.close()
    (row,) = await world.refusals()
    assert (row["code"], row["size"]) == ("too_large", 26 * 1024 * 1024)


async def test_too_large_without_saying_so(world: World):
    async def endless():
        for _ in range(27):
            yield b"[" * 1024 * 1024

    headers = {"Content-Type": "application/json", "X-Plane-Signature": "0" * 64}
    answer = await world.http.post("/webhooks/plane/plane", content=endless(), headers=headers)

    await rejected(world, answer, 413, "too_large")


async def test_a_large_body_below_the_bound_is_taken(world: World):
    body = json.dumps({"event": "issue", "action": "updated", "data": {"id": "i", "name": "x" * 24_000_000}}).encode()

    assert (await world.post(body)).status_code == 202


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
async def test_another_content_type(world: World, kind: str):
    await rejected(world, await world.post(BODY, headers={"Content-Type": kind}), 415, "wrong_content_type")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a": "\xff"}', "invalid_utf8"),
        (DEEP, "too_deep"),
        (b"{", "invalid_json"),
        (b"[]", "not_an_object"),
        (b'{"event": "issue", "event": "x"}', "ambiguous_json"),
        (b"", "invalid_json"),
    ],
    ids=["utf8", "deep", "syntax", "array", "twice", "empty"],
)
async def test_signed_but_unusable(world: World, body: bytes, code: str):
    await rejected(world, await world.post(body), 400, code)


async def test_an_unknown_source(world: World):
    await rejected(world, await world.post(BODY, source="nobody"), 404, "unknown_source")
    assert (await world.post(BODY, source="a/../b")).status_code == 404
    assert (await world.post(BODY, source="x" * 5000)).status_code == 404
    assert (await world.post(BODY, source="%00")).status_code == 404


async def test_a_redirect_on_the_way_made_it_a_get(world: World):
    recorded = delivery("84")
    kept = {name: value for name, value in recorded.headers.items() if name.startswith("X-")}

    answer = await world.http.get("/webhooks/plane/plane", headers=kept)

    await rejected(world, answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_a_replay_is_answered_and_does_nothing_again(world: World):
    first, again = await world.post(BODY), await world.post(BODY, headers={"X-Plane-Delivery": "d-2"})

    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    assert again.json()["delivery"] == first.json()["delivery"]
    (row,) = await world.refusals()
    assert row["code"] == "duplicate"
    assert first.json()["delivery"] in row["sentence"]


async def test_an_unknown_event_is_kept_and_ignored_with_a_reason(world: World):
    body = json.dumps(
        {"event": "galaxy", "action": "exploded", "data": {"id": "i\x00"}, "activity": {"actor": None}}
    ).encode()

    row = await world.settled((await world.post(body)).json()["delivery"])

    assert (row["state"], row["outcome"]) == ("decided", "ignored")
    assert "galaxy.exploded" in row["sentence"]
    assert not any("users/me" in call for call in world.plane.calls)


async def test_a_flood_of_strangers_fills_nothing(world: World):
    answers = await asyncio.gather(*(world.post(BODY, source=f"s{number}") for number in range(300)))

    assert {answer.status_code for answer in answers} == {404}
    await eventually(lambda: world.db.fetchval("SELECT count(*) >= 90 FROM refused_deliveries"))
    assert await world.db.fetchval("SELECT count(*) FROM refused_deliveries") <= 120


async def test_both_live_secrets_count_and_a_third_one_no_more(world: World):
    await set_secret(world.db, world.settings, "plane-webhook", "plane_wh_new")

    async def taken() -> bool:
        return (await world.post(json.dumps({"n": 1}).encode(), secret="plane_wh_new")).status_code == 202

    await eventually(taken)
    assert (await world.post(json.dumps({"n": 2}).encode(), secret=SECRET)).status_code == 202

    await set_secret(world.db, world.settings, "plane-webhook", "plane_wh_newest")

    async def refused() -> bool:
        answer = await world.post(json.dumps({"n": 3}).encode(), secret=SECRET)
        return answer.status_code == 401

    await eventually(refused)


NEW = {"title": "Fix it", "role": "coder", "repository": "app"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**NEW, "title": ""}, "title"),
        ({**NEW, "role": "wizard"}, "role"),
        ({**NEW, "role": "--upload-pack=touch /tmp/x"}, "role"),
        ({**NEW, "repository": "nowhere"}, "repository"),
        ({**NEW, "repository": "--upload-pack=touch /tmp/x"}, "repository"),
        ({**NEW, "agent": "lyra"}, "agent"),
        ({**NEW, "priority": "now"}, "priority"),
        ({**NEW, "branch": "main"}, "branch"),
        ({"title": "x"}, "role"),
        ([], "body"),
    ],
    ids=str,
)
async def test_a_task_that_cannot_be_names_the_field_and_the_remedy(world: World, body: object, field: str):
    answer = await world.http.post("/v1/tasks", json=body, headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["field"] == field
    assert error["message"]
    assert error["remedy"]
    assert (await world.refusals())[-1]["source"] == "api"


@pytest.mark.parametrize(("header", "status"), [(None, 401), ("Bearer wrong", 401), ("Basic x", 401), ("Bearer", 401)])
async def test_a_task_needs_a_token(world: World, header: str | None, status: int):
    headers = {"Authorization": header} if header else {}

    answer = await world.http.post("/v1/tasks", json=NEW, headers=headers)

    assert answer.status_code == status
    assert answer.json()["error"]["field"] == "Authorization"


async def test_a_task_too_large_is_refused(world: World):
    answer = await world.http.post(
        "/v1/tasks", json={**NEW, "body": "x" * 3_000_000}, headers={"Authorization": f"Bearer {TOKEN}"}
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


async def test_elsewhere_there_is_nothing(world: World):
    answer = await world.http.get("/admin")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "http")
