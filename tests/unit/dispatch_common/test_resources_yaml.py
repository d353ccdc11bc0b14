"""YAML that is wrong: every mistake with its file, line, field and remedy, all at once."""

from typing import Any

import pytest

from dispatch_common.resources import Problem, ResourceErrors, load, parse_spec, read

HEAD = "apiVersion: dispatch.dev/v1alpha1\n"


def agent(spec: str, *, name: str = "vega") -> str:
    return f"{HEAD}kind: Agent\nmetadata:\n  name: {name}\nspec:\n{spec}"


GOOD = "  role: coder\n  permissionSet: build\n"


def problems(text: str | bytes) -> list[Problem]:
    return read(text, "agents.yaml")[1]


def only(text: str | bytes) -> Problem:
    (problem,) = problems(text)
    return problem


class TestAMistake:
    @pytest.mark.parametrize(
        ("spec", "line", "field", "message", "remedy"),
        [
            ("  rolle: coder\n", 8, "spec.rolle", "unknown field", "Did you mean 'role'?"),
            ("  max_concurrent_tasks: 2\n", 8, "spec.max_concurrent_tasks", "unknown field", "'maxConcurrentTasks'"),
            ("  maxConcurrentTasks: many\n", 8, "spec.maxConcurrentTasks", "'many' is not a whole number", "number"),
            ("  maxConcurrentTasks: 2.5\n", 8, "spec.maxConcurrentTasks", "'2.5'", ""),
            ("  maxConcurrentTasks: true\n", 8, "spec.maxConcurrentTasks", "'True' is not a whole number", ""),
            ("  maxConcurrentTasks: 0\n", 8, "spec.maxConcurrentTasks", "greater than or equal to 1", ""),
            ("  status: activ\n", 8, "spec.status", "'activ' is not one of active, standby", "mean 'active'"),
            ("  model: 4\n", 8, "spec.model", "'4' is not text", 'Write it in quotes: "4".'),
            ("  skills: python\n", 8, "spec.skills", "'python' is not a list", "each entry on its own line"),
            ("  skills: [python, 3]\n", 8, "spec.skills[1]", "'3' is not text", ""),
            ("  labels: [a]\n", 8, "spec.labels", "", "Write a mapping"),
            ("  stack: My Stack\n", 8, "spec.stack", "'My Stack' is not a name", "For example 'my-stack'."),
            ("  role: docs\n", 8, "spec.role", "this field was already given on line 6", "Keep one of the two."),
        ],
    )
    def test_in_a_field_is_told(self, spec: str, line: int, field: str, message: str, remedy: str) -> None:
        problem = only(agent(GOOD + spec))

        assert (problem.file, problem.line, problem.field) == ("agents.yaml", line, field)
        assert message in problem.message
        assert remedy in problem.remedy
        assert problem.remedy

    def test_is_written_as_editors_understand_it(self) -> None:
        told = str(only(agent(GOOD + "  rolle: coder\n")))

        assert told.startswith("agents.yaml:8:3: spec.rolle: unknown field. Did you mean 'role'?")

    def test_of_leaving_a_field_out_is_told_where_it_is_missing(self) -> None:
        told = problems(agent("  role: coder\n"))

        assert [(p.line, p.field, p.message) for p in told] == [(5, "spec.permissionSet", "is required")]

    @pytest.mark.parametrize(
        ("text", "field", "message", "remedy"),
        [
            (
                "kind: Agent\nmetadata: {name: x}\nspec: {role: a, permissionSet: b}\n",
                "apiVersion",
                "is missing",
                HEAD[:-1],
            ),
            (
                f"{HEAD}kind: Agnet\nmetadata: {{name: x}}\nspec: {{}}\n",
                "kind",
                "is not a kind",
                "Did you mean 'Agent'?",
            ),
            (f"{HEAD}metadata: {{name: x}}\nspec: {{}}\n", "kind", "is missing", "Kinds: Source, Agent"),
            (f"{HEAD}kind: Agent\nspec: {{role: a, permissionSet: b}}\n", "metadata.name", "is missing", "'metadata:'"),
            (f"{HEAD}kind: Repository\nmetadata: {{name: x}}\nspec:\n", "spec", "is missing", "Indent"),
            ("- a\n- b\n", "", "the document is not a mapping", "apiVersion"),
            ("just text\n", "", "the document is not a mapping", "apiVersion"),
        ],
    )
    def test_in_the_envelope_is_told(self, text: str, field: str, message: str, remedy: str) -> None:
        problem = next(p for p in problems(text) if p.field == field)

        assert message in problem.message
        assert remedy in problem.remedy

    def test_hides_no_other(self) -> None:
        text = (
            agent("  rol: coder\n", name="Vega") + "---\n" + agent("\tx: y\n") + "---\n" + agent(GOOD + "  model: 3\n")
        )

        assert [(p.line, p.field) for p in problems(text)] == [
            (4, "metadata.name"),
            (5, "spec.permissionSet"),
            (5, "spec.role"),
            (6, "spec.rol"),
            (13, ""),
            (22, "spec.model"),
        ]

    def test_beside_good_resources_leaves_them_readable_and_loads_nothing(self) -> None:
        text = agent(GOOD) + "---\n" + agent("  nope: 1\n", name="rigel")

        assert [each.name for each in read(text, "a.yaml")[0]] == ["vega"]
        with pytest.raises(ResourceErrors) as caught:
            load(text, "a.yaml")
        assert len(caught.value.problems) == 3
        assert len(str(caught.value).splitlines()) == 3


class TestYamlThatIsNone:
    @pytest.mark.parametrize(
        ("text", "line", "message", "remedy"),
        [
            ("a:\n\tb: 1\n", 2, "a tab", "Indent with spaces"),
            ("a: 1\n  b: 2\n", 2, "indentation or a colon", "Line fields up"),
            ("a: b: c\n", 1, "indentation or a colon", "quote text that holds"),
            ("a: [1\nb: 2\n", 2, "expected ','", "Check the indentation and the quotes"),
            ("a: 'open\n", 2, "unexpected end", "Check the indentation and the quotes"),
            ("a: 1\nb: \x01\n", 2, "a control character", "Take it out"),
            ("a: &x [1]\nb: *x\n", 1, "anchors and aliases are not allowed", "Write the value out"),
            ("a: *x\n", 1, "anchors and aliases are not allowed", "Write the value out"),
            ("a: !!python/object/apply:os.system [ls]\n", 1, "the tag", "plain values need no tag"),
            ("a: !Secret x\n", 1, "the tag", "plain values need no tag"),
            ("? [a, b]\n: c\n", 1, "a key is not plain text", "Write the key as a word"),
        ],
    )
    def test_is_told_where(self, text: str, line: int, message: str, remedy: str) -> None:
        problem = problems(text)[0]

        assert problem.line == line
        assert message in problem.message
        assert remedy in problem.remedy

    def test_that_is_not_utf8_is_told_where(self) -> None:
        problem = only(agent(GOOD).encode() + b"  persona: \xff\n")

        assert (problem.line, problem.message) == (8, "this is not UTF-8 text")

    def test_may_start_with_a_byte_order_mark(self) -> None:
        assert problems(b"\xef\xbb\xbf" + agent(GOOD).encode()) == []


class TestBounds:
    def test_a_huge_text_is_refused_unread(self) -> None:
        assert "larger than 256 KiB" in only("a" * 300_000).message

    def test_many_levels_are_refused(self) -> None:
        assert "nested deeper than 16" in only("a: " + "[" * 5000 + "]" * 5000).message

    def test_many_values_are_refused(self) -> None:
        assert "more than 20000 values" in only("a: [" + "1," * 30_000 + "1]").message

    def test_a_billion_laughs_are_not_heard(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]

        assert "anchors and aliases" in only("\n".join(lines)).message

    def test_a_number_without_end_is_no_number(self) -> None:
        assert "is not a whole number" in only(agent(GOOD + f"  maxConcurrentTasks: {'9' * 5000}\n")).message

    def test_what_is_not_a_number_is_not_taken_for_one(self) -> None:
        text = f"{HEAD}kind: AgentPermissionSet\nmetadata: {{name: x}}\nspec: {{limits: {{cpu: .inf}}}}\n"

        assert "'.inf' is not a number of CPUs" in only(text).message


class TestNames:
    def test_used_twice_are_told_with_the_first_place(self) -> None:
        problem = only(agent(GOOD) + "---\n" + agent(GOOD))

        assert (problem.line, problem.message) == (12, "this name was already used on line 1")

    def test_may_be_used_by_different_kinds(self) -> None:
        stack = f"---\n{HEAD}kind: AgentStack\nmetadata: {{name: vega}}\nspec: {{backend: scripted}}\n"

        assert problems(agent(GOOD) + stack) == []

    @pytest.mark.parametrize("name", ["Vega", "-vega", "vega-", "ve ga", "véga", "v" * 64, "--upload-pack=x", "../x"])
    def test_are_dns_labels(self, name: str) -> None:
        assert only(agent(GOOD, name=f'"{name}"')).field == "metadata.name"


class TestRules:
    def profile(self, rule: str) -> str:
        return f"{HEAD}kind: PolicyProfile\nmetadata: {{name: p}}\nspec:\n  rules:\n{rule}"

    def test_a_bad_expression_names_the_rule_and_the_column(self) -> None:
        rule = (
            "    - name: late\n      when: now.getHours() > 8 && labls == []\n      verdict: deny\n      reason: late\n"
        )

        problem = only(self.profile(rule))

        assert (problem.line, problem.field) == (7, "spec.rules[0].when")
        assert problem.message == "rule 'late', column 23: 'labls' is no variable"
        assert "Did you mean 'labels'?" in problem.remedy

    def test_a_bad_expression_is_told_beside_other_mistakes_of_its_rule(self) -> None:
        rule = "    - name: late\n      when: 1 +\n      verdict: never\n      reason: late\n"

        assert {p.field for p in problems(self.profile(rule))} == {"spec.rules[0].when", "spec.rules[0].verdict"}

    def test_two_rules_of_one_name_are_told(self) -> None:
        rule = "    - {name: a, when: 'true', verdict: deny, reason: x}\n" * 2

        assert "several rules are called a" in only(self.profile(rule)).message


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("Repository", {"url": "--upload-pack=touch /tmp/x"}, "spec.url"),
        ("Repository", {"url": "ext::sh -c x"}, "spec.url"),
        ("Repository", {"url": "https://me:pass@example.com/x"}, "spec.url"),
        ("Repository", {"url": "relative/path"}, "spec.url"),
        ("Repository", {"url": "/x", "defaultBranch": "--upload-pack=x"}, "spec.defaultBranch"),
        ("Repository", {"url": "/x", "defaultBranch": "a..b"}, "spec.defaultBranch"),
        ("Repository", {"url": "/x", "defaultBranch": "a/.b"}, "spec.defaultBranch"),
        ("Repository", {"url": "/x", "defaultBranch": "a.lock"}, "spec.defaultBranch"),
        ("Repository", {"url": "/x", "defaultBranch": "a b"}, "spec.defaultBranch"),
        ("Repository", {"url": "/x", "testCommand": "a\nb"}, "spec.testCommand"),
        ("Repository", {"url": "/x", "protectedPaths": ["/etc"]}, "spec.protectedPaths[0]"),
        ("Repository", {"url": "/x", "protectedPaths": ["../x"]}, "spec.protectedPaths[0]"),
        ("Repository", {"url": "/x", "protectedPaths": ["a**"]}, "spec.protectedPaths[0]"),
        ("AgentPermissionSet", {"hosts": ["https://x"]}, "spec.hosts[0]"),
        ("AgentPermissionSet", {"refs": ["--force"]}, "spec.refs[0]"),
        ("AgentPermissionSet", {"limits": {"wall": "3 hours"}}, "spec.limits.wall"),
        ("AgentPermissionSet", {"limits": {"wall": ""}}, "spec.limits.wall"),
        ("AgentPermissionSet", {"limits": {"memory": "4GB"}}, "spec.limits.memory"),
        ("AgentPermissionSet", {"limits": {"cpu": -1}}, "spec.limits.cpu"),
        ("AgentPermissionSet", {"limits": {"walls": "3h"}}, "spec.limits.walls"),
        ("Source", {"provider": "plane"}, "spec"),
        ("Source", {"provider": "api", "baseUrl": "ftp://x"}, "spec.baseUrl"),
        ("Source", {"provider": "jira"}, "spec.provider"),
        ("TriggerRule", {}, "spec"),
        ("TriggerRule", {"labels": ["agent"]}, "spec"),
        ("TriggerRule", {"commands": ["/agent"]}, "spec"),
        ("TriggerRule", {"commands": ["agent now"], "role": "coder"}, "spec.commands[0]"),
    ],
)
def test_values_that_would_do_harm_or_nothing_are_refused(kind: str, spec: dict[str, Any], field: str) -> None:
    with pytest.raises(ResourceErrors) as caught:
        parse_spec(kind, "x", spec)

    assert [problem.field for problem in caught.value.problems] == [field]
    assert all(problem.remedy for problem in caught.value.problems)
