"""Turns the protocol's values into what rows hold, and back. Never does I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from dispatch_common.events import PublishRequested, RunEnded
from services.result_publisher.protocol import PRODUCT, Effect, EffectState, Found, Kind, Publication, branch_name

#: The revision under which the end of a run is told; publications count from 1.
NOTICE: Final = 0
#: A publication that shows more files than this shows the first ones and the number.
MOST_FILES: Final = 200


class Checked(BaseModel):
    """What the checks leave for the effects."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    wanted: tuple[Kind, ...] = ()
    files: tuple[tuple[str, str], ...] = ()  #: path, what happened to it


@dataclass(frozen=True, slots=True)
class Stored:
    """One publication (or notice) as it is stored, with the database's time."""

    run_id: UUID
    revision: int
    org: str
    state: str
    request: PublishRequested | RunEnded
    checked: Checked | None
    answered: bool
    stop: bool
    effects: tuple[Effect, ...]
    now: datetime

    @property
    def publication(self) -> Publication:
        """Return what the protocol looks at."""
        wanted = self.checked.wanted if self.checked else ()
        return Publication(wanted, self.effects, self.stop)

    def place(self, kind: Kind) -> str:
        """Return where an effect is written, for people."""
        if kind in PRODUCT and isinstance(self.request, PublishRequested) and self.request.repository:
            return f"{self.request.repository.name} {branch_name(self.run_id)}"
        return f"{self.request.snapshot.source} {self.request.snapshot.key}"

    def intended(self, kind: Kind) -> dict[str, Any]:
        """Return what an effect's row keeps of what was wanted."""
        if kind in PRODUCT and isinstance(self.request, PublishRequested):
            return {"branch": branch_name(self.run_id), "commit": self.request.result.commit}
        return {"object_id": self.request.snapshot.object_id}


def stored(row: Mapping[str, Any], effects: list[Mapping[str, Any]], now: datetime) -> Stored:
    """Read a publication's row and its effects' rows."""
    revision = row["revision"]
    verified = row["verified"]
    asked: type[PublishRequested | RunEnded] = RunEnded if revision == NOTICE else PublishRequested
    return Stored(
        run_id=row["run_id"],
        revision=revision,
        org=row["org"],
        state=row["state"],
        request=asked.model_validate(row["request"]),
        checked=Checked.model_validate(verified["checked"]) if verified and "checked" in verified else None,
        answered=row["answer"] is not None,
        stop=row["stop_asked"] is not None,
        effects=tuple(effect_of(effect) for effect in effects),
        now=now,
    )


def effect_of(row: Mapping[str, Any]) -> Effect:
    """Read an effect's row."""
    more: dict[str, Any] = row["outcome"] or {}
    found = more.get("found")
    return Effect(
        kind=Kind(row["kind"]),
        state=EffectState(row["state"]),
        begun=more.get("begun", False),
        tries=row["tries"],
        not_before=row["next_check"],
        sentence=row["sentence"],
        found=Found(ref=found["ref"], url=found["url"], number=found["number"]) if found else None,
        stopped=more.get("stopped", False),
    )


def outcome_of(effect: Effect) -> dict[str, Any]:
    """Return what an effect's row keeps besides its columns."""
    found = effect.found
    shown = {"ref": found.ref, "url": found.url, "number": found.number} if found else None
    return {"begun": effect.begun, "stopped": effect.stopped, "found": shown}
