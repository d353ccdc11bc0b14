"""The run gateway, spoken to as a supervisor speaks: who is let in, what is kept, and what the broker gets of it."""

import hashlib
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import httpx
import orjson
import pytest
from nats.js.api import ConsumerConfig, DeliverPolicy

from agent_runner.note import read_note
from agent_runner.protocol import Blob, EventLine, Outcome, ResultReport, Text, headers
from dispatch_common import streams
from dispatch_common.blobs import Blobs
from dispatch_common.events import AttemptFinished, AttemptOutcome, AttemptRequested, AttemptStarted
from dispatch_common.runlog import Position, read_events
from dispatch_common.service import Context
from services.local import Nats
from tests.support.executing import NOON, Asker, a_request, a_stop, script
from tests.support.waiting import eventually


@dataclass(slots=True)
class Attempt:
    """A running attempt, and a voice that speaks for it beside its real supervisor."""

    asked: AttemptRequested
    token: str
    http: httpx.AsyncClient
    socket: Path

    async def post(self, path: str, body: Any = None, *, token: str | None = None, fence: int | None = None) -> Any:
        content = body if isinstance(body, bytes) else orjson.dumps(body or {})
        known = headers(self.token if token is None else token, self.asked.fence if fence is None else fence)
        return await self.http.post(path, content=content, headers=dict(known))

    def line(self, seq: int, text: str) -> bytes:
        line = EventLine(attempt=self.asked.attempt_id, seq=seq, at=NOON, event=Text(text=text))
        return line.model_dump_json().encode() + b"\n"


Starts = Callable[..., Awaitable[Attempt]]


@asynccontextmanager
async def speaking(ask: Asker, data: Path, asked: AttemptRequested) -> AsyncGenerator[Attempt]:
    """An attempt whose agent sleeps, so that nobody else says anything."""
    await ask.says(asked)
    await ask.until(asked, AttemptStarted)
    folder = data / "attempts" / str(asked.attempt_id)
    await eventually(lambda: len(list((data / "events").glob("*/*.ndjson"))) > 0)
    socket = next((data / "gateway").iterdir())
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        yield Attempt(asked, (folder / "token").read_text(), http, socket)
    await ask.says(a_stop(asked))
    await ask.until(asked, AttemptFinished)


@pytest.fixture
async def attempt(executor: Context, ask: Asker, data: Path) -> AsyncGenerator[Attempt]:
    async with speaking(ask, data, a_request(script("say here", "sleep 600"))) as spoken:
        # Its first words are in, so that the next seq is ours.
        await eventually(lambda: seqs(data, spoken.asked, 2))
        yield spoken


async def seqs(data: Path, of: AttemptRequested, least: int) -> list[int]:
    found = [event.at.seq for event in await read_events(data, of.run_id)]
    return found if len(found) >= least else []


async def test_a_socket_is_for_nobody_else(attempt: Attempt) -> None:
    assert stat.S_IMODE(attempt.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(attempt.socket.parent.stat().st_mode) == 0o700


async def test_only_the_own_token_and_the_newest_fence_are_heard(attempt: Attempt, ask: Asker) -> None:
    for path in ("/v1/lease", "/v1/started", "/v1/events", "/v1/result"):
        assert (await attempt.post(path, token="dar_wrong")).status_code == 401
        assert (await attempt.post(path, token=" dar_")).status_code == 401
        assert (await attempt.post(path, fence=7)).status_code == 409
    assert (await attempt.http.post("/v1/lease")).status_code == 401
    assert (
        await attempt.http.post("/v1/lease", headers={"authorization": f"Bearer {attempt.token}"})
    ).status_code == 400
    assert (await attempt.post("/v1/lease")).json()["lease_seconds"] == pytest.approx(12, abs=0.5)

    assert (await ask.row(attempt.asked))["launch"]["refused"] == {"token": 9, "fenced": 4}


async def test_the_token_is_kept_as_a_digest_and_found_in_no_row_or_log(
    attempt: Attempt, ask: Asker, data: Path
) -> None:
    row = await ask.row(attempt.asked)

    assert row["token_digest"] == hashlib.sha256(attempt.token.encode()).hexdigest()
    assert attempt.token not in str(dict(row))
    holders = [path for path in data.rglob("*") if path.is_file() and attempt.token.encode() in path.read_bytes()]
    assert [path.name for path in holders] == ["token"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600


async def test_what_is_said_twice_is_kept_once(attempt: Attempt, data: Path) -> None:
    seq = (await seqs(data, attempt.asked, 2))[-1]
    lines = [attempt.line(seq + 1, "one"), attempt.line(seq + 2, "two"), attempt.line(seq + 3, "three")]

    first = await attempt.post("/v1/events", b"".join(lines[:2]))
    again = await attempt.post("/v1/events", b"".join(lines))

    assert (first.json()["acked_seq"], again.json()["acked_seq"]) == (seq + 2, seq + 3)
    events = await read_events(data, attempt.asked.run_id, Position(1, seq))
    assert [event.event["event"]["text"] for event in events] == ["one", "two", "three"]


async def test_the_broker_gets_every_event_once_under_its_own_id(
    attempt: Attempt, executor: Context, data: Path
) -> None:
    seq = (await seqs(data, attempt.asked, 2))[-1]
    for number in (1, 2, 3):
        await attempt.post("/v1/events", attempt.line(seq + number, f"word {number}"))

    logged = await seqs(data, attempt.asked, seq + 3)
    await eventually(lambda: in_stream(executor, attempt.asked, len(logged)))

    messages = await in_stream(executor, attempt.asked, len(logged))
    assert [orjson.loads(message.data)["seq"] for message in messages] == logged
    assert [message.headers["Nats-Msg-Id"] for message in messages] == [
        f"{attempt.asked.attempt_id}.{each}" for each in logged
    ]


async def test_events_that_come_while_the_broker_is_away_are_kept_and_published_later(
    attempt: Attempt, executor: Context, data: Path, nats: Nats
) -> None:
    seq = (await seqs(data, attempt.asked, 2))[-1]
    nats.kill()
    taken = await attempt.post("/v1/events", attempt.line(seq + 1, "said in the dark"))
    logged = await seqs(data, attempt.asked, seq + 1)
    await nats.restart()

    assert taken.json()["acked_seq"] == seq + 1
    messages = await eventually(lambda: in_stream(executor, attempt.asked, len(logged)), within=timedelta(seconds=20))
    assert isinstance(messages, list)
    assert b"said in the dark" in messages[-1].data  # pyright: ignore[reportUnknownMemberType]


async def test_events_are_read_from_disk_when_the_broker_forgot_them(
    executor: Context, ask: Asker, data: Path, nats: Nats
) -> None:
    asked = a_request(script("say remember this"))
    await ask.says(asked)
    await ask.until(asked, AttemptFinished)
    await eventually(lambda: [path.suffix for path in (data / "events").glob("*/*")] == [".archived"])
    nats.kill()
    rmtree(nats.data / "jetstream", ignore_errors=True)

    events = await read_events(data, asked.run_id)
    some = await read_events(data, asked.run_id, events[0].at, limit=1)

    assert "remember this" in [event.event["event"].get("text") for event in events]
    assert some == events[1:2]
    assert (await ask.row(asked))["launch"]["archive"]["size"] > 0
    await nats.restart()


async def test_a_secret_that_an_agent_shows_is_not_kept(attempt: Attempt, data: Path) -> None:
    seq = (await seqs(data, attempt.asked, 2))[-1]
    half = len(attempt.token) // 2

    await attempt.post("/v1/events", attempt.line(seq + 1, f"whole: {attempt.token}."))
    await attempt.post("/v1/events", attempt.line(seq + 2, f"in two: {attempt.token[:half]}"))
    await attempt.post("/v1/events", attempt.line(seq + 3, f"{attempt.token[half:]}."))

    events = await read_events(data, attempt.asked.run_id, Position(1, seq))
    said = "".join(event.event["event"]["text"] for event in events)
    assert said == "whole: [redacted].in two: [redacted]."


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no event\n", 422),
        (b'{"attempt": "00000000-0000-0000-0000-000000000000", "seq": 1, "at": "2026-11-21T12:00:00Z"}\n', 422),
        (b" " * (8 << 20) + b"  ", 413),
        (b'"' + b"x" * (1 << 20) + b'"\n', 413),
        (b"\xff\xfe\n", 422),
        (b"[" * 5000 + b"\n", 422),
    ],
    ids=["not an event", "another attempt's", "too much", "too long", "not UTF-8", "too deep"],
)
async def test_what_is_no_event_is_refused_with_a_sentence(attempt: Attempt, body: bytes, status: int) -> None:
    answer = await attempt.post("/v1/events", body)

    assert answer.status_code == status
    assert answer.json()["error"]


async def test_an_event_of_a_kind_that_is_not_known_yet_keeps_its_place(attempt: Attempt, data: Path) -> None:
    seq = (await seqs(data, attempt.asked, 2))[-1]
    strange = orjson.loads(attempt.line(seq + 1, "")) | {"event": {"kind": "telepathy"}}

    answer = await attempt.post("/v1/events", orjson.dumps(strange) + b"\n" + attempt.line(seq + 2, "after"))

    assert answer.json()["acked_seq"] == seq + 2


async def test_a_blob_is_kept_under_its_own_digest_only(attempt: Attempt) -> None:
    known = dict(headers(attempt.token, 1))
    digest = hashlib.sha256(b"content").hexdigest()

    good = await attempt.http.put(f"/v1/blobs/{digest}", content=b"content", headers=known)
    twice = await attempt.http.put(f"/v1/blobs/{digest}", content=b"content", headers=known)
    wrong = await attempt.http.put(f"/v1/blobs/{digest}", content=b"other", headers=known)
    path = await attempt.http.put("/v1/blobs/..%2f..%2fetc", content=b"other", headers=known)

    assert (good.json(), twice.json()) == ({"digest": digest, "size": 7}, {"digest": digest, "size": 7})
    assert (wrong.status_code, path.status_code) == (422, 404)


async def test_a_file_that_holds_a_secret_is_kept_without_it(attempt: Attempt, ask: Asker, data: Path) -> None:
    raw = b"before " + attempt.token.encode() + b" after"
    digest = hashlib.sha256(raw).hexdigest()
    known = dict(headers(attempt.token, 1))

    put = await attempt.http.put(f"/v1/blobs/{digest}", content=raw, headers=known)
    stdout = Blob(digest=digest, size=len(raw))
    report = ResultReport(outcome=Outcome.SUCCEEDED, sentence="Done.", summary="s", stdout=stdout)
    done = await attempt.post("/v1/result", report.model_dump_json().encode())

    assert (put.status_code, put.json()["digest"], done.status_code) == (200, digest, 200)
    (finished,) = await ask.heard(attempt.asked, AttemptFinished)
    assert await Blobs(data / "blobs").get(finished.result.stdout) == b"before [redacted] after"
    stored = [path.read_bytes() for path in (data / "blobs").rglob("*") if path.is_file()]
    assert not [content for content in stored if attempt.token.encode() in content]


async def test_the_first_result_counts_and_may_be_repeated(attempt: Attempt, ask: Asker) -> None:
    report = ResultReport(outcome=Outcome.SUCCEEDED, sentence="Done.", summary="All done.")
    other = ResultReport(outcome=Outcome.FAILED, sentence="No.", family="unknown")
    incomplete = report.model_copy(update={"manifest": Blob(digest="0" * 64, size=1)})

    refused = await attempt.post("/v1/result", incomplete.model_dump_json().encode())
    answers = [await attempt.post("/v1/result", each.model_dump_json().encode()) for each in (report, report, other)]

    assert refused.status_code == 422
    assert "manifest" in refused.json()["error"]
    assert [answer.status_code for answer in answers] == [200, 200, 401]
    (finished,) = await ask.heard(attempt.asked, AttemptFinished)
    assert (finished.outcome, finished.sentence) == (AttemptOutcome.SUCCEEDED, "Done.")
    assert (await attempt.post("/v1/lease")).status_code == 401


async def test_a_supervisor_whose_attempt_is_over_leaves(attempt: Attempt, data: Path) -> None:
    note = read_note(data / "attempts" / str(attempt.asked.attempt_id))
    assert note is not None
    report = ResultReport(outcome=Outcome.FAILED, sentence="Somebody else said so.", family="unknown")

    await attempt.post("/v1/result", report.model_dump_json().encode())

    await eventually(lambda: not Path(f"/proc/{note.pid}").exists() or is_zombie(note.pid))


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


async def in_stream(executor: Context, of: AttemptRequested, least: int) -> list[Any]:
    """Every message of the run's subject, when there are at least so many."""
    subscription = await executor.js.subscribe(
        streams.agent_subject(of.run_id),
        stream=streams.AGENT,
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL),
    )
    messages: list[Any] = []
    try:
        while True:
            messages.append(await subscription.next_msg(timeout=0.3))
    except TimeoutError:
        return messages if len(messages) >= least else []
    finally:
        await subscription.unsubscribe()
