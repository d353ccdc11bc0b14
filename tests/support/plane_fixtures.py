"""The recorded Plane: real deliveries and real API answers, as they were on the wire."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "fixtures" / "plane"
ALICE = "8c61d381-9e47-45f3-afa0-fe7cb1376ae3"
BOT = "d4943938-9033-4f57-9e74-956b79f421ec"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded delivery."""

    name: str
    method: str
    headers: dict[str, str]
    body: bytes
    secret: str

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.body)


@cache
def delivery(prefix: str) -> Recorded:
    """The recorded delivery whose file name begins so, like ``71a``."""
    (path,) = FOLDER.glob(f"{prefix}-*.json")
    raw = json.loads(path.read_text())
    return Recorded(path.stem, raw["method"], raw["headers"], raw["body_text"].encode(), raw["secret"] or "")


def deliveries() -> list[Recorded]:
    """All of them, in the order they came."""
    return [delivery(path.name.split("-")[0]) for path in sorted(FOLDER.glob("[0-9]*.json"))]


@cache
def api_pairs() -> list[dict[str, Any]]:
    """Every recorded request to the API with its answer."""
    return json.loads((FOLDER / "api-examples.json").read_text())
