"""How a command ends: the exit codes, and the one exception that carries one with what to tell."""

import dataclasses
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes. They are a promise to scripts; see docs/api/README.md."""

    OK = 0
    RUN_FAILED = 1  #: the run ended without success; doctor found problems
    USAGE = 2  #: the command or its input is wrong
    NOT_FOUND = 3
    REFUSED = 4  #: not allowed, denied, or it cannot matter any more
    UNREACHABLE = 5  #: no console answers, or a part of the system is away
    BROKEN = 6  #: the console made a mistake
    INTERRUPTED = 130


@dataclasses.dataclass(slots=True)
class Failure(Exception):
    """What went wrong, in the API's words: ``problems`` are the several mistakes in what was sent."""

    code: Exit
    message: str
    remedy: str = ""
    field: str = ""
    error: str = ""
    problems: list[dict[str, Any]] = dataclasses.field(default_factory=list[dict[str, Any]])

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()
