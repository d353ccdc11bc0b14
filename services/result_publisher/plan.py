"""The publication protocol: which effect is next, and what an observation of the outside means. Never does I/O.

A publication is a value: the kinds of effects it wants, in order, and what was recorded of each. The shell loops:

    next_move(publication, now) -> Look    read the outside once, then ask after_look(...) -> Write or Record
                                -> Write   commit the effect (its intent), write, then after_write(...) -> Record
                                -> Record  commit the effect, ask again
                                -> Wait    come back at ``until``
                                -> Finish  say ResultPublished

Promises, each walked exhaustively in tests/unit/result_publisher/test_plan.py:

* an intent is recorded before every write, and a recorded intent or doubt leads to a look, never straight to a write;
* after a doubt the look waits, so that a write still under way has landed or is dead;
* what has settled (done, skipped, failed) is never touched again, whatever a person did to it since;
* after a stop nothing begins; what had begun is read back and reported as it is;
* every unsettled effect has a time at which it goes on, and the number of tries is bounded.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from dispatch_common.backoff import backoff
from dispatch_common.events import PublishOutcome
from services.result_publisher.protocol import (
    PLAIN,
    PRODUCT,
    RULES,
    Answer,
    Effect,
    EffectState,
    Finish,
    Found,
    Kind,
    Look,
    Move,
    Publication,
    Record,
    Rules,
    Seen,
    Wait,
    Write,
)

#: An effect that makes no sense unless these are done.
_NEEDS: Final[Mapping[Kind, Kind]] = MappingProxyType({Kind.PULL: Kind.BRANCH, Kind.LINK: Kind.PULL})
#: What is looked at before the first write: the target would not refuse a second one, or a person may stand there.
_LOOKS_FIRST: Final = frozenset({Kind.BRANCH, Kind.PULL, Kind.STATE})


def next_move(publication: Publication, now: datetime, rules: Rules = RULES) -> Move:
    """Return what to do next. Total: every publication has a next move or is finished."""
    for kind in publication.wanted:
        effect = publication.effect(kind)
        if effect is None or not effect.settled:
            return _go_on(publication, effect or Effect(kind, EffectState.UNKNOWN), now, rules)
    return _finish(publication)


def _go_on(publication: Publication, effect: Effect, now: datetime, rules: Rules) -> Move:
    if not effect.begun:
        if publication.stop:
            return Record(_settle(effect, EffectState.SKIPPED, "a stop was asked before it began", stopped=True))
        reason = _pointless(publication, effect.kind)
        if reason:
            return Record(_settle(effect, EffectState.SKIPPED, reason))
    if effect.not_before is not None and effect.not_before > now:
        return Wait(effect.not_before)
    if not effect.begun and effect.tries == 0 and effect.kind not in _LOOKS_FIRST:
        return _write(effect, now, rules)
    return Look(effect.kind)


def _pointless(publication: Publication, kind: Kind) -> str:
    """Return why an effect that has not begun makes no sense any more, or nothing."""
    needed = _NEEDS.get(kind)
    if needed is not None and not _is_done(publication, needed):
        return f"{PLAIN[needed]} was not made"
    failed = [
        other for other in PRODUCT if (effect := publication.effect(other)) and effect.state is EffectState.FAILED
    ]
    if failed:
        # The run fails for it, and its end tells the work item.
        return f"{PLAIN[failed[0]]} could not be made"
    if kind is Kind.STATE and Kind.PULL in publication.wanted and not _is_done(publication, Kind.PULL):
        return "there is no pull request to move it for"
    return ""


def _is_done(publication: Publication, kind: Kind) -> bool:
    effect = publication.effect(kind)
    return effect is not None and effect.state is EffectState.DONE


def after_look(
    publication: Publication,
    kind: Kind,
    seen: Seen,
    now: datetime,
    *,
    found: Found | None = None,
    why: str = "",
    retry_after: timedelta | None = None,
    rules: Rules = RULES,
) -> Write | Record:
    """Return what follows from a look. ``why`` is the target's own words; ``retry_after`` is what it asked for."""
    effect = publication.effect(kind) or Effect(kind, EffectState.UNKNOWN)
    match seen:
        case Seen.STANDS:
            return Record(replace(_settle(effect, EffectState.DONE, why), found=found))
        case Seen.WITHDRAWN:
            reason = why or f"a person changed {PLAIN[kind]}; that stands"
            return Record(replace(_settle(effect, EffectState.SKIPPED, reason), found=found))
        case Seen.FOREIGN:
            return Record(
                _settle(effect, EffectState.FAILED, why or f"something else stands in the place of {PLAIN[kind]}")
            )
        case Seen.GONE:
            return Record(_settle(effect, EffectState.FAILED, why or f"there is no place for {PLAIN[kind]}"))
        case Seen.UNREADABLE:
            return Record(_doubt(effect, now, why, retry_after=retry_after, counts=True, rules=rules))
        case Seen.ABSENT:
            return _after_absent(publication, effect, now, why, rules)


def _after_absent(publication: Publication, effect: Effect, now: datetime, why: str, rules: Rules) -> Write | Record:
    if publication.stop:
        return Record(_settle(effect, EffectState.SKIPPED, "a stop was asked and it had not happened", stopped=True))
    if effect.tries >= rules.max_tries:
        return Record(_given_up(effect, why))
    return _write(effect, now, rules)


def _write(effect: Effect, now: datetime, rules: Rules) -> Write:
    return Write(
        replace(
            effect,
            state=EffectState.INTENT,
            begun=True,
            tries=effect.tries + 1,
            not_before=now + rules.in_flight,
        )
    )


def after_write(
    effect: Effect,
    answer: Answer,
    now: datetime,
    *,
    found: Found | None = None,
    why: str = "",
    retry_after: timedelta | None = None,
    rules: Rules = RULES,
) -> Record:
    """Return what to record of a write that was intended as ``effect``."""
    match answer:
        case Answer.DONE:
            return Record(replace(_settle(effect, EffectState.DONE, why), found=found))
        case Answer.REFUSED:
            return Record(_settle(effect, EffectState.FAILED, why or f"{PLAIN[effect.kind]} was refused"))
        case Answer.EXISTS:
            return Record(replace(effect, state=EffectState.UNKNOWN, not_before=now, sentence=why))
        case Answer.NOT_SENT | Answer.UNKNOWN:
            return Record(_doubt(effect, now, why, retry_after=retry_after, counts=False, rules=rules))


def _doubt(
    effect: Effect, now: datetime, why: str, *, retry_after: timedelta | None, counts: bool, rules: Rules
) -> Effect:
    if counts and effect.tries >= rules.max_tries:
        return _given_up(effect, why)
    tries = effect.tries + counts
    pause = max(retry_after or timedelta(), rules.doubt, backoff(rules.again, max(tries - 1, 0)))
    return replace(effect, state=EffectState.UNKNOWN, tries=tries, not_before=now + pause, sentence=why)


def _given_up(effect: Effect, why: str) -> Effect:
    last = why or effect.sentence
    tail = f"; the last answer was: {last}" if last else ""
    return _settle(effect, EffectState.FAILED, f"{PLAIN[effect.kind]} was given up after {effect.tries} tries{tail}")


def _settle(effect: Effect, state: EffectState, sentence: str, *, stopped: bool = False) -> Effect:
    return replace(effect, state=state, not_before=None, sentence=sentence, stopped=stopped)


def _finish(publication: Publication) -> Finish:
    effects = [effect for kind in publication.wanted if (effect := publication.effect(kind))]
    done = [PLAIN[effect.kind] for effect in effects if effect.state is EffectState.DONE]
    if any(effect.stopped for effect in effects):
        stands = f"; {_list(done)} already stood" if done else "; nothing had been written"
        return Finish(PublishOutcome.STOPPED, f"stopped{stands}")
    product = [effect for effect in effects if effect.kind in PRODUCT]
    broken = [effect for effect in product if effect.state is EffectState.FAILED]
    if broken:
        outcome = PublishOutcome.STOPPED if publication.stop else PublishOutcome.FAILED
        return Finish(outcome, _failure(broken[0], done))
    outcome = PublishOutcome.PUBLISHED if product else PublishOutcome.NOTHING
    return Finish(outcome, _success(effects, done, outcome))


def _failure(broken: Effect, done: list[str]) -> str:
    stands = f"; {_list(done)} stands" if done else ""
    return f"{PLAIN[broken.kind]} failed: {broken.sentence}{stands}"


def _success(effects: list[Effect], done: list[str], outcome: PublishOutcome) -> str:
    head = (
        "no file was changed"
        if outcome is PublishOutcome.NOTHING
        else f"wrote {_list(done)}"
        if done
        else "nothing written"
    )
    notes = [
        f"{PLAIN[effect.kind]} {'failed' if effect.state is EffectState.FAILED else 'left alone'}: {effect.sentence}"
        for effect in effects
        if effect.state is not EffectState.DONE
    ]
    return "; ".join([head, *notes])


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
