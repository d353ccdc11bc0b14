"""Reads a script: one step per line, or a JSON list of steps. PURE.

say I will fix the rounding
write notes/plan.md <<END        (lines up to END)
replace src/price.py <<END       (old text, a line of four dashes, new text)
run python3 -m unittest
test
commit Round half up
"""

import json
import re
from typing import Any, cast

Step = tuple[str, dict[str, Any]]

#: Each verb with the name of what follows it on its line.
VERBS = {
    "say": "text", "think": "text", "write": "path", "replace": "path", "run": "command", "test": "command",
    "commit": "message", "sleep": "seconds", "ask": "text", "exit": "code", "hang": "", "hang-hard": "", "crash": "",
    "garbage": "lines", "flood": "mib", "fork-away": "children", "fork-bomb": "children", "fill-disk": "mib",
    "eat-memory": "mib", "write-outside": "path", "connect": "address",
}  # fmt: skip
_FENCE = re.compile(r"^(?P<marks>`{3,}|~{3,})[ \t]*(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=marks)[ \t]*$", re.M | re.S)
_NAME = "dispatch-script"


class BadScript(Exception):
    """The script says something this agent does not understand."""


def find(text: str) -> str:
    """Return the first fenced block called dispatch-script (or beginning with #!dispatch-script), or ''."""
    for fence in _FENCE.finditer(text.replace("\r\n", "\n")):
        body = fence.group("body")
        if fence.group("info").split()[:1] == [_NAME]:
            return body
        if body.lstrip().startswith("#!" + _NAME):
            return body.lstrip().partition("\n")[2]
    return ""


def parse(text: str) -> list[Step]:
    """Return the steps of a script."""
    if text.lstrip().startswith(("[", "{")):
        return _from_json(text)
    steps: list[Step] = []
    lines = text.splitlines()
    while lines:
        line = lines.pop(0).strip()
        if line and not line.startswith("#"):
            steps.append(_from_line(line, lines))
    return steps


def _from_json(text: str) -> list[Step]:
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise BadScript(f"the script is not JSON: {error}") from error
    steps = cast("dict[str, Any]", found).get("steps") if isinstance(found, dict) else found
    if not isinstance(steps, list):
        raise BadScript("the script must be a list of steps")
    return [_from_object(step) for step in cast("list[Any]", steps)]


def _from_object(step: Any) -> Step:
    if not isinstance(step, dict):
        raise BadScript(f"a step must be an object, not {step!r}")
    fields = cast("dict[str, Any]", step)
    return _known(str(fields.get("do", "")), {name: value for name, value in fields.items() if name != "do"})


def _from_line(line: str, following: list[str]) -> Step:
    verb, _, rest = line.partition(" ")
    rest, body = rest.strip(), None
    match = re.search(r"<<(\w+)$", rest)
    if match:
        rest, body = rest[: match.start()].strip(), _until(match.group(1), following)
    arguments: dict[str, Any] = {VERBS[verb]: rest} if rest and VERBS.get(verb) else {}
    if body is not None and verb == "replace":
        old, mark, new = body.partition("----\n")
        if not mark:
            raise BadScript("replace needs the old text, a line of four dashes, and the new text")
        arguments.update(old=old, new=new)
    elif body is not None:
        arguments["text"] = body
    return _known(verb, arguments)


def _until(word: str, following: list[str]) -> str:
    taken: list[str] = []
    while following:
        line = following.pop(0)
        if line.strip() == word:
            return "".join(each + "\n" for each in taken)
        taken.append(line)
    raise BadScript(f"the line {word} that ends the text is missing")


def _known(verb: str, arguments: dict[str, Any]) -> Step:
    if verb not in VERBS:
        raise BadScript(f"there is no step {verb!r}; there are {', '.join(sorted(VERBS))}")
    return verb, arguments
