"""Brings one attempt from LAUNCHING to a living supervisor. Whatever line it dies on, doing it again is right.

    1  look what the launcher knows       already alive or over: nothing is started twice
    2  refresh the mirror, read customs   kept for the next attempt, whoever runs it
    3  make the workspace                 made anew when asked again
    4  write prompt and context           written over
    5  store token digest and context     under the row's lock: whoever was stopped or overtaken goes no further
    6  listen                             same path, same token, after any restart
    7  start the supervisor               once per attempt id; it asks for a lease before it starts an agent

Died before 7: the launcher knows nothing, and reconciling starts at 1 with a new token. Died after 7: reconciling
adopts it. Taken for dead meanwhile: the supervisor gets no lease and leaves.
"""

import asyncio
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from agent_runner.backends import UnknownBackend, backend
from dispatch_common import telemetry
from dispatch_common.blobs import Blobs
from dispatch_common.clock import now
from dispatch_common.db import Db
from dispatch_common.errors import InvalidInput
from dispatch_common.events import AttemptRequested
from dispatch_common.families import ErrorFamily
from dispatch_common.secrets import digest_of, new_token
from services.executor import context, lease, store
from services.executor.attempt import Attempt, Change, State
from services.executor.gateway.results import Results
from services.executor.gateway.sockets import Sockets
from services.executor.launchers import Launcher, LaunchFailed, LaunchState
from services.executor.launchers.report import Confining
from services.executor.spec import Ground, spec_of
from services.executor.workspace import Wanted, Workspaces
from services.executor.workspace_git import GitFailed, WorkspaceError, git

_TOKEN_PREFIX: Final = "dar"  #: so that scanners find a leaked one
_NONCE_BYTES: Final = 8


class NotReady(Exception):
    """The attempt cannot be launched here; ``family`` says what follows from that."""

    def __init__(self, family: ErrorFamily, sentence: str) -> None:
        super().__init__(sentence)
        self.family = family


@dataclass(frozen=True, slots=True)
class Preparing:
    """What it takes to launch an attempt on this host."""

    db: Db
    blobs: Blobs
    executor: str
    launcher: Launcher
    workspaces: Workspaces
    confining: Confining
    sockets: Sockets
    results: Results
    ground: Ground

    async def launch(self, asked: AttemptRequested) -> None:
        """Launch an attempt, or end it with the reason why that was not possible."""
        with telemetry.span("executor launches", asked.traceparent, attempt_id=str(asked.attempt_id)):
            try:
                await self._launch(asked)
            except (NotReady, WorkspaceError) as error:
                await self._fail(asked, error.family, str(error))
            except LaunchFailed as error:
                await self._fail(asked, ErrorFamily.SANDBOX_INFRA, str(error))
            except (UnknownBackend, InvalidInput) as error:
                await self._fail(asked, ErrorFamily.CONFIG_INVALID, str(error))

    async def _fail(self, asked: AttemptRequested, family: ErrorFamily, sentence: str) -> None:
        telemetry.log.warning("an attempt was not launched", attempt_id=str(asked.attempt_id), reason=sentence)
        await self.results.fail(asked.attempt_id, family, sentence)

    async def _launch(self, asked: AttemptRequested) -> None:
        if (await self.launcher.state(asked.attempt_id)).state is not LaunchState.UNKNOWN:
            return  # reconciling goes on with it
        self._preflight(asked)
        commit, customs = await self._repository(asked)
        bundle = context.bundle(asked, customs, commit, secrets.token_hex(_NONCE_BYTES))
        workspace = await self.workspaces.prepare(
            Wanted(
                attempt_id=asked.attempt_id,
                run_id=asked.run_id,
                task_id=asked.task_id,
                agent=asked.agent.name,
                repository=asked.repository,
                base_commit=commit,
                files=bundle.files,
            )
        )
        spec = spec_of(asked, self.ground, workspace, bundle, now=now())
        await asyncio.to_thread(_write_private, spec.prompt_file, bundle.prompt.encode())
        kept = await self.blobs.put(orjson.dumps(bundle.manifest))
        token = new_token(_TOKEN_PREFIX)
        if not await self._mint(asked, token, context=kept.model_dump(mode="json")):
            return
        await self.sockets.open(asked.attempt_id, self.ground.place(asked.attempt_id).socket)
        await self.launcher.start(spec, token)

    def _preflight(self, asked: AttemptRequested) -> None:
        backend(asked.agent.backend)
        if not self.confining.works:
            wrong = self.confining.report[0]
            raise NotReady(ErrorFamily.PREFLIGHT_FAILED, f"{wrong.sentence} {wrong.remedy}".strip())

    async def _repository(self, asked: AttemptRequested) -> tuple[str | None, Mapping[str, str]]:
        """Return the commit to start from and the repository's own instructions for agents there."""
        if asked.repository is None:
            return None, {}
        commit = await self.workspaces.mirrors.tip(asked.repository, commit=asked.grant.base_commit)
        mirror = self.workspaces.mirrors.mirror(asked.repository)
        within = ("-C", str(mirror.path))
        found: dict[str, str] = {}
        try:
            listed = await git(
                *within, "ls-tree", "-l", "-z", commit, "--", *context.INSTRUCTION_FILES, config=mirror.config
            )
            for entry in filter(None, listed.split("\0")):
                # "<mode> blob <name> <size>\t<path>"; a link is not followed.
                (mode, _, blob, size), path = entry.partition("\t")[0].split(), entry.partition("\t")[2]
                if mode.startswith("100") and int(size) <= context.LONGEST_INSTRUCTIONS:
                    found[path] = await git(*within, "cat-file", "blob", blob, config=mirror.config)
        except (GitFailed, ValueError) as error:
            raise WorkspaceError(f"The instructions of {mirror.name} could not be read: {error}") from error
        return commit, found

    async def _mint(self, asked: AttemptRequested, token: str, **kept: object) -> bool:
        """Make the token valid, unless the attempt was stopped, overtaken or given up meanwhile."""
        async with self.db.transaction() as tx:
            for row in await store.lock(tx, [asked.attempt_id]):
                attempt = row.attempt
                ours = attempt.state is State.LAUNCHING and attempt.executor == self.executor
                if ours and not _is_unwanted(attempt):
                    await store.mint(tx, attempt.id, digest_of(token), kept)
                    return True
        await self.results.end(asked.attempt_id, _end_if_unwanted)
        return False


def _is_unwanted(attempt: Attempt) -> bool:
    return attempt.stop is not None or attempt.is_revoked


def _end_if_unwanted(attempt: Attempt) -> Change:
    if _is_unwanted(attempt):
        return lease.lost(attempt, "A newer attempt took its place before it was launched.")
    return Change(attempt, ignored="another executor has it")


def _write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
