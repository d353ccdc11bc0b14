"""Grants: cut by everything that has a say, widened by nothing, with a sentence for each cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_common.resources import AgentPermissionSet, LimitsPart, Narrowing, matches
from dispatch_common.values import Grant, Limits
from services.policy import grant as grants

WIDE = grants.of(AgentPermissionSet(tools=("Read", "Edit"), hosts=("*.pypi.org", "github.com")), "sample")


class TestCut:
    @pytest.mark.parametrize(
        ("part", "field", "left"),
        [
            (Narrowing(tools=("Edit", "Bash")), "tools", ("Edit",)),
            (Narrowing(tools=()), "tools", ()),
            (Narrowing(hosts=("files.pypi.org",)), "hosts", ("files.pypi.org",)),
            (Narrowing(paths=("src/**",)), "paths_allowed", ("src/**",)),
            (Narrowing(max_attempts=1), "max_attempts", 1),
            (Narrowing(max_attempts=9), "max_attempts", 3),
            (Narrowing(max_files=10), "max_files", 10),
            (Narrowing(max_files=100_000), "max_files", 200),
            (Narrowing(max_bytes=5), "max_bytes", 5),
            (Narrowing(tokens=1000), "tokens", 1000),
            (Narrowing(money_microusd=7), "money_microusd", 7),
            (Narrowing(limits=LimitsPart(cpu=0.5)), "limits", Limits(cpus=0.5)),
            (Narrowing(limits=LimitsPart(wall=999_999)), "limits", Limits()),
            (Narrowing(paths_needing_approval=("ci/**",)), "paths_needing_approval", ("ci/**",)),
            (Narrowing(), "tools", ("Read", "Edit")),
        ],
    )
    def test_leaves_the_lesser_of_both(self, part: Narrowing, field: str, left: object) -> None:
        cut, reasons = grants.cut(WIDE, part, "X")

        assert getattr(cut, field) == left
        assert bool(reasons) == (cut != WIDE)

    @pytest.mark.parametrize(
        ("part", "sentence"),
        [
            (Narrowing(max_files=10), "X allows 10 changed files instead of 200."),
            (Narrowing(tokens=1000), "X allows 1,000 tokens."),
            (Narrowing(tools=("Edit",)), "X allows [Edit] of the tools [Read, Edit]."),
            (Narrowing(hosts=()), "X allows none of the hosts [*.pypi.org, github.com]."),
            (Narrowing(limits=LimitsPart(wall=90)), "X allows 90 s of wall time instead of 30 min."),
            (Narrowing(limits=LimitsPart(memory=512)), "X allows 512 MiB of memory instead of 4096 MiB."),
            (Narrowing(limits=LimitsPart(cpu=0.5)), "X allows 0.5 of CPUs instead of 2."),
            (Narrowing(paths_needing_approval=("ci/**",)), "X wants a person to look at changes of [ci/**]."),
        ],
    )
    def test_says_what_became_less(self, part: Narrowing, sentence: str) -> None:
        assert [reason.sentence for reason in grants.cut(WIDE, part, "X")[1]] == [sentence]

    def test_twice_is_as_once(self) -> None:
        part = Narrowing(paths_needing_approval=("ci/**",), tokens=5, tools=("Edit",))
        once, _ = grants.cut(WIDE, part, "X")

        assert grants.cut(once, part, "Y") == (once, ())

    def test_a_limit_on_what_had_none_stays_the_least(self) -> None:
        once, _ = grants.cut(WIDE, Narrowing(tokens=5), "X")

        assert grants.cut(once, Narrowing(tokens=9), "Y")[0].tokens == 5


def test_a_permission_set_cuts_another_in_every_field() -> None:
    small = AgentPermissionSet(
        tools=("Edit",),
        hosts=("github.com",),
        paths=("docs/**",),
        paths_needing_approval=("docs/x",),
        limits=LimitsPart(wall=60, idle=30, cpu=1, memory=64, disk=64, pids=9),
        max_attempts=1,
        max_files=2,
        max_bytes=3,
        tokens=4,
        money_microusd=5,
    )

    cut, _ = grants.cut(WIDE, grants.as_narrowing(small), "X")

    assert cut == grants.of(small, "sample")


SPANS = [(1, "1 s"), (60, "1 min"), (90, "90 s"), (5400, "90 min"), (7200, "2 h"), (86400, "1 d")]


@pytest.mark.parametrize(("seconds", "said"), SPANS)
def test_times_are_said_as_people_say_them(seconds: int, said: str) -> None:
    assert grants.span(seconds) == said


LISTS = st.lists(st.sampled_from(["**", "src/**", "src/*", "**/*.py", "docs/a.md", "*", "src/x.py"]), max_size=4)


@given(one=LISTS, other=LISTS, path=st.sampled_from(["src/x.py", "src/a/b.py", "docs/a.md", "README.md", "a/b/c"]))
def test_what_two_lists_leave_is_in_both(one: list[str], other: list[str], path: str) -> None:
    left = grants.meet(one, other)

    if any(matches(pattern, path) for pattern in left):
        assert any(matches(pattern, path) for pattern in one)
        assert any(matches(pattern, path) for pattern in other)


@given(one=LISTS)
def test_a_list_meets_itself_and_everything_whole(one: list[str]) -> None:
    assert set(grants.meet(one, one)) == set(one)
    assert set(grants.meet(one, ["**"])) >= set(one)


def test_a_plain_grant_allows_no_network() -> None:
    assert Grant().hosts == ()
    assert grants.of(AgentPermissionSet(), None).hosts == ()
