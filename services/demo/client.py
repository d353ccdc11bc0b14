"""The console's API as the demo uses it: an ordinary program with a token. Knows nothing of any service's inside."""

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import httpx
from pydantic import AwareDatetime, BaseModel

from dispatch_common.errors import Permanent
from dispatch_common.lifecycle import RunState

_PATIENCE: Final = httpx.Timeout(30.0, connect=5.0)


class ConsoleSaidNo(Permanent):
    """The console refused what the demo asked for."""


class Step(BaseModel):
    """One step of a run."""

    to_state: RunState
    code: str
    sentence: str
    next_action: str
    at: AwareDatetime


class Delivery(BaseModel):
    """What came in, and what became of it."""

    id: UUID
    outcome: str | None
    sentence: str
    runs: list[str]


class Run(BaseModel):
    """A run, as far as the demo tells of it."""

    id: UUID
    short: str
    state: RunState
    terminal: bool
    sentence: str
    next_action: str
    agent: str | None
    files_changed: int = 0
    pull: dict[str, Any] | None = None


class Pull(BaseModel):
    """A pull request of the local forge."""

    id: str
    title: str
    state: str
    head: str
    base: str
    commits: list[str]
    diff: str


class Api:
    """Speaks to one console."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=_PATIENCE, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def apply(self, files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Apply YAML files; return the kind and name of each resource."""
        body = {"files": [{"name": name, "text": text} for name, text in files]}
        answer = await self._ask("POST", "/v1/resources", json=body)
        return [(item["kind"], item["name"]) for item in answer["items"]]

    async def set_secret(self, name: str, value: str) -> None:
        await self._ask("PUT", f"/v1/secrets/{name}", json={"value": value})

    async def deliveries(self) -> list[Delivery]:
        """Return what came in, newest first."""
        answer = await self._ask("GET", "/v1/deliveries")
        return [Delivery.model_validate(item) for item in answer["items"]]

    async def run(self, run_id: UUID | str) -> Run:
        return Run.model_validate(await self._ask("GET", f"/v1/runs/{run_id}"))

    async def live_runs(self) -> list[Run]:
        """Return the runs that have not ended."""
        answer = await self._ask("GET", "/v1/runs", params={"live": True, "limit": 500})
        return [Run.model_validate(item) for item in answer["items"]]

    async def cancel(self, run_id: UUID) -> None:
        """Ask for a run to stop; one that has ended meanwhile is no mistake."""
        await self._http.post(f"/v1/runs/{run_id}/cancel", json={"comment": "the demo ends"})

    async def pulls(self) -> list[Pull]:
        """Return the pull requests of all repositories, each with its diff."""
        answer = await self._ask("GET", "/v1/pulls")
        return [Pull.model_validate(await self._ask("GET", f"/v1/pulls/{item['id']}")) for item in answer["items"]]

    async def events(self, run_id: UUID | str) -> AsyncIterator[tuple[str, str]]:
        """Yield the name and data of each event of a run, until it has ended."""
        async with self._http.stream("GET", f"/v1/runs/{run_id}/events") as answer:
            if answer.status_code != 200:
                await answer.aread()
                raise ConsoleSaidNo(f"the events of run {run_id}: {answer.status_code} {answer.text[:300]}")
            name, data = "message", list[str]()
            async for line in answer.aiter_lines():
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif not line and data:
                    yield name, "\n".join(data)
                    name, data = "message", []

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        answer = await self._http.request(method, path, **options)
        if answer.is_error:
            raise ConsoleSaidNo(f"{method} {path}: {_said(answer)}")
        return answer.json() if answer.content else None


def _said(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        places = [
            f"{each['file']}:{each['line']}: {each['field']}: {each['message']}" for each in error.get("problems", [])
        ]
        return "; ".join([f"{error['message']} {error.get('remedy', '')}".strip(), *places])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:300]}"
