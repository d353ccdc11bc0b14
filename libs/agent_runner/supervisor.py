"""The supervisor of one attempt: ``python -m agent_runner.supervisor SPEC``. Lives on when the executor dies; the agent
dies with it. It wires the parts and decides nothing that the executor should decide.
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from agent_runner.attempt import Attempt
from agent_runner.backends import UnknownBackend, backend
from agent_runner.box import Box
from agent_runner.chores import begin, cancel
from agent_runner.clock import elapsed
from agent_runner.collect import Collected, NotCollected
from agent_runner.delivery import Delivery
from agent_runner.ending import Cause, Ending
from agent_runner.gateway_client import Gateway, GatewayRefused, NotOurs
from agent_runner.journal import Journal
from agent_runner.keeper import Keeper
from agent_runner.note import AlreadyRuns, Notebook, locked, read_note, read_stop, replace
from agent_runner.observe import Observer
from agent_runner.protocol import (
    JOURNAL_FILE,
    OUT_DIR,
    RESULT_FILE,
    LaunchSpec,
    Phase,
    SandboxKind,
    StartedReport,
    StopAsk,
    SupervisorNote,
)
from agent_runner.result import Result, Witness, collected
from agent_runner.sandbox import cgroup
from agent_runner.sandbox.confinement import Host
from agent_runner.sandbox.host import describe
from agent_runner.sandbox.tree import start_time

#: How long a result is offered. Whoever comes later finds it on disk.
_PATIENCE: Final = 24 * 3600.0
_TRIES: Final = 100
_log: Final = logging.getLogger("agent_runner.supervisor")


class Supervisor:
    """The parts of one attempt, wired."""

    def __init__(self, spec: LaunchSpec) -> None:
        self._spec = spec
        self._began = elapsed()
        self._notes = Notebook(spec.folder, _first_note(spec))
        (spec.folder / OUT_DIR).mkdir(exist_ok=True, mode=0o700)
        self._gateway = Gateway(spec.gateway, spec.fence)
        self._journal = Journal(spec.folder / JOURNAL_FILE, spec.attempt_id)
        self._observer = Observer(spec.test_command)
        self._group = _group(spec)
        box = Box(spec, _host(spec), self._group)
        self._attempt = Attempt(spec, box, self._journal, self._observer)
        self._keeper = Keeper(self._gateway, spec.lease, seq=lambda: self._journal.last_seq, ends=self._attempt.ends)
        self._delivery = Delivery(self._gateway, self._journal, hears_stop=self._keeper.stop)

    async def supervise(self) -> None:
        """Do the attempt, from the first lease to the delivered result."""
        self._listen()
        if await self._keeper.first():
            await self._leased()
        await self._tidy()
        await self._gateway.close()
        self._leave()

    async def _leased(self) -> None:
        keeping = begin(self._keeper.keep(), fails=self._lost)
        try:
            ending = await self._run()
            if ending.leaves_a_result and not self._attempt.must_leave:
                await self._deliver(await self._result(ending))
        except NotOurs as error:
            self._attempt.ends(Ending(Cause.NOT_OURS, str(error)))
        finally:
            await cancel([keeping])

    async def _tidy(self) -> None:
        for _ in range(_TRIES):
            if self._group.remove():
                return
            await asyncio.sleep(0.02)

    def _lost(self, error: BaseException) -> None:
        """Without a keeper there is no lease."""
        _log.error("the lease is not kept any more", exc_info=error)
        self._attempt.ends(Ending(Cause.LEASE_LOST, f"The supervisor failed: {error!r}"))

    def _cut_off(self, error: BaseException) -> None:
        """A chore that speaks to the gateway ended for good."""
        if isinstance(error, NotOurs):
            self._attempt.ends(Ending(Cause.NOT_OURS, str(error)))
        elif isinstance(error, GatewayRefused):
            _log.warning("refused: %s", error)
        else:
            _log.error("a chore failed", exc_info=error)
            self._attempt.ends(Ending(Cause.SANDBOX, f"The supervisor failed: {error!r}", "sandbox_infra"))

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._stop)

    def _stop(self) -> None:
        default = StopAsk(sentence="The supervisor was asked to end (SIGTERM).")
        self._keeper.stop(read_stop(self._spec.folder) or default)

    async def _run(self) -> Ending:
        if self._attempt.ending is not None:  # stopped before it began
            return self._attempt.ending
        try:
            tree = await self._attempt.start(backend(self._spec.agent.backend))
        except UnknownBackend as error:
            return Ending(Cause.SANDBOX, str(error), "config_invalid")
        if tree is None:
            assert self._attempt.ending is not None
            return self._attempt.ending
        self._notes.agent(tree.top)
        telling = self._delivery.started(self._started(tree.top))
        chores = [begin(work, fails=self._cut_off) for work in (self._delivery.stream(), telling)]
        try:
            return await self._attempt.run(tree)
        finally:
            self._notes.write(phase=Phase.ENDING, last_seq=self._journal.last_seq, acked_seq=self._journal.acked_seq)
            await cancel(chores)

    def _started(self, agent_pid: int) -> StartedReport:
        return StartedReport(
            supervisor_pid=os.getpid(),
            agent_pid=agent_pid,
            base_commit=self._spec.workspace.base_commit,
            isolation=_isolation(self._spec, self._group),
        )

    async def _result(self, ending: Ending) -> Result:
        work, problem = Collected(), ""
        if ending.collects:
            try:
                work = await collected(self._spec, self._attempt)
            except NotCollected as error:
                problem = str(error)
                _log.warning("nothing collected: %s", problem)
        wall_ms = int((elapsed() - self._began) * 1000)
        witness = Witness(self._spec, self._attempt, self._observer, self._journal, wall_ms)
        return witness.result(ending, self._attempt.verdict(), work, problem)

    async def _deliver(self, result: Result) -> None:
        """Everything is on disk before it is told, so that whoever comes after us can tell it too."""
        await self._journal.sync()
        replace(self._spec.folder / RESULT_FILE, result.report.model_dump_json().encode())
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._delivery.finish(result.report, result.files)
        except GatewayRefused as error:
            _log.error("the result was refused: %s", error)
        except TimeoutError:
            _log.error("nobody took the result; it stays in %s", self._spec.folder)

    def _leave(self) -> None:
        ending = self._attempt.ending
        self._notes.write(
            phase=Phase.DONE,
            sentence=ending.sentence if ending else "",
            last_seq=self._journal.last_seq,
            acked_seq=self._journal.acked_seq,
        )
        self._journal.close()


def _first_note(spec: LaunchSpec) -> SupervisorNote:
    pid = os.getpid()
    return SupervisorNote(attempt_id=spec.attempt_id, pid=pid, pid_started=start_time(pid) or 0, phase=Phase.STARTING)


def _host(spec: LaunchSpec) -> Host:
    how = spec.sandbox
    by_bubblewrap = how.overlay_by == "bubblewrap"
    return describe(spec.folder / "stage", can_disable_userns=how.disable_userns, overlay_by_bubblewrap=by_bubblewrap)


def _group(spec: LaunchSpec) -> cgroup.Group:
    if spec.sandbox.kind is SandboxKind.NONE or not spec.sandbox.cgroups:
        return cgroup.Group(())
    limits = spec.limits
    caps = cgroup.Caps(limits.cpus, limits.memory_mib, limits.pids)
    return cgroup.make(spec.attempt_id.hex, caps, cgroup.controls())


def _isolation(spec: LaunchSpec, group: cgroup.Group) -> tuple[str, ...]:
    if spec.sandbox.kind is SandboxKind.NONE:
        return ("No sandbox: the agent runs with this user's own rights.",)
    held = sorted(group.limits)
    counted = f"cgroup holds {', '.join(held)}" if held else "no cgroup: limits are watched, not held"
    return ("bubblewrap: own namespaces, no network, read-only system", counted)


def run(spec_file: Path) -> int:
    """Supervise the attempt of a spec; return the exit code."""
    os.umask(0o077)
    spec = LaunchSpec.model_validate_json(spec_file.read_bytes())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        with locked(spec.folder, within=0.5):  # somebody may just be looking whether it is held
            if read_note(spec.folder) is not None:
                raise AlreadyRuns(f"{spec.folder}: this attempt was started before; it never starts twice")
            asyncio.run(_supervise(spec))
    except AlreadyRuns as error:
        _log.info("%s", error)
    return 0


async def _supervise(spec: LaunchSpec) -> None:
    await Supervisor(spec).supervise()


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m agent_runner.supervisor SPEC\n")
        return 2
    if os.getpgrp() != os.getpid():
        os.setsid()
    return run(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
