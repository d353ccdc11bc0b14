"""Who may do what: tokens, roles, sessions of pages, and forms that were not ours."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from dispatch_common.db import Db
from dispatch_common.errors import InvalidInput
from services.console.auth import ensure_principal
from tests.support import builders
from tests.support.consoles import Api

APPLY = {"files": [{"name": "a.yaml", "text": ""}]}


@asynccontextmanager
async def signed_in(api: Api, role: str = "admin") -> AsyncGenerator[httpx.AsyncClient]:
    """A browser-like client with a session."""
    async with httpx.AsyncClient(base_url=api.url, follow_redirects=False) as client:
        answer = await client.post("/login", data={"token": await api.token(role)})
        assert answer.status_code == 303
        yield client


async def csrf_of(client: httpx.AsyncClient, path: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', (await client.get(path)).text)
    assert found
    return found[1]


async def test_without_a_token_nothing_is_told(api: Api, db: Db) -> None:
    await builders.a_run(db)
    async with httpx.AsyncClient(base_url=api.url) as client:
        nobody = await client.get("/v1/runs")
        wrong = await client.get("/v1/runs", headers={"Authorization": "Bearer wrong"})
        other = await client.get("/v1/runs", headers={"Authorization": "Basic YTpi"})

    assert [answer.status_code for answer in (nobody, wrong, other)] == [401, 401, 401]
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    assert "dispatch up" in nobody.json()["error"]["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [
        ("GET", "/v1/runs", None, {"viewer", "operator", "approver", "admin"}),
        ("POST", "/v1/runs/deadbeef/cancel", {}, {"operator", "admin"}),
        ("POST", "/v1/runs/deadbeef/approve", {}, {"approver", "admin"}),
        ("POST", "/v1/runs/deadbeef/deny", {}, {"approver", "admin"}),
        ("POST", "/v1/tasks", {"title": "x", "repository": "r", "role": "c"}, {"operator", "admin"}),
        ("POST", "/v1/pulls/sample/1/merge", None, {"operator", "admin"}),
        ("POST", "/v1/resources", APPLY, {"admin"}),
        ("DELETE", "/v1/resources/agent/vega", None, {"admin"}),
        ("GET", "/v1/secrets", None, {"admin"}),
        ("PUT", "/v1/secrets/x", {"value": "v"}, {"admin"}),
        ("DELETE", "/v1/secrets/x", None, {"admin"}),
    ],
)
async def test_each_role_may_do_its_part_and_no_more(
    api: Api, method: str, path: str, body: object, allowed: set[str]
) -> None:
    for role in ("viewer", "operator", "approver", "admin"):
        answer = await (await api.as_(role)).request(method, path, json=body)
        assert (answer.status_code != 403) == (role in allowed), (role, answer.text)
        if role not in allowed:
            assert answer.json()["error"]["code"] == "forbidden"


async def test_a_principal_keeps_its_token_and_its_file_is_private(db: Db, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "token"

    first = await ensure_principal(db, "admin", ["admin"], token_file=path)
    second = await ensure_principal(db, "admin", ["admin"], token_file=path)
    path.unlink()
    third = await ensure_principal(db, "admin", ["admin"], token_file=path)

    assert first == second != third
    assert path.stat().st_mode & 0o777 == 0o600
    stored = await db.fetchval("SELECT token_digest FROM principals WHERE name = 'admin'")
    assert third not in stored
    with pytest.raises(InvalidInput, match="not a role"):
        await ensure_principal(db, "x", ["root"], token_file=path)


async def test_a_session_reads_but_never_writes_over_the_api(api: Api, db: Db) -> None:
    run_id, _ = await builders.at_work(db)
    async with signed_in(api) as client:
        read = await client.get("/v1/runs")
        written = await client.post(f"/v1/runs/{run_id}/cancel", json={})

    assert read.status_code == 200
    assert written.status_code == 401


async def test_the_session_cookie_is_closed_to_scripts_and_other_sites(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.url) as client:
        answer = await client.post("/login", data={"token": await api.token()})

    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert await api.token() not in cookie


async def test_a_session_ends_when_the_token_is_changed_and_when_it_is_tampered_with(api: Api) -> None:
    async with signed_in(api) as client:
        assert (await client.get("/")).status_code == 200
        api.token_file("admin").unlink()
        await api.token("admin")
        assert (await client.get("/")).status_code == 303
    async with signed_in(api) as client:
        value = client.cookies["dispatch_session"]
        client.cookies.set("dispatch_session", value[:-6] + ("AAAA==" if not value.endswith("AAAA==") else "BBBB=="))
        assert (await client.get("/v1/runs")).status_code == 401


async def test_a_form_without_our_token_or_from_another_site_does_nothing(api: Api, db: Db) -> None:
    run_id, _ = await builders.at_work(db)
    path = f"/runs/{run_id}/cancel"
    async with signed_in(api) as client:
        token = await csrf_of(client, f"/runs/{run_id}")
        bare = await client.post(path)
        wrong = await client.post(path, data={"csrf": "0" * 64})
        foreign = await client.post(path, data={"csrf": token}, headers={"Sec-Fetch-Site": "cross-site"})
        assert await db.fetchval("SELECT count(*) FROM outbox") == 0
        good = await client.post(path, data={"csrf": token}, headers={"Sec-Fetch-Site": "same-origin"})

    assert [answer.status_code for answer in (bare, wrong, foreign, good)] == [403, 403, 403, 303]
    assert await db.fetchval("SELECT count(*) FROM outbox") == 1


async def test_a_form_of_a_viewer_is_refused_on_the_server_too(api: Api, db: Db) -> None:
    run_id, _ = await builders.at_work(db)
    async with signed_in(api, "viewer") as client:
        token = await csrf_of(client, f"/runs/{run_id}")
        answer = await client.post(f"/runs/{run_id}/cancel", data={"csrf": token})

    assert answer.status_code == 403
    assert "operator" in answer.text


async def test_signing_out_ends_the_session_and_signing_in_leads_only_to_our_pages(api: Api) -> None:
    async with signed_in(api) as client:
        await client.post("/logout", data={"csrf": await csrf_of(client, "/")})
        assert (await client.get("/")).headers["location"] == "/login"
        for back in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"):
            answer = await client.post("/login", data={"token": await api.token(), "back": back})
            assert answer.headers["location"] == "/"


async def test_pages_carry_a_strict_policy_and_no_inline_script(api: Api, db: Db) -> None:
    run_id = await builders.a_run(db)
    async with signed_in(api) as client:
        for path in ("/", f"/runs/{run_id}", "/login"):
            page = await client.get(path)
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert page.headers["x-content-type-options"] == "nosniff"
            assert not re.search(r"<script(?![^>]*src=)|\son[a-z]+=|style=", page.text)


async def test_a_page_that_is_not_there_says_so_to_people(api: Api) -> None:
    async with signed_in(api) as client:
        answer = await client.get("/runs/deadbeef")

    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "There is no run" in answer.text
