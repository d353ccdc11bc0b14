"""The publication protocol, walked: every state that looks, answers, a stop and waiting can lead to."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product

from dispatch_common.events import PublishOutcome
from services.result_publisher import plan
from services.result_publisher.plan import after_look, after_write, next_move
from services.result_publisher.protocol import (
    Answer,
    Effect,
    EffectState,
    Finish,
    Found,
    Kind,
    Look,
    Publication,
    Record,
    Rules,
    Seen,
    Wait,
    Write,
    wanted_kinds,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LATE = NOW + timedelta(days=1)
RULES = Rules(max_tries=2)
#: Times (and what no longer matters) are erased after each step, so that the walk is finite; LATE is late enough.
ALL = wanted_kinds(product=True, tracker=True)


def _timeless(publication: Publication) -> Publication:
    effects = tuple(
        Effect(e.kind, e.state, begun=e.begun, tries=0 if e.settled else e.tries, stopped=e.stopped)
        for e in publication.effects
    )
    return Publication(publication.wanted, tuple(sorted(effects, key=lambda e: e.kind)), publication.stop)


def _successors(publication: Publication) -> Iterator[Publication]:
    if not publication.stop:
        yield Publication(publication.wanted, publication.effects, stop=True)
    match next_move(publication, LATE, RULES):
        case Look(kind):
            for seen in Seen:
                move = after_look(publication, kind, seen, NOW, rules=RULES)
                yield from _committed(publication, move)
        case Write() | Record() as move:
            yield from _committed(publication, move)
        case Wait() | Finish():
            pass


def _committed(publication: Publication, move: Write | Record) -> Iterator[Publication]:
    # The crash between the commit and what follows it is the successor itself.
    yield _timeless(publication.with_effect(move.effect))
    if isinstance(move, Write):
        for answer in Answer:
            yield _timeless(publication.with_effect(after_write(move.effect, answer, NOW, rules=RULES).effect))


def _reachable(start: Publication) -> set[Publication]:
    seen, todo = {start}, [start]
    while todo:
        for successor in _successors(todo.pop()):
            if successor not in seen:
                seen.add(successor)
                todo.append(successor)
    return seen


WORLDS = {
    wanted: _reachable(Publication(wanted))
    for wanted in {wanted_kinds(product=p, tracker=t) for p, t in product((True, False), repeat=2)}
}
EVERYTHING = [publication for world in WORLDS.values() for publication in world]


def test_the_walk_reaches_every_state_of_every_effect():
    seen = {(effect.kind, effect.state) for publication in EVERYTHING for effect in publication.effects}
    assert seen == set(product(Kind, EffectState))


def test_every_publication_goes_on_or_is_finished():
    for publication in EVERYTHING:
        assert not isinstance(next_move(publication, LATE, RULES), Wait)


def test_a_finished_publication_has_nothing_in_flight():
    for publication in EVERYTHING:
        if isinstance(next_move(publication, LATE, RULES), Finish):
            assert all(effect.settled for effect in publication.effects)
            assert {effect.kind for effect in publication.effects} == set(publication.wanted)


def test_what_has_settled_is_never_touched_again():
    for publication in EVERYTHING:
        for successor in _successors(publication):
            for effect in publication.effects:
                if effect.settled:
                    assert successor.effect(effect.kind) == effect


def test_after_a_doubt_nothing_is_written_without_a_look():
    for publication in EVERYTHING:
        move = next_move(publication, LATE, RULES)
        if isinstance(move, Write):
            assert not move.effect.begun or publication.effect(move.effect.kind) is None


def test_a_write_is_always_intended_first():
    for publication in EVERYTHING:
        for seen in Seen:
            for kind in publication.wanted:
                match after_look(publication, kind, seen, NOW, rules=RULES):
                    case Write(effect):
                        assert effect.state is EffectState.INTENT
                        assert effect.begun
                        assert seen is Seen.ABSENT
                    case Record(effect):
                        assert effect.state is not EffectState.INTENT


def test_after_a_stop_nothing_begins_and_what_began_is_read_back():
    for publication in EVERYTHING:
        if not publication.stop:
            continue
        for successor in _successors(publication):
            for effect in successor.effects:
                before = publication.effect(effect.kind)
                assert not effect.begun or (before is not None and before.begun)
                assert effect.state is not EffectState.INTENT or before == effect
        begun = [e for e in publication.effects if e.begun and not e.settled]
        assert not begun or isinstance(next_move(publication, LATE, RULES), Look)


def test_writes_and_vain_looks_are_bounded():
    for publication in EVERYTHING:
        for successor in _successors(publication):
            assert all(effect.tries <= RULES.max_tries for effect in successor.effects)


def test_only_one_effect_is_unsettled_at_a_time():
    for publication in EVERYTHING:
        assert sum(not effect.settled for effect in publication.effects) <= 1


def test_the_outcome_is_honest():
    for publication in EVERYTHING:
        move = next_move(publication, LATE, RULES)
        if not isinstance(move, Finish):
            continue
        states = {effect.kind: effect for effect in publication.effects}
        failed = [k for k in (Kind.BRANCH, Kind.PULL) if k in states and states[k].state is EffectState.FAILED]
        stopped = [effect for effect in states.values() if effect.stopped]
        match move.outcome:
            case PublishOutcome.PUBLISHED:
                assert not failed
                assert not stopped
                assert Kind.BRANCH in publication.wanted
            case PublishOutcome.FAILED:
                assert failed
                assert not publication.stop
            case PublishOutcome.STOPPED:
                assert publication.stop
                assert failed or stopped
            case PublishOutcome.NOTHING:
                assert Kind.BRANCH not in publication.wanted
                assert not stopped


def test_a_pull_request_is_linked_only_when_it_was_made():
    for publication in EVERYTHING:
        link, pull = publication.effect(Kind.LINK), publication.effect(Kind.PULL)
        if link is not None and link.begun:
            assert pull is not None
            assert pull.state is EffectState.DONE


def test_an_intent_that_a_crash_left_waits_until_its_write_is_dead_and_is_then_looked_at():
    move = next_move(Publication((Kind.COMMENT,)), NOW)
    assert isinstance(move, Write)
    crashed = Publication((Kind.COMMENT,)).with_effect(move.effect)

    assert next_move(crashed, NOW) == Wait(NOW + plan.RULES.in_flight)
    assert next_move(crashed, NOW + plan.RULES.in_flight) == Look(Kind.COMMENT)


def test_after_a_timeout_the_effect_is_unknown_and_read_again_later():
    move = next_move(Publication((Kind.COMMENT,)), NOW)
    assert isinstance(move, Write)

    recorded = after_write(move.effect, Answer.UNKNOWN, NOW, why="no answer within 10 s")

    assert recorded.effect.state is EffectState.UNKNOWN
    assert next_move(Publication((Kind.COMMENT,), (recorded.effect,)), NOW) == Wait(NOW + plan.RULES.doubt)


def test_a_rate_limit_is_waited_for():
    move = next_move(Publication((Kind.COMMENT,)), NOW)
    assert isinstance(move, Write)

    recorded = after_write(move.effect, Answer.NOT_SENT, NOW, retry_after=timedelta(seconds=59))

    assert recorded.effect.not_before == NOW + timedelta(seconds=59)


def test_what_the_outside_calls_it_is_kept():
    found = Found(ref="abc", url="http://forge/pulls/1", number=1)
    done = after_look(Publication((Kind.PULL,)), Kind.PULL, Seen.STANDS, NOW, found=found)
    assert done.effect.found == found


def test_the_sentence_names_what_a_person_changed_and_what_failed():
    effects = (
        Effect(Kind.BRANCH, EffectState.DONE),
        Effect(Kind.PULL, EffectState.DONE),
        Effect(Kind.COMMENT, EffectState.FAILED, sentence="Plane refused the token"),
        Effect(Kind.LINK, EffectState.DONE),
        Effect(Kind.STATE, EffectState.SKIPPED, sentence="ada moved it to Done"),
    )

    move = next_move(Publication(ALL, effects), NOW)

    assert move == Finish(
        PublishOutcome.PUBLISHED,
        "wrote the branch, the pull request and the link on the work item; "
        "the comment on the work item failed: Plane refused the token; "
        "the work item's state left alone: ada moved it to Done",
    )
