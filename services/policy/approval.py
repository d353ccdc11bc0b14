"""The life of an approval: asked for, answered by somebody else, expired or void. Pure; the simulation uses it too.

    pending ──▶ granted ──▶ (its term ends)      pending ──▶ refused      pending ──▶ expired
       └──────────┴──────▶ void   (what was judged has changed, or the run is over)

An approval is bound to the digest of what was judged. It counts only while it is granted, its term lasts, and that
digest is still the same.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from dispatch_common.events import ApprovalOutcome
from dispatch_common.values import Actor, Grant, Judged, Reason, Stage

#: People get at least this long to answer after an outage in which they could not, if their term ended meanwhile.
GRACE: Final = timedelta(minutes=5)
APPROVER_ROLES: Final = frozenset({"approver", "admin"})


class ApprovalState(StrEnum):
    """Where an approval stands."""

    PENDING = "pending"
    GRANTED = "granted"
    REFUSED = "refused"
    EXPIRED = "expired"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Base:
    """The commit that was judged, and how it was found."""

    repository: str
    url: str
    branch: str
    commit: str

    def same_place(self, other: "Base") -> bool:
        """Tell whether two bases are the same branch of the same repository, whatever the commit."""
        return (self.repository, self.url, self.branch) == (other.repository, other.url, other.branch)


@dataclass(frozen=True, slots=True)
class Approval:
    """One request for a person's consent."""

    id: UUID
    run_id: UUID
    ask: int
    stage: Stage
    digest: str
    grant: Grant
    requester: Actor
    created_at: datetime
    expires_at: datetime
    base: Base | None = None
    state: ApprovalState = ApprovalState.PENDING
    reasons: tuple[Reason, ...] = ()
    approvers: tuple[str, ...] = ()
    answered_by: str | None = None
    comment: str = ""
    answered_at: datetime | None = None

    @property
    def open(self) -> bool:
        """Tell whether an answer can still count."""
        return self.state is ApprovalState.PENDING

    def counts(self, digest: str, now: datetime) -> bool:
        """Tell whether a person's consent covers what has this digest, now."""
        return self.state is ApprovalState.GRANTED and self.digest == digest and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody said to an approval, with the roles they hold."""

    by: Actor
    approve: bool
    comment: str = ""
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of an answer. ``outcome`` is None when it did not count; ``sentence`` says why either way."""

    approval: Approval
    sentence: str
    outcome: ApprovalOutcome | None = None

    @property
    def counted(self) -> bool:
        return self.outcome is not None


def digest_of(judged: Judged, stage: Stage, grant: Grant, base: Base | None) -> str:
    """Return the digest that an approval is bound to: the question, the grant, the base commit."""
    # Without defaults, so that a field added by a later version leaves the digests of what lacks it as they are.
    parts = (
        stage.encode(),
        judged.model_dump_json(exclude_defaults=True).encode(),
        grant.model_dump_json(exclude_defaults=True).encode(),
        repr((base.repository, base.url, base.branch, base.commit) if base else None).encode(),
    )
    return hashlib.sha256(b"\x00".join(parts)).hexdigest()


def over(approval: Approval, now: datetime, up_since: datetime) -> bool:
    """Tell whether nobody can answer any more: the term has ended, and nobody was kept from answering by an outage."""
    term = approval.expires_at - approval.created_at
    return approval.open and now >= approval.expires_at and now - up_since >= min(GRACE, term)


def expired(approval: Approval, now: datetime, up_since: datetime) -> Answered | None:
    """Return the approval ended for want of an answer, None while it is not over."""
    if not over(approval, now, up_since):
        return None
    ended = replace(approval, state=ApprovalState.EXPIRED, answered_at=now)
    return Answered(ended, "Nobody answered in time.", ApprovalOutcome.EXPIRED)


def void(approval: Approval) -> Approval:
    """Return the approval as one that can never count (again)."""
    if approval.state in {ApprovalState.PENDING, ApprovalState.GRANTED}:
        return replace(approval, state=ApprovalState.VOID)
    return approval


def answer(approval: Approval, given: Answer, now: datetime, up_since: datetime) -> Answered:
    """Return what becomes of an answer: it counts, or a sentence says why not."""
    refusal = _why_not(approval, given, now, up_since)
    if refusal:
        return Answered(approval, refusal)
    who = given.by.name or given.by.id
    said = f": {given.comment}" if given.comment else "."
    state, outcome, verb = (
        (ApprovalState.GRANTED, ApprovalOutcome.GRANTED, "approved")
        if given.approve
        else (ApprovalState.REFUSED, ApprovalOutcome.REFUSED, "refused")
    )
    ended = replace(
        approval,
        state=state,
        answered_by=given.by.id,
        comment=given.comment,
        answered_at=now,
        # The consent lasts as long, from now, as the question was open: what follows from it takes its time too.
        expires_at=now + (approval.expires_at - approval.created_at),
    )
    return Answered(ended, f"{who} {verb} it{said}", outcome)


def _why_not(approval: Approval, given: Answer, now: datetime, up_since: datetime) -> str:
    """Return why an answer does not count, or nothing."""
    who = given.by.name or given.by.id
    if not approval.open:
        return _CLOSED[approval.state]
    if over(approval, now, up_since):
        return "It does not count: the time to answer is over."
    if same_person(given.by, approval.requester):
        return f"It does not count: {who} asked for this run, and nobody approves what they asked for themselves."
    if given.by.bot:
        return f"It does not count: {who} is a program, and this wants a person."
    listed = {name.casefold() for name in approval.approvers}
    if not (identities(given.by) & listed or given.roles & APPROVER_ROLES):
        return f"It does not count: {who} is not among those who may answer{_who(approval.approvers)}."
    return ""


_CLOSED: Final = {
    ApprovalState.GRANTED: "It does not count: this was approved before.",
    ApprovalState.REFUSED: "It does not count: this was refused before.",
    ApprovalState.EXPIRED: "It does not count: the time to answer is over.",
    ApprovalState.VOID: "It does not count: what was to be approved has changed, or its run is over.",
}


def identities(actor: Actor) -> frozenset[str]:
    """Return every name that an actor goes by, for comparing people across sources."""
    plain = actor.id.removeprefix("principal:")
    return frozenset(name.strip().casefold() for name in (actor.id, plain, actor.name) if name.strip())


def same_person(one: Actor, other: Actor) -> bool:
    """Tell whether two actors could be the same person. In doubt they are."""
    return bool(identities(one) & identities(other))


def _who(approvers: Sequence[str]) -> str:
    return f" ({', '.join(approvers)}, or anybody with the role approver)" if approvers else " (the role approver)"
