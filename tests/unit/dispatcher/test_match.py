"""match(), walked over small halls: nobody twice, nobody passed over, whatever the order of its inputs."""

from collections.abc import Iterator
from itertools import chain, combinations_with_replacement, permutations, product

from dispatch_common import ids
from services.dispatcher.match import Assignment, FreeSlot, Waiting, match

PYTHON, DOCS = frozenset({"python"}), frozenset({"docs"})


def waiting(name: str, line: str = "coder", *, skills: frozenset[str] = PYTHON, key: int = 0, rank: int = 0) -> Waiting:
    return Waiting(ids.derived(name), line, "DISP", skills, key, rank)


def slot(
    agent: str, number: int = 1, *, role: str = "coder", skills: frozenset[str] = PYTHON, load: int = 0
) -> FreeSlot:
    return FreeSlot(agent, number, role, skills, load)


def fits(run: Waiting, free: FreeSlot) -> bool:
    return run.role == free.role and run.agent in (None, free.agent)


def taken_by(pairs: tuple[Assignment, ...]) -> list[str]:
    return [pair.slot.agent for pair in pairs]


# --- every small hall ---

LINES = ("coder", "docs", "coder@Vega")
FREE = (
    slot("Vega"),
    slot("Vega", 2),
    slot("Rigel", skills=DOCS),
    slot("Lyra", role="docs", skills=DOCS),
)


def halls() -> Iterator[tuple[tuple[Waiting, ...], tuple[FreeSlot, ...]]]:
    for lines in chain.from_iterable(combinations_with_replacement(LINES, size) for size in range(4)):
        for keys in product((0, 1), repeat=len(lines)):
            runs = tuple(waiting(str(n), line, key=key) for n, (line, key) in enumerate(zip(lines, keys, strict=True)))
            for chosen in product((True, False), repeat=len(FREE)):
                yield runs, tuple(free for free, there in zip(FREE, chosen, strict=True) if there)


def test_nobody_is_used_twice_and_everything_fits() -> None:
    for runs, free in halls():
        pairs = match(runs, free)
        assert len({pair.waiting.run_id for pair in pairs}) == len(pairs)
        assert len({(pair.slot.agent, pair.slot.number) for pair in pairs}) == len(pairs)
        assert all(fits(pair.waiting, pair.slot) for pair in pairs)


def test_nobody_is_passed_over_while_a_fitting_slot_stays_free() -> None:
    for runs, free in halls():
        pairs = match(runs, free)
        left = [each for each in free if each not in [pair.slot for pair in pairs]]
        for run in runs:
            if run not in [pair.waiting for pair in pairs]:
                assert not [each for each in left if fits(run, each)]


def test_the_order_of_the_inputs_does_not_matter() -> None:
    for runs, free in halls():
        if len(runs) == 3:
            expected = match(runs, free)
            assert all(match(order, tuple(reversed(free))) == expected for order in permutations(runs))


def test_one_line_is_first_come_first_served() -> None:
    for runs, free in halls():
        served = {pair.waiting.run_id for pair in match(runs, free)}
        for one, other in permutations(runs, 2):
            if one.line == other.line and one.sort_key < other.sort_key and other.run_id in served:
                assert one.run_id in served


# --- who gets what ---


def test_the_most_relevant_skills_win_over_the_least_load() -> None:
    busy, idle = slot("Vega", 2, load=1), slot("Rigel", skills=DOCS)

    assert taken_by(match([waiting("a")], [idle, busy])) == ["Vega"]


def test_among_equals_the_least_loaded_takes_it_counting_what_was_just_given() -> None:
    free = [slot("Rigel", 1), slot("Rigel", 2), slot("Vega", 1)]

    assert sorted(taken_by(match([waiting("a"), waiting("b")], free))) == ["Rigel", "Vega"]


def test_an_agent_that_was_asked_for_is_waited_for() -> None:
    assert match([waiting("a", "coder@Vega")], [slot("Rigel")]) == ()


def test_a_busy_role_never_blocks_an_idle_one() -> None:
    pairs = match([waiting("a", key=0), waiting("b", "docs", key=9)], [slot("Lyra", role="docs")])

    assert taken_by(pairs) == ["Lyra"]


def test_projects_take_turns() -> None:
    flood = [waiting(f"flood {n}", key=n, rank=n) for n in range(3)]
    late = waiting("late", key=99, rank=0)

    pairs = match([*flood, late], [slot("Vega", 1), slot("Vega", 2)])

    assert {pair.waiting.run_id for pair in pairs} == {flood[0].run_id, late.run_id}


def test_the_sentence_says_why() -> None:
    free = [slot("Rigel", skills=DOCS), slot("Vega")]
    (asked_for,) = match([waiting("a", "coder@Vega")], free)
    (skilled,) = match([waiting("a")], free)
    (least,) = match([waiting("a", skills=frozenset())], free)

    assert asked_for.sentence == "Vega was asked for and has a free slot."
    assert "skilled in python" in skilled.sentence
    assert "least loaded of 2" in least.sentence
