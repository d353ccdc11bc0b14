"""Drives one publication: asks the plan for the next move and makes it, until it waits or is finished.

Every line may be the last one of a process: what is not recorded is found again by reading the outside.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import Counter

from dispatch_common import ids, telemetry
from dispatch_common.db import Db
from dispatch_common.errors import DispatchError
from dispatch_common.events import PublishOutcome, PublishRequested, ResultPublished, ResultVerified, Verification
from dispatch_common.families import ErrorFamily
from dispatch_common.values import Pull
from services.result_publisher import plan, store
from services.result_publisher.checks import Checks
from services.result_publisher.outside import Outside
from services.result_publisher.protocol import (
    PRODUCT,
    RULES,
    Answer,
    Effect,
    EffectState,
    Finish,
    Kind,
    Look,
    Record,
    Rules,
    Seen,
    Wait,
    Write,
    branch_name,
    key,
)
from services.result_publisher.record import Checked, Stored
from services.result_publisher.store import Name
from services.result_publisher.targets import Looked, Written

#: Shorter than ``Rules.in_flight``: when an intent is read back, its write has landed or is dead.
LONGEST: Final = timedelta(seconds=12)
_TOO_LONG: Final = f"no answer within {LONGEST.total_seconds():g} s"

_CHECKED: Final = Counter("dispatch_results_checked_total", "Results that were judged.", ["verification"])
_SETTLED: Final = Counter("dispatch_effects_settled_total", "Effects that came to an end.", ["kind", "state"])


def _nothing_happens(_moment: str) -> None:
    """Where a test may let the process die."""


def _never() -> bool:
    return False


@dataclass(slots=True)
class Session:
    """One worker at one publication."""

    db: Db
    name: Name
    checks: Checks
    outside: Outside
    rules: Rules = RULES
    stopping: Callable[[], bool] = field(default=_never)
    probe: Callable[[str], None] = field(default=_nothing_happens)

    async def go_on(self) -> tuple[timedelta, bool]:
        """Make every move that can be made now; return how long to wait then, and whether a stop was known."""
        async with AsyncExitStack() as open_things:
            while True:
                work = await store.load(self.db, self.name)
                if work.state == "finished" or self.stopping():
                    return timedelta(), work.stop
                if work.state == "asked":
                    await self._check(work)
                    continue
                until = await self._move(work, open_things)
                if until is not None:
                    return until - work.now, work.stop

    # --- checking ---

    async def _check(self, work: Stored) -> None:
        request = work.request
        wanted = await self.outside.wanted(request)
        if work.stop or not isinstance(request, PublishRequested) or request.result.commit is None:
            await store.put_verified(self.db, work, None, Checked(wanted=wanted), state="publishing")
            return
        with telemetry.span("check result", request.traceparent, run_id=str(work.run_id), revision=work.revision):
            verdict = await self.checks.check(request)
        judged = verdict.judgement
        accepted = judged.verification is Verification.ACCEPTED
        fact = ResultVerified(
            id=ids.derived("result-verified", work.run_id, work.revision),
            org=work.org,
            time=await store.now(self.db),
            cause=request.id,
            traceparent=request.traceparent,
            run_id=work.run_id,
            revision=work.revision,
            verification=judged.verification,
            reasons=judged.reasons,
            result_digest=judged.digest,
            paths=judged.paths,
        )
        _CHECKED.labels(judged.verification.value).inc()
        checked = Checked(wanted=wanted, files=verdict.files)
        await store.put_verified(self.db, work, fact, checked, state="publishing" if accepted else "finished")

    # --- moving ---

    async def _move(self, work: Stored, open_things: AsyncExitStack) -> datetime | None:
        move = plan.next_move(work.publication, work.now, self.rules)
        match move:
            case Wait(until):
                return until
            case Finish():
                await self._finish(work, move)
            case Record(effect):
                await self._record(work, effect)
            case Write():
                await self._write(work, move, open_things)
            case Look(kind):
                await self._look(work, kind, open_things)
        return None

    async def _look(self, work: Stored, kind: Kind, open_things: AsyncExitStack) -> None:
        looked = await self._seen(work, kind, open_things)
        follows = plan.after_look(
            work.publication,
            kind,
            looked.seen,
            await store.now(self.db),
            found=looked.found,
            why=looked.why,
            retry_after=looked.retry_after,
            rules=self.rules,
        )
        if isinstance(follows, Write):
            await self._write(work, follows, open_things)
        else:
            await self._record(work, follows.effect)

    async def _seen(self, work: Stored, kind: Kind, open_things: AsyncExitStack) -> Looked:
        try:
            target = await self.outside.target(work, kind, open_things)
            async with asyncio.timeout(LONGEST.total_seconds()):
                return await target.look(kind)
        except TimeoutError:
            return Looked(Seen.UNREADABLE, why=_TOO_LONG)
        except (DispatchError, OSError) as error:
            return Looked(Seen.UNREADABLE, why=str(error))

    async def _written(self, work: Stored, kind: Kind, open_things: AsyncExitStack) -> Written:
        begun = False
        try:
            target = await self.outside.target(work, kind, open_things)
            begun = True
            async with asyncio.timeout(LONGEST.total_seconds()):
                return await target.write(kind)
        except TimeoutError:
            return Written(Answer.UNKNOWN, why=_TOO_LONG)
        except (DispatchError, OSError) as error:
            return Written(Answer.UNKNOWN if begun else Answer.NOT_SENT, why=str(error))

    async def _write(self, work: Stored, move: Write, open_things: AsyncExitStack) -> None:
        effect = move.effect
        before = work.publication.effect(effect.kind)
        first = before is None or not before.begun
        if not await store.put_effect(self.db, work, effect, fresh_write=first):
            return
        self.probe(f"{effect.kind}: intended")
        with telemetry.span(
            f"write {effect.kind}", work.request.traceparent, effect=key(work.run_id, work.revision, effect.kind)
        ):
            written = await self._written(work, effect.kind, open_things)
        self.probe(f"{effect.kind}: written")
        recorded = plan.after_write(
            effect,
            written.answer,
            await store.now(self.db),
            found=written.found,
            why=written.why,
            retry_after=written.retry_after,
            rules=self.rules,
        )
        await self._record(work, recorded.effect)
        self.probe(f"{effect.kind}: recorded")

    async def _record(self, work: Stored, effect: Effect) -> None:
        recorded = await store.put_effect(self.db, work, effect)
        if recorded and effect.settled:
            _SETTLED.labels(effect.kind.value, effect.state.value).inc()
        if effect.state in (EffectState.UNKNOWN, EffectState.FAILED):
            where = {"run_id": str(work.run_id), "effect": effect.kind.value, "state": effect.state.value}
            telemetry.log.warning("an effect is not done", reason=effect.sentence, tries=effect.tries, **where)

    # --- ending ---

    async def _finish(self, work: Stored, finish: Finish) -> None:
        fact = None
        if isinstance(work.request, PublishRequested):
            failed = finish.outcome is PublishOutcome.FAILED
            fact = ResultPublished(
                id=ids.derived("result-published", work.run_id, work.revision),
                org=work.org,
                time=work.now,
                cause=work.request.id,
                traceparent=work.request.traceparent,
                run_id=work.run_id,
                revision=work.revision,
                outcome=finish.outcome,
                family=ErrorFamily.PUBLISH_FAILED if failed else None,
                sentence=f"{finish.sentence[:1].upper()}{finish.sentence[1:]}.",
                pull=_pull(work),
            )
        await store.put_finished(self.db, work, fact)


def _pull(work: Stored) -> Pull | None:
    done = {effect.kind: effect.found for effect in work.effects if effect.state is EffectState.DONE}
    branch, pull = (done.get(kind) for kind in PRODUCT)
    if branch is None:
        return None
    return Pull(
        branch=branch_name(work.run_id),
        commit=branch.ref,
        url=pull.url if pull else "",
        number=pull.number if pull else None,
    )
