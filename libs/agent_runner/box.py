"""The boxes of one attempt: the sandbox its agent runs in, and the one in which its work is collected afterwards."""

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_runner import collect
from agent_runner.backends import AgentCommand
from agent_runner.chores import cancel
from agent_runner.protocol import LaunchSpec, SandboxKind, WorkspaceKind
from agent_runner.sandbox import bare, tree
from agent_runner.sandbox.cgroup import Group
from agent_runner.sandbox.confinement import HOME_INSIDE, PATH_INSIDE, Confinement, Host, Mount, Overlay, argv
from agent_runner.sandbox.host import FILES
from agent_runner.sandbox.leftovers import MARK
from agent_runner.sandbox.tree import Descriptors, Tree

_GATEWAY_INSIDE: Final = "/run/gw"


def environment(spec: LaunchSpec, more: Mapping[str, str], *, home: str, path: str = PATH_INSIDE) -> dict[str, str]:
    """Return the whole environment of the agent; nothing of ours is inherited."""
    who, mail = f"{spec.agent.name} (agent)", spec.author_email
    return {
        "PATH": path,
        "HOME": home,
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": "/tmp",
        # Compiled files would be taken for work, and one made in the second of an edit hides that edit.
        "PYTHONDONTWRITEBYTECODE": "1",
        "GIT_AUTHOR_NAME": who,
        "GIT_AUTHOR_EMAIL": mail,
        "GIT_COMMITTER_NAME": who,
        "GIT_COMMITTER_EMAIL": mail,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "DISPATCH_TASK_ID": str(spec.task_id),
        "DISPATCH_TASK_KEY": spec.task_key,
        "DISPATCH_RUN_ID": str(spec.run_id),
        MARK: str(spec.attempt_id),
        **spec.environment,
        **more,
    }


@dataclass(frozen=True, slots=True)
class Box:
    """Starts the two sandboxes of an attempt, with the same confinement."""

    spec: LaunchSpec
    host: Host
    group: Group

    @property
    def out(self) -> Path:
        """Where the collecting sandbox leaves its files; the agent itself never sees it."""
        return self.spec.folder / "collected"

    async def start_agent(self, command: AgentCommand) -> Tree:
        """Start the agent with the prompt as its stdin."""
        mounts = list(command.mounts)
        if command.needs_gateway and self.spec.gateway.agent_dir is not None:
            mounts.append(Mount(self.spec.gateway.agent_dir, _GATEWAY_INSIDE))
        prompt = os.open(self.spec.prompt_file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return await self._start(command.argv, command.environment, mounts, prompt, command.files)
        finally:
            os.close(prompt)

    async def start_collecting(self) -> Tree:
        """Start the git commands that turn the work into a bundle."""
        work = self.spec.workspace
        is_bare = self.spec.sandbox.kind is SandboxKind.NONE
        out = str(self.out) if is_bare else collect.OUT_INSIDE
        command = collect.command(work.base_commit or "", work.branch or "", out)
        mounts = [Mount(self.out, collect.OUT_INSIDE, writable=True)]
        return await self._start(command, {}, mounts, asyncio.subprocess.DEVNULL, {})

    async def _start(
        self,
        command: Sequence[str],
        more: Mapping[str, str],
        mounts: Sequence[Mount],
        stdin: int,
        files: Mapping[str, bytes],
    ) -> Tree:
        if self.spec.sandbox.kind is SandboxKind.NONE:
            return await self._start_bare(command, more, stdin, files)

        def build(told: Descriptors) -> Sequence[str]:
            return argv(self._confinement(more, mounts, told), command, self.host)

        return await tree.start(build, files={**FILES, **files}, stdin=stdin, workdir=Path("/"))

    async def _start_bare(
        self, command: Sequence[str], more: Mapping[str, str], stdin: int, files: Mapping[str, bytes]
    ) -> Tree:
        work = self.spec.workspace
        told = environment(self.spec, more, home=str(work.home))
        moved = bare.place(files, self.spec.folder / "bare")
        return await bare.start(
            [bare.moved(each, moved) for each in command],
            environment=told,
            stdin=stdin,
            workdir=work.upper,
        )

    def _confinement(self, more: Mapping[str, str], mounts: Sequence[Mount], told: Descriptors) -> Confinement:
        spec, work, limits = self.spec, self.spec.workspace, self.spec.limits
        counted = self.group.limits
        own = [Mount(work.home, HOME_INSIDE, writable=True)]
        if work.kind is not WorkspaceKind.OVERLAY:
            own.append(Mount(work.upper, work.inside, writable=True))
        if work.objects is not None:
            own.append(Mount(work.objects, str(work.objects)))
        own += [Mount(path, str(path)) for path in spec.sandbox.readable]
        return Confinement(
            mounts=(*own, *mounts),
            workdir=work.inside,
            environment=environment(spec, more, home=HOME_INSIDE),
            overlay=self._overlay(),
            uid=spec.sandbox.uid,
            gid=spec.sandbox.gid,
            tmp_mib=limits.tmp_mib,
            file_mib=limits.disk_mib,
            processes=None if "pids" in counted else limits.pids,
            cgroups=self.group.joins,
            files=told.files,
            info_fd=told.info,
        )

    def _overlay(self) -> Overlay | None:
        work = self.spec.workspace
        if work.kind is not WorkspaceKind.OVERLAY or work.base is None or work.work is None:
            return None
        return Overlay(work.base, work.upper, work.work, work.inside)


async def finish(confined: Tree, *, within: float, unless: Coroutine[None, None, None]) -> int:
    """Wait for a sandbox that should end by itself; kill it when it does not, or earlier. Returns its exit code."""
    ended, cut_off = asyncio.create_task(confined.gone()), asyncio.create_task(unless)
    try:
        await asyncio.wait((ended, cut_off), timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        confined.kill()
        await cancel([ended, cut_off])
    await confined.gone()
    return confined.process.returncode or 0
