"""What happens to attempts: requests, stops, leases, reports, and time. Total functions of values, no I/O. PURE.

The promise they keep together: an attempt is FINISHED only when nothing of it lives, at most one attempt of a run may
live, and whoever lost its lease or was overtaken by a newer fence is told so at its next word.

    ACCEPTED ─▶ LAUNCHING ─▶ RUNNING ─▶ COLLECTING ─▶ FINISHED      (any open state may go to FINISHED directly)
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from dispatch_common.events import AttemptOutcome, AttemptRequested, AttemptStopAsked
from dispatch_common.families import ErrorFamily
from services.executor.attempt import Answer, Attempt, Change, OpenQuestion, Refusal, Say, State, Terms
from services.executor.outcome import failed

_STARTED = (State.RUNNING, State.COLLECTING)


# --- what the dispatcher asks ---


def take(asked: AttemptRequested, known: Iterable[Attempt], *, executor: str) -> tuple[Change, ...]:
    """Accept a new attempt, or answer again. ``known``: the attempts of its run. Older ones are revoked by it.

    Nothing at all comes of a fence that is not the newest: nobody waits for it, and the newer row keeps it out.
    """
    of_run = [attempt for attempt in known if attempt.run_id == asked.run_id]
    for attempt in of_run:
        if attempt.id == asked.attempt_id:
            return (Change(attempt, _all_said(attempt), ignored="it is known"),)
    if any(max(attempt.fence, attempt.newest) >= asked.fence for attempt in of_run):
        return ()
    fresh = Attempt(
        id=asked.attempt_id,
        run_id=asked.run_id,
        fence=asked.fence,
        executor=executor,
        newest=asked.fence,
        deadline=asked.deadline,
    )
    return (Change(fresh, (Say.PREPARING,)), *_revoke(of_run, asked.fence))


def stop(asked: AttemptStopAsked, known: Iterable[Attempt]) -> tuple[Change, ...]:
    """Ask an attempt to end. One that was never launched, or never heard of, is over at once and can never start."""
    of_run = [attempt for attempt in known if attempt.run_id == asked.run_id]
    for attempt in of_run:
        if attempt.id == asked.attempt_id:
            return (_stop_known(attempt, asked.sentence),)
    if any(attempt.fence == asked.fence for attempt in of_run):
        return ()
    newest = max([asked.fence, *(attempt.newest for attempt in of_run)])
    tombstone = Attempt(id=asked.attempt_id, run_id=asked.run_id, fence=asked.fence, newest=newest, stop=asked.sentence)
    return (_end(tombstone, _stopped(asked.sentence)), *_revoke(of_run, asked.fence))


def _stop_known(attempt: Attempt, sentence: str) -> Change:
    if not attempt.is_open:
        return Change(attempt, (Say.FINISHED,), ignored="it is over")
    if attempt.state is State.ACCEPTED:
        return _end(attempt.but(stop=sentence), _stopped(sentence))
    if attempt.stop is not None:
        return Change(attempt, ignored="it is already asked to stop")
    return Change(attempt.but(stop=sentence))


def _revoke(of_run: Iterable[Attempt], newest: int) -> tuple[Change, ...]:
    changes: list[Change] = []
    for older in of_run:
        if older.fence >= newest or older.newest >= newest:
            continue
        told = older.but(newest=newest)
        changes.append(_end(told, _replaced()) if told.state is State.ACCEPTED else Change(told))
    return tuple(changes)


def _all_said(attempt: Attempt) -> tuple[Say, ...]:
    if not attempt.is_open:
        return (Say.FINISHED,)
    if attempt.state not in _STARTED:
        return (Say.PREPARING,)
    return (Say.PREPARING, Say.STARTED, *((Say.QUESTION,) if attempt.question else ()))


# --- what the executor does ---


def launch(attempt: Attempt, others: Iterable[Attempt], *, executor: str, now: datetime, terms: Terms) -> Change:
    """Let one executor launch it: LAUNCHING under that executor's hold, unless it is over before it began."""
    if attempt.state is not State.ACCEPTED:
        return Change(attempt, ignored=f"it is {attempt.state}")
    if attempt.is_revoked:
        return _end(attempt, _replaced())
    if attempt.deadline is not None and now >= attempt.deadline:
        return _end(attempt, _too_late())
    if any(other.run_id == attempt.run_id and other.id != attempt.id and other.is_open for other in others):
        return Change(attempt, ignored="an older attempt of its run still lives")
    until = _until(attempt, now, terms.hold)
    return Change(attempt.but(state=State.LAUNCHING, executor=executor, lease_until=until))


def hold(attempt: Attempt, *, executor: str, now: datetime, terms: Terms) -> Change:
    """Prolong the executor's hold while it prepares. Only whoever launches it can."""
    if attempt.state is not State.LAUNCHING or attempt.executor != executor:
        return Change(attempt, ignored="this executor does not launch it")
    return Change(attempt.but(lease_until=_later(attempt.lease_until, _until(attempt, now, terms.hold))))


def left(attempt: Attempt) -> Change:
    """The supervisor ended in order; the executor takes what it kept."""
    if attempt.state in (State.LAUNCHING, State.RUNNING):
        return Change(attempt.but(state=State.COLLECTING))
    return Change(attempt, ignored=f"it is {attempt.state}")


def lost(attempt: Attempt, sentence: str, family: ErrorFamily = ErrorFamily.WORKER_LOST) -> Change:
    """End an attempt of which provably nothing lives and of which no result will come."""
    if not attempt.is_open:
        return Change(attempt, ignored="it is over")
    if attempt.stop is not None:
        return _end(attempt, _stopped(attempt.stop))
    return _end(attempt, failed(family, sentence))


# --- what the supervisor says ---


def refusal(attempt: Attempt, fence: int, now: datetime) -> Refusal | None:
    """Return why a word of the supervisor does not count, or None when it does."""
    if attempt.is_revoked or fence != attempt.fence:
        return Refusal.FENCED
    if not attempt.is_open:
        return Refusal.REVOKED
    if attempt.deadline is not None and now >= attempt.deadline:
        return Refusal.REVOKED
    return None


def renew(attempt: Attempt, fence: int, *, now: datetime, terms: Terms) -> tuple[Change, timedelta | Refusal]:
    """Grant a lease from now on, never beyond the deadline. It must be stored before the supervisor hears of it."""
    refused = refusal(attempt, fence, now)
    if refused is not None:
        return Change(attempt, ignored=refused), refused
    if attempt.state not in (State.LAUNCHING, State.RUNNING):
        return Change(attempt, ignored=f"it is {attempt.state}"), Refusal.REVOKED
    until = _until(attempt, now, terms.lease)
    return Change(attempt.but(lease_until=_later(attempt.lease_until, until))), until - now


def started(attempt: Attempt, fence: int, *, now: datetime, base_commit: str | None = None) -> Change:
    """The agent's process is alive. Said once; a repetition changes nothing."""
    refused = refusal(attempt, fence, now)
    if refused is not None:
        return Change(attempt, ignored=refused)
    if attempt.state is not State.LAUNCHING:
        return Change(attempt, ignored=f"it is {attempt.state}")
    return Change(attempt.but(state=State.RUNNING, base_commit=base_commit), (Say.STARTED,))


def asked(attempt: Attempt, fence: int, question: OpenQuestion, *, now: datetime) -> Change:
    """The agent asks a person. Each question is said once."""
    refused = refusal(attempt, fence, now)
    if refused is not None:
        return Change(attempt, ignored=refused)
    if attempt.question is not None and attempt.question.id == question.id:
        return Change(attempt, ignored="it was asked before")
    return Change(attempt.but(question=question), (Say.QUESTION,))


def finished(attempt: Attempt, fence: int, answer: Answer) -> Change:
    """The result arrived, and nothing of the attempt lives. The first answer stays; a later one changes nothing.

    A result that comes after the deadline still counts as long as nobody ended the attempt.
    """
    if attempt.is_revoked or fence != attempt.fence:
        return Change(attempt, ignored=Refusal.FENCED)
    if not attempt.is_open:
        return Change(attempt, ignored="it is over")
    return _end(attempt, answer)


# --- what time does ---


def expired(attempt: Attempt, *, now: datetime, back_since: datetime, terms: Terms) -> Change:
    """End what nobody can be renewing any more.

    ``back_since``: since when leases could be renewed without a break (database, gateway and this sweep were all
    there); nothing expires before it had a full chance to renew since then.
    """
    if not attempt.is_open:
        return Change(attempt, ignored="it is over")
    if attempt.state is State.ACCEPTED:
        if attempt.deadline is None or now < attempt.deadline:
            return Change(attempt, ignored="nothing of it exists yet")
        return lost(attempt, _too_late().sentence, ErrorFamily.TIMEOUT)
    if now < expires_at(attempt, back_since=back_since, terms=terms):
        return Change(attempt, ignored="its lease may still be renewed")
    if attempt.deadline is not None and now >= attempt.deadline:
        return lost(attempt, "Its deadline passed before it reported a result.", ErrorFamily.TIMEOUT)
    return lost(attempt, f"Nothing was heard of it since its lease ended on {attempt.executor or 'its executor'}.")


def expires_at(attempt: Attempt, *, back_since: datetime, terms: Terms) -> datetime:
    """Return when nothing of a launched attempt can live any more, should nothing be heard of it until then."""
    until = attempt.lease_until or back_since
    if attempt.deadline is not None and until >= attempt.deadline:
        return attempt.deadline + terms.margin  # no lease was ever granted beyond it
    chance = back_since + terms.lease
    return max(until, chance) + terms.margin


def _until(attempt: Attempt, now: datetime, term: timedelta) -> datetime:
    until = now + term
    return until if attempt.deadline is None else min(until, attempt.deadline)


def _later(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)


# --- how an attempt ends without a result ---


def _end(attempt: Attempt, answer: Answer) -> Change:
    return Change(attempt.but(state=State.FINISHED, answer=answer, lease_until=None), (Say.FINISHED,))


def _stopped(sentence: str) -> Answer:
    return Answer(AttemptOutcome.STOPPED, sentence)


def _replaced() -> Answer:
    return Answer(AttemptOutcome.STOPPED, "A newer attempt of the run took its place.")


def _too_late() -> Answer:
    return Answer(
        AttemptOutcome.FAILED,
        "No executor could start it before its deadline.",
        ErrorFamily.TIMEOUT,
        "Start another executor, or allow more agents with DISPATCH_MAX_LOCAL_ATTEMPTS.",
    )
