"""What follows from an import: accepted, a person is needed, or refused; and the digest of a result. Never does I/O."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dispatch_common.events import Verification
from dispatch_common.values import Grant, Reason
from services.result_publisher import paths
from services.result_publisher.trees import Change

#: Never part of a result: the system's own folder, and what could make later clones fetch from elsewhere.
KEPT_OUT: Final = (".dispatch/**", ".gitmodules", "**/.gitmodules")
#: What runs with a repository's own rights, decides who reviews, or pulls in others' code: a person agrees, always.
ALWAYS_ASKED: Final = (
    ".github/**", ".gitlab-ci.yml", ".gitlab/**", ".circleci/**", ".ci/**", ".buildkite/**", ".travis.yml",
    "azure-pipelines.yml", "bitbucket-pipelines.yml", "**/Jenkinsfile", ".woodpecker/**", ".woodpecker.yml",
    ".drone.yml", "**/CODEOWNERS",
    "**/*.lock", "**/*.lockb", "**/package-lock.json", "**/npm-shrinkwrap.json", "**/pnpm-lock.yaml", "**/go.sum",
    "**/requirements.lock", "**/gradle.lockfile", "**/packages.lock.json",
)  # fmt: skip
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Where something looks like a secret. Never the value. ``certain``: not a guess."""

    path: str
    line: int
    kind: str
    certain: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found. ``touched``: every path any commit touched; ``changes``: what differs at the end."""

    base: str
    tip: str
    tree: str
    changes: tuple[Change, ...]
    touched: tuple[str, ...]
    new_bytes: int
    secrets: tuple[Finding, ...] | None  #: None: the scanner could not finish


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of a result. ``paths``: those that want a person."""

    verification: Verification
    reasons: tuple[Reason, ...]
    digest: str
    paths: tuple[str, ...] = ()


def digest(findings: Findings) -> str:
    """Return what an approval is bound to: base, tree, and every changed path with mode and content."""
    parts = [findings.base, findings.tree]
    for change in sorted(findings.changes, key=lambda change: change.path):
        new = f"{change.new.mode} {change.new.oid}" if change.new else "deleted"
        parts.append(f"{len(change.path)}:{change.path} {new}")
    return hashlib.sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()


def judge(findings: Findings, grant: Grant, *, approved: str | None = None) -> Judgement:
    """Return what is said of a result. An approval of exactly this result answers what a person was wanted for."""
    mark = digest(findings)
    refused = [*_empty(findings), *_forbidden(findings, grant), *_too_large(findings, grant), *_leaked(findings)]
    if refused:
        return Judgement(Verification.REFUSED, tuple(refused), mark)
    wanted, reasons = _wants_a_person(findings, grant)
    if not reasons or approved == mark:
        return Judgement(Verification.ACCEPTED, (), mark)
    if approved is not None:
        reasons.insert(0, Reason(code="result_changed", sentence="The result is not the one that was approved."))
    return Judgement(Verification.NEEDS_APPROVAL, tuple(reasons), mark, wanted)


def _empty(findings: Findings) -> list[Reason]:
    if findings.changes:
        return []
    sentence = "The result's commits change nothing in the end."
    return [Reason(code="nothing_changed", sentence=sentence, next_action="Say in the task what shall be different.")]


def _forbidden(findings: Findings, grant: Grant) -> list[Reason]:
    kept_out = [path for path in findings.touched if paths.matching(path, KEPT_OUT, folded=True)]
    shut = [path for path in findings.touched if paths.matching(path, grant.paths_protected, folded=True)]
    beyond = [path for path in findings.touched if not paths.matching(path, grant.paths_allowed)]
    reasons: list[Reason] = []
    if kept_out:
        sentence = f"The result holds {_names(kept_out)}, which never leaves a workspace."
        reasons.append(Reason(code="path_kept_out", sentence=sentence))
    if shut:
        sentence = f"The result changes {_names(shut)}, which the repository protects."
        action = "Change protectedPaths of the Repository, or leave these files to a person."
        reasons.append(Reason(code="path_protected", sentence=sentence, next_action=action))
    if beyond:
        sentence = f"The result changes {_names(beyond)}, outside the granted paths."
        action = "Widen paths of the AgentPermissionSet, or narrow the task."
        reasons.append(Reason(code="path_not_granted", sentence=sentence, next_action=action))
    return reasons


def _too_large(findings: Findings, grant: Grant) -> list[Reason]:
    reasons: list[Reason] = []
    if len(findings.changes) > grant.max_files:
        sentence = f"The result changes {len(findings.changes)} files; {grant.max_files} are granted."
        action = "Split the task, or raise maxFiles of the AgentPermissionSet."
        reasons.append(Reason(code="too_many_files", sentence=sentence, next_action=action))
    if findings.new_bytes > grant.max_bytes:
        sentence = f"The result brings {findings.new_bytes} new bytes; {grant.max_bytes} are granted."
        action = "Keep generated files out, or raise maxBytes of the AgentPermissionSet."
        reasons.append(Reason(code="too_many_bytes", sentence=sentence, next_action=action))
    return reasons


def _leaked(findings: Findings) -> list[Reason]:
    return [
        Reason(
            code="secret_found",
            sentence=f"{_place(finding)} holds what looks like a secret: {finding.kind}.",
            next_action="Take it out of every commit; if it is real, revoke it.",
        )
        for finding in findings.secrets or ()
        if finding.certain
    ][:_SHOWN]


def _wants_a_person(findings: Findings, grant: Grant) -> tuple[tuple[str, ...], list[Reason]]:
    asked = (*ALWAYS_ASKED, *grant.paths_needing_approval)
    wanted = [path for path in findings.touched if paths.matching(path, asked, folded=True)]
    reasons: list[Reason] = []
    if wanted:
        sentence = f"The result changes {_names(wanted)}; a person has to agree to that."
        reasons.append(
            Reason(code="path_needs_approval", sentence=sentence, next_action="Look at the diff and answer.")
        )
    if findings.secrets is None:
        sentence = "The search for secrets did not finish on this result."
        reasons.append(Reason(code="scan_incomplete", sentence=sentence, next_action="Look for secrets in the diff."))
    guesses = [finding for finding in findings.secrets or () if not finding.certain]
    for finding in guesses[:_SHOWN]:
        sentence = f"{_place(finding)} may hold a secret: {finding.kind}."
        reasons.append(Reason(code="secret_suspected", sentence=sentence, next_action="Look at the line and answer."))
    return tuple(dict.fromkeys([*wanted, *(finding.path for finding in guesses)])), reasons


def _place(finding: Finding) -> str:
    return f"{finding.path}, line {finding.line}"


def _names(found: Sequence[str]) -> str:
    rest = len(found) - _SHOWN
    return ", ".join(found[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
