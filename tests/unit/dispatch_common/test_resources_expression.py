"""The expressions of rules: what is told when they are applied, and that what goes wrong later is never an answer."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatch_common.resources_expression import MAX_ITEMS, SAMPLE, Expression, Failed, compiled, problems_of


class TestWhatIsToldAtOnce:
    @pytest.mark.parametrize(
        ("text", "column", "message", "remedy"),
        [
            ("labls == []", 1, "'labls' is no variable", "Did you mean 'labels'?"),
            ("true && task.vers > 1", 14, "'vers' is no field of task", "Did you mean 'version'?"),
            ("labels.exist(l, true)", 8, "'exist' is no method", "Did you mean 'exists'?"),
            ("siz(labels) > 1", 1, "'siz' is no function", "Did you mean 'size'?"),
            ("task.title.lowerAscii() == 'x'", 12, "'lowerAscii' is no method", "There are:"),
            ("role ==", 8, "the end", "Mend the expression"),
            ("role === 'x'", 8, "", "Mend the expression"),
            ("'open", 1, "", "Mend the expression"),
            ("1 + 1", 1, "it answers int, not true or false", "Compare"),
            ("role", 1, "it answers str", "Compare"),
            ("labels > 3", 1, "different types", "Compare text with text"),
            ("labels.exists(a, paths.exists(b, a == b))", 30, "'exists' stands inside another one", "at a time"),
            ("paths.all(p, labels.map(l, l).size() > 1)", 24, "'map' stands inside another one", "at a time"),
            ("role.matches(project)", 6, "the pattern of 'matches' is not a literal", "Write it in quotes"),
            ("role.matches('(')", 14, "not a regular expression", "look-around"),
            ("role.matches('(?=x)')", 14, "not a regular expression", "look-around"),
            ("role.matches('(a{100}){100}')", 14, "the pattern is too large", "1000 repetitions"),
            ("role.matches('x{9999999999}')", 14, "the pattern is too large", "1000 repetitions"),
            ("(" * 30 + "true" + ")" * 30, 25, "nested deeper than 24", "Split it"),
            ("true || " * 200 + "true", 1, "longer than 1000 characters", "Split it"),
            ("", 1, "", ""),
        ],
    )
    def test_with_the_column_and_the_remedy(self, text: str, column: int, message: str, remedy: str) -> None:
        (wrong, *_) = problems_of(text)

        assert wrong.column == column
        assert message in wrong.message
        assert remedy in wrong.remedy

    @pytest.mark.parametrize(
        "text",
        [
            "true",
            "labels.exists(l, l.startsWith('agent:')) && paths.exists(p, p.endsWith('.yml'))",
            "'a' in labels || !(role in ['x', 'y'])",
            "now.getHours() > 8 && now.getDayOfWeek() < 6",
            "now - timestamp('2026-01-01T00:00:00Z') > duration('24h')",
            "has(task.title) && size(task.title) > 3",
            "task.title.matches('^(fix|docs): [a-z]{2,40}$')",
            "actor.bot ? false : trust == 'member'",
            "{'coder': 1}['coder'] == 1",
            "task.title == 'with // no comment' // and one",
            "role == \"a\" || role == r'b'",
            "labels.filter(l, l != 'x').size() == 1",
        ],
    )
    def test_good_expressions_are_not_found_fault_with(self, text: str) -> None:
        assert problems_of(text) == ()

    def test_columns_count_through_lines(self) -> None:
        (wrong,) = problems_of("true &&\nlabls == []")

        assert wrong.column == 9

    def test_several_mistakes_are_all_told(self) -> None:
        assert len(problems_of("labls == [] && rol == 'x' && task.nam == ''")) == 3


class TestWhenItIsAsked:
    def expression(self, text: str) -> Expression:
        made = compiled(text)
        assert isinstance(made, Expression)
        return made

    def test_it_says_yes_or_no(self) -> None:
        assert self.expression("role == 'coder'").holds(SAMPLE) is True
        assert self.expression("role == 'docs'").holds(SAMPLE) is False

    @pytest.mark.parametrize(
        "text",
        ["labels[7] == 'x'", "1 / (size(labels) - 1) == 1", "timestamp(task.title) < now", "int(task.title) > 1"],
    )
    def test_an_error_is_no_answer(self, text: str) -> None:
        answer = self.expression(text).holds(SAMPLE)

        assert isinstance(answer, Failed)
        assert answer.sentence

    def test_too_much_to_look_at_is_no_answer(self) -> None:
        many = {**SAMPLE, "paths": ["x"] * (MAX_ITEMS + 1)}

        assert isinstance(self.expression("paths.all(p, p == 'x')").holds(many), Failed)

    def test_what_did_not_compile_is_no_answer(self) -> None:
        assert isinstance(compiled("rol == 'x'"), Failed)

    def test_a_regular_expression_is_linear(self) -> None:
        nasty = {**SAMPLE, "instruction": "a" * 100_000 + "b"}

        assert self.expression("instruction.matches('^(a+)+$')").holds(nasty) is False


CHARACTERS = st.text(alphabet="()[]{}.,'\"!&|=<>+-*/? \n\\abclabelstaskexists01", max_size=60)


@given(CHARACTERS)
@example(".")
@example("/")
@example("}}}}")
@example("'" * 7)
@example("labels.exists(")
@example("a.matches(")
@example("matches")
def test_no_text_breaks_the_check(text: str) -> None:
    problems_of(text)
    made = compiled(text)
    assert isinstance(made, Failed) or isinstance(made.holds(SAMPLE), bool | Failed)
