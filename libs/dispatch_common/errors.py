"""The errors this system can name.

DispatchError
├── Permanent              retrying cannot help: record it, put it where a person looks
│   ├── IllegalStep        a bug: decide() and the table disagree
│   ├── MalformedFact      a message that no version of ours wrote
│   └── InvalidInput       what a person or another program gave us; names the field and the remedy
└── Transient              the world is unwell: try again after ``delay``

Expected outcomes (denied, duplicate, stale, failed attempt) are values, never errors.
"""

from datetime import timedelta
from typing import ClassVar


class DispatchError(Exception):
    """Something went wrong that this system can name."""

    status_code: ClassVar[int] = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class Permanent(DispatchError):
    """Retrying cannot help."""


class Transient(DispatchError):
    """The world is unwell; trying again later can help."""

    status_code = 503

    def __init__(self, message: str | None = None, *, delay: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(message)
        self.delay = delay


class IllegalStep(Permanent):
    """decide() asked for a step that the lifecycle forbids."""

    def __init__(self, *, source: str, to: str) -> None:
        super().__init__(f"no legal step from {source} to {to}")
        self.source = source
        self.to = to


class MalformedFact(Permanent):
    """A message that is not one of our facts."""


class InvalidInput(Permanent):
    """Input that cannot be used: ``field`` names where, ``remedy`` says what to do."""

    status_code = 422

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        where = f"{field}: " if field else ""
        then = f" {remedy}" if remedy else ""
        super().__init__(f"{where}{message}{then}")
        self.message = message
        self.field = field
        self.remedy = remedy
