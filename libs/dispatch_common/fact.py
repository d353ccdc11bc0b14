"""What every fact is: a frozen value with an envelope, written as CloudEvents 1.0 JSON."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict

_ENVELOPE: Final = ("id", "org", "time", "cause", "traceparent")
_OUTSIDE: Final[set[str]] = set(_ENVELOPE)


class Fact(BaseModel):
    """One fact. ``id`` is what inboxes dedupe by; ``cause`` is the id of the fact that led to it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    source: ClassVar[str]  #: the service that says it

    id: UUID
    org: str = "default"
    time: AwareDatetime
    cause: UUID | None = None
    traceparent: str | None = None

    @property
    def about(self) -> str:
        """Return the CloudEvents subject: the run or task this fact is about."""
        return str(getattr(self, "run_id", None) or getattr(self, "task_id", None) or self.id)

    @property
    def nats_subject(self) -> str:
        """Return the subject it is published on: its type, then the org."""
        return f"{self.type}.{self.org}"

    def encode(self) -> bytes:
        """Return the CloudEvents JSON document."""
        head: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(self.id),
            "source": f"/dispatch/{self.source}",
            "type": self.type,
            "subject": self.about,
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "org": self.org,
        }
        if self.cause is not None:
            head["cause"] = str(self.cause)
        if self.traceparent is not None:
            head["traceparent"] = self.traceparent
        # The data is serialised once, by pydantic, and spliced in: half the cost of going through Python objects.
        data = self.model_dump_json(exclude=_OUTSIDE).encode()
        return orjson.dumps(head)[:-1] + b',"data":' + data + b"}"

    @classmethod
    def from_envelope(cls, envelope: Mapping[str, Any]) -> Self:
        """Build the fact from a decoded CloudEvents document of this class's type."""
        known = {name: envelope[name] for name in _ENVELOPE if envelope.get(name) is not None}
        return cls.model_validate({**envelope["data"], **known})


class RunFact(Fact):
    """A fact about one run."""

    run_id: UUID


class AttemptFact(RunFact):
    """A fact about one attempt. ``fence`` is the attempt's number; only the newest may write."""

    attempt_id: UUID
    fence: int
