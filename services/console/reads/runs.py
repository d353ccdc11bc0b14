"""Lists of runs and tasks, newest first, with filters and cursors that stay right while rows are added."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from dispatch_common.db import Db
from dispatch_common.ids import short
from dispatch_common.lifecycle import TERMINAL, RunState
from dispatch_common.values import TaskSnapshot
from dispatch_common.view import RunBody
from services.console.problems import Problem
from services.console.schemas import Page, RunOut, TaskDetail, TaskOut, TaskRef

_RUN: Final = """
SELECT r.id, r.state, r.lane, r.body, r.created_at, r.updated_at, t.id AS task_id, t.source, t.key, t.snapshot,
       s.code, s.sentence, s.next_action, s.at
FROM runs r JOIN tasks t ON t.id = r.task_id
LEFT JOIN LATERAL (
    SELECT code, sentence, next_action, at FROM run_steps WHERE run_id = r.id ORDER BY number DESC LIMIT 1) s ON true
"""
_TASK: Final = """
WITH page AS (SELECT t.* FROM tasks t {where})
SELECT page.*, coalesce(c.runs, 0) AS runs, c.live_run
FROM page LEFT JOIN (
    SELECT task_id, count(*) AS runs, (array_agg(id ORDER BY created_at DESC) FILTER (WHERE live))[1] AS live_run
    FROM runs WHERE task_id IN (SELECT id FROM page) GROUP BY task_id) c ON c.task_id = page.id
ORDER BY page.created_at DESC, page.id DESC
"""


class Where:
    """Conditions of a query, with their arguments numbered."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.args: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        """Add a condition; each ``{}`` stands for the next value."""
        numbers = [f"${len(self.args) + offset + 1}" for offset in range(len(values))]
        self.parts.append(condition.format(*numbers))
        self.args.extend(values)

    @property
    def sql(self) -> str:
        return " WHERE " + " AND ".join(self.parts) if self.parts else ""


def cursor_of(at: datetime, row_id: UUID) -> str:
    """Return the cursor that continues after a row."""
    return f"{at.isoformat()}_{row_id.hex}"


def parse_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Return the row that a cursor stands behind."""
    at, _, row_id = cursor.partition("_")
    try:
        moment, parsed = datetime.fromisoformat(at), UUID(row_id)
    except ValueError as error:
        raise _bad_cursor() from error
    if moment.tzinfo is None:
        raise _bad_cursor()
    return moment, parsed


def _bad_cursor() -> Problem:
    return Problem(
        422, "invalid_cursor", "The cursor is not one of ours.", field="cursor", remedy="Use 'next' as given."
    )


def run_out(row: Any) -> RunOut:
    """Return a run from a row of ``_RUN``."""
    body = RunBody.model_validate(row["body"])
    snapshot = row["snapshot"]
    state = RunState(row["state"])
    return RunOut(
        id=row["id"],
        short=short(row["id"]),
        state=state,
        terminal=state in TERMINAL,
        task=TaskRef(
            id=row["task_id"],
            source=row["source"],
            key=row["key"],
            title=snapshot.get("title", ""),
            url=snapshot.get("url", ""),
        ),
        lane=row["lane"],
        role=body.role,
        agent=body.agent_name,
        repository=body.repository.name if body.repository else snapshot.get("repository"),
        wake_reason=body.wake_reason,
        attempt=body.attempt,
        code=row["code"] or "",
        sentence=row["sentence"] or "",
        next_action=row["next_action"] or "",
        created_at=row["created_at"],
        updated_at=row["at"] or row["updated_at"],
    )


async def list_runs(
    db: Db,
    *,
    org: str,
    states: list[RunState] | None = None,
    live: bool = False,
    agent: str | None = None,
    role: str | None = None,
    task: UUID | None = None,
    repository: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[RunOut]:
    """Return one page of runs."""
    where = Where()
    where.add("r.org = {}", org)
    if states:
        where.add("r.state = ANY({}::text[])", [state.value for state in states])
    if live:
        where.add("r.live")
    if agent:
        where.add("coalesce(r.body->'agent'->>'name', r.body->>'wanted_agent') = {}", agent)
    if role:
        where.add("r.body->>'role' = {}", role)
    if task:
        where.add("r.task_id = {}", task)
    if repository:
        where.add("coalesce(r.body->'repository'->>'name', t.snapshot->>'repository') = {}", repository)
    if cursor:
        where.add("(r.created_at, r.id) < ({}, {})", *parse_cursor(cursor))
    sql = f"{_RUN}{where.sql} ORDER BY r.created_at DESC, r.id DESC LIMIT {int(limit) + 1}"
    rows = await db.fetch(sql, *where.args)
    more = len(rows) > limit
    following = cursor_of(rows[limit - 1]["created_at"], rows[limit - 1]["id"]) if more else None
    return Page(items=[run_out(row) for row in rows[:limit]], next=following)


async def one_run(db: Db, run_id: UUID) -> tuple[RunOut, RunBody] | None:
    """Return a run and the body of its row."""
    row = await db.fetchrow(f"{_RUN} WHERE r.id = $1", run_id)
    return None if row is None else (run_out(row), RunBody.model_validate(row["body"]))


def _task_fields(row: Any, snapshot: TaskSnapshot) -> dict[str, Any]:
    return {
        "id": row["id"],
        "source": row["source"],
        "key": row["key"],
        "title": snapshot.title,
        "url": snapshot.url,
        "project": snapshot.project,
        "repository": snapshot.repository,
        "labels": snapshot.labels,
        "priority": snapshot.priority,
        "closed": snapshot.closed,
        "version": row["version"],
        "runs": row["runs"],
        "live_run": row["live_run"],
        "read_at": row["read_at"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


async def list_tasks(db: Db, *, org: str, source: str | None, limit: int, cursor: str | None) -> Page[TaskOut]:
    """Return one page of tasks."""
    where = Where()
    where.add("t.org = {}", org)
    if source:
        where.add("t.source = {}", source)
    if cursor:
        where.add("(t.created_at, t.id) < ({}, {})", *parse_cursor(cursor))
    page = f"{where.sql} ORDER BY t.created_at DESC, t.id DESC LIMIT {int(limit) + 1}"
    rows = await db.fetch(_TASK.format(where=page), *where.args)
    more = len(rows) > limit
    following = cursor_of(rows[limit - 1]["created_at"], rows[limit - 1]["id"]) if more else None
    items = [TaskOut(**_task_fields(row, TaskSnapshot.model_validate(row["snapshot"]))) for row in rows[:limit]]
    return Page(items=items, next=following)


async def one_task(db: Db, task_id: UUID) -> TaskDetail:
    """Return a task with its snapshot."""
    row = await db.fetchrow(_TASK.format(where="WHERE t.id = $1"), task_id)
    assert row is not None, "the id was resolved just now and tasks are not deleted"
    snapshot = TaskSnapshot.model_validate(row["snapshot"])
    return TaskDetail(**_task_fields(row, snapshot), snapshot=snapshot)
