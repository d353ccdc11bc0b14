"""One agent from its start to the moment when nothing of it lives: reads it, limits it, ends it. Knows no gateway."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from agent_runner.backends import AgentVerdict, Backend, Exit, Reader
from agent_runner.box import Box
from agent_runner.capture import Kept, Lines, chunks
from agent_runner.chores import begin, cancel
from agent_runner.clock import elapsed
from agent_runner.ending import Cause, Ending, broken_limit, idle, wall
from agent_runner.journal import Journal
from agent_runner.observe import Observer
from agent_runner.protocol import AgentEvent, ErrorSeen, LaunchSpec, SandboxViolation
from agent_runner.sandbox.tree import SandboxBroken, Tree
from agent_runner.watchdog import Watchdog

_MIB: Final = 1024 * 1024
_DRAIN_SECONDS: Final = 5.0
_TOLD_GARBAGE: Final = 3
_NO_PROGRAM: Final = "bwrap: execvp"


class Attempt:
    """Runs the agent once. ``ends`` may be called by anybody at any time; the first reason counts."""

    def __init__(self, spec: LaunchSpec, box: Box, journal: Journal, observer: Observer) -> None:
        self._spec = spec
        self.box = box
        self._journal = journal
        self._observer = observer
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._no_grace = asyncio.Event()
        self._heard_at = elapsed()
        self.stdout = Kept(spec.limits.output_mib * _MIB)
        self.stderr = Kept(spec.limits.output_mib * _MIB)
        self.watchdog = Watchdog(spec.limits, box.group, tells=self.tell, breaks=self._broken)
        self.tree: Tree | None = None
        self.exit = Exit(None, None)
        self.reader: Reader | None = None

    def ends(self, ending: Ending) -> None:
        """Take a reason to end. A lost lease or a newer attempt also cuts short the grace of an earlier reason."""
        if not ending.leaves_a_result:
            self._no_grace.set()
        if not self._ending.done():
            self._ending.set_result(ending)

    @property
    def ending(self) -> Ending | None:
        return self._ending.result() if self._ending.done() else None

    async def not_wanted(self) -> None:
        """Wait until nobody wants this attempt any more."""
        await self._no_grace.wait()

    @property
    def must_leave(self) -> bool:
        """Whether nobody wants to hear of this attempt any more."""
        return self._no_grace.is_set()

    def tell(self, event: AgentEvent) -> None:
        """Put an event into the stream."""
        self._observer.see(event)
        self._journal.append(event)

    def _failed(self, error: BaseException) -> None:
        """An agent that is not read or not watched must not go on."""
        self.ends(Ending(Cause.SANDBOX, f"The supervisor failed: {error!r}", "sandbox_infra"))

    def _broken(self, violation: SandboxViolation) -> None:
        if self.ending is None:
            self.tell(violation)
            self.ends(broken_limit(violation))

    async def start(self, chosen: Backend) -> Tree | None:
        """Start the agent; None when the sandbox could not be set up, which is an ending too."""
        self.reader = chosen.reader()
        try:
            self.tree = await self.box.start_agent(chosen.command(self._spec))
        except SandboxBroken as error:
            self.ends(Ending(Cause.SANDBOX, f"{error} Run 'dispatch doctor' on this host.", "sandbox_infra"))
            return None
        self._heard_at = elapsed()
        return self.tree

    def verdict(self) -> AgentVerdict:
        """Return what its backend makes of the agent's end."""
        if self.reader is None or self.tree is None:
            return AgentVerdict(False, "unknown", "The agent was never started.")
        if self.exit.code == 1 and self.exit.stderr_tail.startswith(_NO_PROGRAM):
            missing = f"The program of the backend {self._spec.agent.backend!r} is not on this host."
            return AgentVerdict(False, "cli_missing", f"{missing} It said: {self.exit.stderr_tail}")
        return self.reader.verdict(self.exit)

    async def run(self, tree: Tree) -> Ending:
        """Follow the agent until nothing of it lives; return why."""
        work = self._spec.workspace
        readers = [begin(each, fails=self._failed) for each in (self._read_stdout(tree), self._read_stderr(tree))]
        watching = self.watchdog.watch(tree, work.upper, work.home)
        others = [begin(each, fails=self._failed) for each in (self._clocks(), self._exits(tree), watching)]
        try:
            ending = await asyncio.shield(self._ending)
            await self._bring_down(tree, ending)
            await asyncio.wait(readers, timeout=_DRAIN_SECONDS)
        finally:
            tree.kill()
            await cancel([*readers, *others])
        self.watchdog.look_at_group()
        code = tree.process.returncode
        self.exit = Exit(code, code - 128 if code is not None and code > 128 else None, self.stderr.tail())
        return ending

    async def _exits(self, tree: Tree) -> None:
        await tree.gone()
        self.ends(Ending(Cause.EXITED))

    async def _clocks(self) -> None:
        limits, began = self._spec.limits, elapsed()
        while True:
            now = elapsed()
            wall_left = began + limits.wall_seconds - now
            idle_left = self._heard_at + limits.idle_seconds - now
            if wall_left <= 0:
                return self.ends(wall(limits))
            if idle_left <= 0:
                return self.ends(idle(limits))
            await asyncio.sleep(min(wall_left, idle_left))

    async def _bring_down(self, tree: Tree, ending: Ending) -> None:
        if ending.is_graceful and not tree.is_gone:
            tree.ask_to_end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._spec.limits.stop_grace_seconds):
                    await self._grace(tree)
        self.box.group.lift_cpu()
        while not tree.is_gone:
            tree.kill()
            self.box.group.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await tree.gone()
        await tree.gone()

    async def _grace(self, tree: Tree) -> None:
        """Wait until the agent has ended by itself, or there is no time for that any more."""
        cut_short = asyncio.create_task(self._no_grace.wait())
        ended = asyncio.create_task(tree.gone())
        try:
            await asyncio.wait((cut_short, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            cut_short.cancel()
            ended.cancel()

    async def _read_stdout(self, tree: Tree) -> None:
        assert tree.process.stdout is not None
        lines = Lines()
        async for chunk in chunks(tree.process.stdout, self.stdout):
            self._heard_at = elapsed()
            self._understand(lines.feed(chunk))
            await self._journal.room()
        self._understand(lines.rest())

    async def _read_stderr(self, tree: Tree) -> None:
        assert tree.process.stderr is not None
        async for _ in chunks(tree.process.stderr, self.stderr):
            self._heard_at = elapsed()

    def _understand(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            events = self.reader.events(line) if self.reader else ()
            for event in events or ():
                self.tell(event)
            if events is None:
                self._garbage(line)

    def _garbage(self, line: bytes) -> None:
        self._observer.garbage_lines += 1
        if self._observer.garbage_lines <= _TOLD_GARBAGE:
            shown = line[:200].decode(errors="replace")
            self.tell(ErrorSeen(text=f"The agent printed a line that its backend does not understand: {shown}"))
