"""The system's own view of itself: what is stuck, what was put aside, how far facts lag, what is away."""

from typing import Final

from nats.errors import Error as NatsError

from dispatch_common import streams
from dispatch_common.db import AWAY
from dispatch_common.errors import Transient
from dispatch_common.health import Health
from services.console.desk import Desk
from services.console.schemas_admin import DeadLetterOut, Doctor, Finding, LimitOut, OutboxLag, StreamState

_LAG: Final = """
SELECT service, count(*) AS waiting, extract(epoch FROM clock_timestamp() - min(at))::float8 AS oldest_seconds
FROM outbox WHERE published_at IS NULL GROUP BY service ORDER BY service
"""
_DEAD: Final = "SELECT id::text, service, subject, reason, deliveries, at FROM dead_letters ORDER BY at DESC LIMIT 50"
_STATES: Final = "SELECT state, count(*) AS runs FROM runs WHERE org = $1 AND live GROUP BY state"
_STUCK: Final = """
SELECT r.id, r.state, extract(epoch FROM clock_timestamp() - r.next_check)::float8 AS late
FROM runs r WHERE r.org = $1 AND r.live AND r.next_check < clock_timestamp() - interval '5 minutes'
ORDER BY r.next_check LIMIT 20
"""
_SILENT: Final = """
SELECT r.id, r.state FROM runs r WHERE r.org = $1 AND r.live AND r.next_check IS NULL AND r.state <> 'queued' LIMIT 20
"""
_LOST_SLOTS: Final = """
SELECT s.agent, s.number, a.run_id FROM agent_slots s JOIN attempts a ON a.id = s.attempt_id
JOIN runs r ON r.id = a.run_id WHERE s.org = $1 AND NOT r.live LIMIT 20
"""
_UNDECIDED: Final = """
SELECT count(*) FROM deliveries WHERE org = $1 AND state <> 'decided'
  AND received_at < clock_timestamp() - interval '5 minutes'
"""
_EFFECTS: Final = """
SELECT key, state, sentence FROM effects WHERE org = $1 AND state = 'unknown'
  AND created_at < clock_timestamp() - interval '5 minutes' LIMIT 20
"""
_LATE_SECONDS: Final = 30.0


async def doctor(at: Desk, isolation: list[LimitOut]) -> Doctor:
    """Return the report. It is made even when parts of the system are away: that is when it is read."""
    findings: list[Finding] = []
    database, lag, dead, runs = await _database(at, findings)
    broker, states = await _broker(at, findings)
    not_ready = await Health.report()
    findings += [
        Finding(
            level="problem", code="not_ready", sentence=f"{name}: {sentence}", remedy="See the log of that service."
        )
        for name, sentence in not_ready.items()
    ]
    return Doctor(
        healthy=not any(finding.level == "problem" for finding in findings),
        findings=findings,
        database=database,
        broker=broker,
        not_ready=not_ready,
        outbox=lag,
        streams=states,
        dead_letters=dead,
        runs=runs,
        isolation=isolation,
    )


async def _database(
    at: Desk, findings: list[Finding]
) -> tuple[str, list[OutboxLag], list[DeadLetterOut], dict[str, int]]:
    try:
        version = str(await at.db.fetchval("SHOW server_version"))
        lag = [OutboxLag.model_validate(dict(row)) for row in await at.db.fetch(_LAG)]
        dead = [DeadLetterOut.model_validate(dict(row)) for row in await at.db.fetch(_DEAD)]
        runs = {row["state"]: row["runs"] for row in await at.db.fetch(_STATES, at.org)}
        await _stuck(at, findings)
    except AWAY as error:
        findings.append(
            Finding(
                level="problem", code="database_away", sentence=f"PostgreSQL does not answer: {error}", remedy=_START
            )
        )
        return "away", [], [], {}
    findings += _of_lag(lag)
    if dead:
        findings.append(
            Finding(
                level="problem",
                code="dead_letters",
                sentence=f"{len(dead)} message(s) could not be taken; the last by {dead[0].service}: {dead[0].reason}",
                remedy="Read the reasons; what they were about is asked again by the sweeps.",
            )
        )
    return f"PostgreSQL {version}", lag, dead, runs


_START: Final = "Start it, or point DISPATCH_DATABASE_URL at one that runs."


def _of_lag(lag: list[OutboxLag]) -> list[Finding]:
    return [
        Finding(
            level="problem",
            code="outbox_lag",
            sentence=f"{each.waiting} fact(s) of {each.service} wait for the broker for {each.oldest_seconds:.0f} s.",
            remedy=f"Is {each.service} running, and the broker reachable?",
        )
        for each in lag
        if each.oldest_seconds > _LATE_SECONDS
    ]


async def _stuck(at: Desk, findings: list[Finding]) -> None:
    for row in await at.db.fetch(_STUCK, at.org):
        sentence = f"Run {row['id'].hex[:8]} ({row['state']}) should have been looked at {row['late']:.0f} s ago."
        findings.append(_problem("overdue_run", sentence, "Is the dispatcher running?"))
    for row in await at.db.fetch(_SILENT, at.org):
        sentence = f"Nothing will look after run {row['id'].hex[:8]} ({row['state']})."
        findings.append(_problem("unwatched_run", sentence, f"Cancel it: dispatch cancel {row['id'].hex[:8]}"))
    for row in await at.db.fetch(_LOST_SLOTS, at.org):
        sentence = f"Slot {row['number']} of {row['agent']} is held by run {row['run_id'].hex[:8]}, which has ended."
        findings.append(_problem("lost_slot", sentence, "Restart the dispatcher and report this."))
    findings.extend(
        _problem("unknown_effect", f"{row['key']}: {row['sentence']}", "Is the result-publisher running?")
        for row in await at.db.fetch(_EFFECTS, at.org)
    )
    if count := await at.db.fetchval(_UNDECIDED, at.org):
        sentence = f"{count} deliver{'y was' if count == 1 else 'ies were'} not decided for more than five minutes."
        findings.append(_problem("undecided_deliveries", sentence, "See: dispatch get deliveries"))


def _problem(code: str, sentence: str, remedy: str) -> Finding:
    return Finding(level="problem", code=code, sentence=sentence, remedy=remedy)


async def _broker(at: Desk, findings: list[Finding]) -> tuple[str, list[StreamState]]:
    states: list[StreamState] = []
    try:
        for name in (streams.FACTS, streams.AGENT):
            info = await at.ctx.js.stream_info(name)
            states.append(
                StreamState(
                    name=name,
                    messages=info.state.messages,
                    bytes=info.state.bytes,
                    last_seq=info.state.last_seq,
                    consumers=info.state.consumer_count,
                )
            )
        version = at.ctx.nc.connected_server_version
        return f"NATS {version.major}.{version.minor}.{version.patch}", states
    except (NatsError, TimeoutError, OSError, Transient) as error:
        remedy = "Start it, or point DISPATCH_NATS_URL at one that runs. No task is lost meanwhile."
        findings.append(_problem("broker_away", f"NATS does not answer: {error or type(error).__name__}", remedy))
        return "away", states
