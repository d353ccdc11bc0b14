"""How an attempt's result becomes its answer: once, whoever brings it, and said with the transaction that stores it."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from agent_runner.protocol import Blob, Outcome, ResultReport
from dispatch_common import runlog, telemetry
from dispatch_common.blobs import Blobs
from dispatch_common.db import Db
from dispatch_common.families import ErrorFamily
from dispatch_common.values import BlobRef
from services.executor import facts, lease, outcome, store
from services.executor.attempt import Attempt, Change
from services.executor.gateway.redaction import Redactor
from services.executor.outcome import Record
from services.executor.store import Row

_RENAMED: Final = """
UPDATE attempts SET launch = jsonb_set(launch, '{renamed}',
    coalesce(launch -> 'renamed', '{}'::jsonb) || jsonb_build_object($2::text, $3::jsonb))
WHERE id = $1
"""
_BLOBS: Final = ("bundle", "manifest", "stdout", "stderr")


class Results:
    """Ends attempts. ``over`` is called after the commit with every attempt that has ended."""

    def __init__(self, db: Db, blobs: Blobs, *, over: Callable[[Attempt], None]) -> None:
        self._db = db
        self._blobs = blobs
        self._over = over

    async def keep(self, attempt_id: UUID, file: Path, token: str) -> BlobRef:
        """Store a file of an attempt. One that holds a secret is kept without it, and found by the name it had."""
        raw = await asyncio.to_thread(file.read_bytes)
        clean = await asyncio.to_thread(Redactor([token]).content, raw)
        kept = await self._blobs.put(clean)
        if clean is not raw:
            name = hashlib.sha256(raw).hexdigest()
            telemetry.log.warning("a file held a secret", attempt_id=str(attempt_id), kept=kept.digest)
            await self._db.execute(_RENAMED, attempt_id, name, kept.model_dump(mode="json"))
        return kept

    def missing(self, row: Row, report: ResultReport) -> list[str]:
        """Return which of the report's blobs are not stored."""
        report = _renamed(report, row)
        named: dict[str, Blob | None] = {name: getattr(report, name) for name in _BLOBS}
        return [
            name
            for name, blob in named.items()
            if blob is not None and not self._blobs.path(BlobRef(digest=blob.digest, size=blob.size)).exists()
        ]

    async def deliver(self, row: Row, report: ResultReport) -> Change:
        """Store how an attempt ended, as its supervisor reports it, unless it is over already."""
        spoke = _needs_words(report) and await self._spoke(row.attempt)
        digest = digest_of(report)
        async with self._db.transaction() as tx:
            (fresh,) = await store.lock(tx, [row.attempt.id])
            record = _record(fresh, spoke=spoke)
            change = lease.finished(
                fresh.attempt, fresh.attempt.fence, outcome.outcome(_renamed(report, fresh), record)
            )
            if not change.ignored:
                await self._store(tx, fresh, change)
                await store.note(tx, fresh.attempt.id, report=digest)
        return change

    async def end(self, attempt_id: UUID, how: Callable[[Attempt], Change]) -> Change | None:
        """End an attempt without a result. ``how`` decides on the attempt as it is, under its lock."""
        async with self._db.transaction() as tx:
            for row in await store.lock(tx, [attempt_id]):
                change = how(row.attempt)
                if not change.ignored:
                    await self._store(tx, row, change)
                return change
        return None

    async def fail(self, attempt_id: UUID, family: ErrorFamily, sentence: str) -> Change | None:
        """End an attempt that failed before anything of it lived."""
        return await self.end(attempt_id, lambda attempt: lease.lost(attempt, sentence, family))

    async def _store(self, tx: store.Tx, row: Row, change: Change) -> None:
        origin = facts.Origin(row.org, await tx.now(), traceparent=row.traceparent)
        await store.update(tx, [change.attempt])
        tx.say(*facts.about(change.attempt, change.says, origin))
        if not change.attempt.is_open:
            tx.afterwards(lambda: self._over(change.attempt))
            _log(change.attempt)

    async def _spoke(self, attempt: Attempt) -> bool:
        folder = runlog.folder(self._blobs.root.parent, attempt.run_id)
        path = folder / (runlog.stem(attempt.fence, attempt.id) + runlog.LIVE)
        return path.exists() and b'"kind":"text"' in path.read_bytes()


def digest_of(report: ResultReport) -> str:
    """Return what tells one report from another."""
    return hashlib.sha256(report.model_dump_json().encode()).hexdigest()


def _renamed(report: ResultReport, row: Row) -> ResultReport:
    """Return the report with the blobs that were kept in place of those that held a secret."""
    kept: dict[str, dict[str, Any]] = row.launch.get("renamed", {})
    changes: dict[str, Blob] = {}
    for name in _BLOBS:
        blob: Blob | None = getattr(report, name)
        if blob is not None and blob.digest in kept:
            changes[name] = Blob.model_validate(kept[blob.digest])
    return report.model_copy(update=changes) if changes else report


def _needs_words(report: ResultReport) -> bool:
    return report.outcome is Outcome.SUCCEEDED and report.commit is None and not report.summary.strip()


def _record(row: Row, *, spoke: bool) -> Record:
    cut = row.launch.get("cut")
    return Record(
        stop=row.attempt.stop,
        cut=ErrorFamily(cut["family"]) if cut else None,
        cut_sentence=cut.get("sentence", "") if cut else "",
        spoke=spoke,
    )


def _log(attempt: Attempt) -> None:
    answer = attempt.answer
    telemetry.log.info(
        "an attempt is over",
        run_id=str(attempt.run_id),
        attempt_id=str(attempt.id),
        outcome=answer.outcome if answer else None,
        family=answer.family if answer else None,
        sentence=answer.sentence if answer else "",
    )
