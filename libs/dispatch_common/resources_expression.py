"""The expressions of policy rules: CEL, checked when they are applied and bounded when they are evaluated. Pure.

What an expression may use is listed here and nowhere else. Its cost is bounded before it runs: length, brackets, no
comprehension inside another, literal and bounded regular expressions (the engine is linear), bounded facts.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import prod
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import cel

MAX_LENGTH: Final = 1000
MAX_NESTING: Final = 24
MAX_PATTERN: Final = 200
MAX_REPEATS: Final = 1000
MAX_ITEMS: Final = 2000

#: Every variable, with its fields where it has some, and a value of the right type.
SAMPLE: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "task": {
            "id": "0" * 32,
            "version": 1,
            "key": "DISP-1",
            "title": "Say hello",
            "source": "plane",
            "provider": "plane",
        },
        "actor": {"id": "1", "name": "Ada", "bot": False},
        "source": "plane",
        "project": "DISP",
        "role": "coder",
        "agent": "vega",
        "repository": "sample",
        "labels": ["agent:coder"],
        "trust": "member",
        "priority": "none",
        "wake_reason": "ticket_assignment",
        "instruction": "",
        "stage": "launch",
        "paths": ["src/hello.py"],
        "now": datetime(2026, 1, 1, tzinfo=UTC),
    }
)
FIELDS: Final[Mapping[str, Sequence[str]]] = {
    "task": ["id", "key", "provider", "source", "title", "version"],
    "actor": ["bot", "id", "name"],
}
_MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
_ONE: Final = "all, exists, exists_one, map, filter"
METHODS: Final = _MACROS | {
    *("contains", "startsWith", "endsWith", "matches", "size"),
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
    *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
}
FUNCTIONS: Final = frozenset({"size", "has", "timestamp", "duration", "int", "uint", "double", "string"})
_WORDS: Final = frozenset({"true", "false", "null", "in"})
_TOKEN: Final = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<space>\s+|//[^\n]*)|(?P<sign>.)""",
    re.DOTALL,
)


class Wrong(NamedTuple):
    """One mistake in an expression; columns count from 1."""

    column: int
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An expression gave no answer. Whoever asked must take the careful road."""

    sentence: str


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    program: cel.Program
    needs: tuple[str, ...]  #: the variables it looks at; handing over no others is most of its speed

    def holds(self, facts: Mapping[str, Any]) -> bool | Failed:
        """Tell whether the expression is true of the facts, or why that cannot be said."""
        lists: list[Any] = [value for name in self.needs if isinstance(value := facts.get(name), list)]
        if any(len(each) > MAX_ITEMS for each in lists):
            return Failed(f"a list has more than {MAX_ITEMS} entries")
        answer = _run(self.program, {name: facts[name] for name in self.needs if name in facts})
        if isinstance(answer, bool | Failed):
            return answer
        return Failed(f"the answer is {answer!r:.60}, not true or false")


@lru_cache(maxsize=4096)
def compiled(text: str) -> Expression | Failed:
    """Return the expression ready to run, or why it cannot run."""
    wrong = problems_of(text)
    if wrong:
        return Failed(f"column {wrong[0].column}: {wrong[0].message}")
    program = cel.compile(text)
    return Expression(text, program, tuple(program.variables()))


@lru_cache(maxsize=4096)
def problems_of(text: str) -> tuple[Wrong, ...]:
    """Return every mistake of an expression that can be known before it meets real facts."""
    if len(text) > MAX_LENGTH:
        return (Wrong(1, f"longer than {MAX_LENGTH} characters", "Split it into several rules."),)
    tokens = [
        _Token(found.lastgroup or "", found[0], found.start() + 1)
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "space"
    ]
    nesting = tuple(_nesting(tokens))
    if nesting:
        return nesting
    program = _parsed(text)
    if not isinstance(program, cel.Program):
        return program
    named = (*_names(tokens), *_patterns(tokens))
    return named or _tried(program)


def _parsed(text: str) -> cel.Program | tuple[Wrong, ...]:
    try:
        return cel.compile(text)
    except ValueError as error:
        found = re.findall(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)", str(error))
        return tuple(
            Wrong(_column(text, int(line), int(column)), _without_grammar(message), "Mend the expression; it is CEL.")
            for line, column, message in found[:1]
        ) or (Wrong(1, "this is not an expression", "Write CEL, like: 'urgent' in labels && trust == 'member'."),)
    except BaseException as error:  # noqa: BLE001 - a panic of the Rust parser is a BaseException; it must not end the process
        return (Wrong(1, _not_ours(error), "Write it more simply."),)


def _column(text: str, line: int, column: int) -> int:
    return sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + column


def _without_grammar(message: str) -> str:
    return (
        message.split(" expecting ")[0]
        .replace("no viable alternative at input", "not understood at")
        .replace("<EOF>", "the end")
    )


def _not_ours(error: BaseException) -> str:
    """Return a panic of the library as a sentence; everything else that is no Exception goes on."""
    if type(error).__name__ != "PanicException":
        raise error
    return "the expression breaks the evaluator"


def _run(program: cel.Program, facts: Mapping[str, Any]) -> Any:
    try:
        return program.execute(dict(facts))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in here is one outcome: no answer
        return Failed(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"[:300])
    except BaseException as error:  # noqa: BLE001 - see _parsed
        return Failed(_not_ours(error))


def _nesting(tokens: Sequence[_Token]) -> Iterator[Wrong]:
    """Find brackets that go too deep, and comprehensions inside comprehensions, whose cost would multiply."""
    opened: list[bool] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.kind != "sign":
            continue
        if token.text in "([{":
            word = before.text if before and token.text == "(" else ""
            macro = word in _MACROS
            if macro and any(opened):
                yield Wrong(token.column, f"'{word}' stands inside another one", f"Use one of {_ONE} at a time.")
                return
            opened.append(macro)
        elif token.text in ")]}" and opened:
            opened.pop()
        if len(opened) > MAX_NESTING:
            yield Wrong(token.column, f"nested deeper than {MAX_NESTING} brackets", "Split it into several rules.")
            return


def _names(tokens: Sequence[_Token]) -> Iterator[Wrong]:
    """Find names that do not exist: variables, their fields, functions, methods."""
    padded = [_Token("", "", 0), _Token("", "", 0), *tokens, _Token("", "", 0), _Token("", "", 0)]
    bound: set[str] = set()
    for index, token in enumerate(padded):
        if token.kind != "word" or token.text in _WORDS:
            continue
        before, after = padded[index - 1].text, padded[index + 1].text
        if before == "(" and padded[index - 2].text in _MACROS and after == ",":
            bound.add(token.text)
        elif before == "." and after == "(":
            yield from _known(token, "method", sorted(METHODS))
        elif before == ".":
            fields = FIELDS.get(padded[index - 2].text)
            if fields and padded[index - 3].text != ".":
                yield from _known(token, f"field of {padded[index - 2].text}", fields)
        elif after == "(":
            yield from _known(token, "function", sorted(FUNCTIONS))
        elif token.text not in bound and after != ":":
            yield from _known(token, "variable", sorted(SAMPLE))


def _known(token: _Token, what: str, known: Sequence[str]) -> Iterator[Wrong]:
    if token.text not in known:
        close = difflib.get_close_matches(token.text, known, n=1)
        hint = f"Did you mean '{close[0]}'? " if close else ""
        yield Wrong(token.column, f"'{token.text}' is no {what}", f"{hint}There are: {', '.join(known)}.")


def _patterns(tokens: Sequence[_Token]) -> Iterator[Wrong]:
    """Find regular expressions that are not plain literals, do not compile, or could grow large."""
    for index, token in enumerate(tokens):
        if token.text != "matches" or token.kind != "word":
            continue
        pattern, end = tokens[index + 2 : index + 4] if len(tokens) > index + 3 else (token, token)
        if pattern.kind != "text" or end.text != ")":
            yield Wrong(
                token.column, "the pattern of 'matches' is not a literal", "Write it in quotes: title.matches('^fix')."
            )
            continue
        repeats = [int(number) for number in re.findall(r"(\d+)\s*\}", pattern.text)]
        if (
            len(pattern.text) > MAX_PATTERN
            or any(len(str(n)) > 6 for n in repeats)
            or prod(n or 1 for n in repeats) > MAX_REPEATS
        ):
            yield Wrong(
                pattern.column,
                "the pattern is too large",
                f"At most {MAX_PATTERN} characters and {MAX_REPEATS} repetitions.",
            )
            continue
        answer = _run(cel.compile(f"''.matches({pattern.text})"), {})
        if isinstance(answer, Failed):
            yield Wrong(
                pattern.column,
                "the pattern is not a regular expression",
                "Mend it; look-around and back references do not exist.",
            )


def _tried(program: cel.Program) -> tuple[Wrong, ...]:
    """Run the expression on the sample: an answer that is no truth, or mixed types, can be told now."""
    answer = _run(program, SAMPLE)
    if isinstance(answer, Failed):
        if answer.sentence.startswith("TypeError"):
            return (
                Wrong(
                    1,
                    "it compares or combines things of different types",
                    "Compare text with text, numbers with numbers.",
                ),
            )
        return ()
    if not isinstance(answer, bool):
        return (
            Wrong(1, f"it answers {type(answer).__name__}, not true or false", "Compare the value with something."),
        )
    return ()
