"""Pulls of the local forge, and the system's own health."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends

from services.console import problems
from services.console.api.work import At
from services.console.auth import Principal, operator, reader
from services.console.reads import health, pulls
from services.console.schemas import Page
from services.console.schemas_admin import Doctor, PullDetail, PullOut

router: Final = APIRouter(prefix="/v1", tags=["system"], responses=problems.ANSWERS)


@router.get("/pulls", dependencies=[Depends(reader)])
async def list_pulls(at: At, repository: str | None = None, state: str | None = None) -> Page[PullOut]:
    """List pull requests of local repositories, newest first."""
    return Page(items=await pulls.list_pulls(at.db, org=at.org, repository=repository, state=state))


@router.get("/pulls/{repository}/{number}", dependencies=[Depends(reader)])
async def get_pull(repository: str, number: int, at: At) -> PullDetail:
    """Return a pull request with its diff."""
    return await pulls.view(at.db, org=at.org, repository=repository, number=number)


@router.post("/pulls/{repository}/{number}/merge")
async def merge_pull(repository: str, number: int, at: At, who: Annotated[Principal, Depends(operator)]) -> PullOut:
    """Merge a pull request with a merge commit. Only a person asks for this; no service does."""
    return await pulls.merge(at.db, org=at.org, repository=repository, number=number, by=who.name)


@router.get("/doctor", dependencies=[Depends(reader)])
async def doctor(at: At) -> Doctor:
    """Say what is wrong: what is stuck, put aside, lagging or away, and which isolation is real here."""
    return await health.doctor(at, await at.isolation())
