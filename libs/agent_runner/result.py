"""What an attempt leaves: bundle, manifest, output, and the report that names them. Files first, then told."""

import asyncio
import hashlib
import os
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_runner import collect
from agent_runner.attempt import Attempt
from agent_runner.backends import AgentVerdict
from agent_runner.box import finish
from agent_runner.collect import Collected, NotCollected
from agent_runner.ending import Ending, Judgement, judge
from agent_runner.journal import Journal
from agent_runner.observe import Observer
from agent_runner.protocol import OUT_DIR, Blob, LaunchSpec, Outcome, ResultManifest, ResultReport, UsageReport
from agent_runner.sandbox.tree import SandboxBroken

_MIB: Final = 1024 * 1024


async def collected(spec: LaunchSpec, attempt: Attempt) -> Collected:
    """Turn the work into a bundle, inside a sandbox. Raises NotCollected when that is not possible."""
    box = attempt.box
    if spec.workspace.base_commit is None or spec.workspace.branch is None:
        return Collected()
    shutil.rmtree(box.out, ignore_errors=True)
    box.out.mkdir(mode=0o700)
    if os.geteuid() == 0 and spec.sandbox.uid is not None:
        os.chown(box.out, spec.sandbox.uid, spec.sandbox.uid if spec.sandbox.gid is None else spec.sandbox.gid)
    try:
        tree = await box.start_collecting()
    except SandboxBroken as error:
        raise NotCollected(str(error)) from error
    draining = asyncio.create_task(tree.process.communicate())
    code = await finish(tree, within=spec.limits.collect_seconds, unless=attempt.not_wanted())
    _, said = await draining
    if code != 0:
        why = collect.WHAT_FAILED.get(code, f"it took longer than {spec.limits.collect_seconds:g} s or was killed")
        raise NotCollected(f"{why}: {said.decode(errors='replace').strip()[-500:]}")
    try:
        return collect.read(box.out, spec.folder / OUT_DIR, bundle_limit=spec.limits.bundle_mib * _MIB)
    finally:
        shutil.rmtree(box.out, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Result:
    """The report, and the files it names."""

    report: ResultReport
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Witness:
    """All that was seen of an attempt, from which its result is made."""

    spec: LaunchSpec
    attempt: Attempt
    observer: Observer
    journal: Journal
    wall_ms: int

    def usage(self) -> UsageReport:
        """Return what the host measured; without a cgroup, what the kernel counted of our children."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        counted = self.attempt.box.group.cpu_ms()
        peak = self.attempt.watchdog.peak_memory_mib
        return UsageReport(
            wall_ms=self.wall_ms,
            cpu_ms=counted if counted is not None else int((children.ru_utime + children.ru_stime) * 1000),
            peak_memory_mib=peak or children.ru_maxrss // 1024,
            input_tokens=self.observer.input_tokens,
            output_tokens=self.observer.output_tokens,
            money_microusd=self.observer.money_microusd,
        )

    def result(self, ending: Ending, agent: AgentVerdict, work: Collected, problem: str) -> Result:
        """Write the files and the report that names them."""
        judged = judge(ending, agent, self.observer.violations)
        if problem and judged.outcome is Outcome.SUCCEEDED:
            judged = Judgement(
                Outcome.FAILED,
                "workspace_failed",
                _not_taken(problem),
                judged.summary,
            )
        usage = self.usage()
        files = self._write(work, usage)
        blobs = {name: blob_of(path) for name, path in files.items()}
        ended = self.attempt.exit
        report = ResultReport(
            outcome=judged.outcome,
            family=judged.family,
            sentence=judged.sentence,
            summary=judged.summary,
            exit_code=ended.code,
            signal=ended.signal,
            base_commit=self.spec.workspace.base_commit,
            commit=work.commit,
            bundle=blobs.get("bundle"),
            manifest=blobs.get("manifest"),
            stdout=blobs.get("stdout"),
            stderr=blobs.get("stderr"),
            files_changed=work.files_changed,
            last_seq=self.journal.last_seq,
            usage=usage,
        )
        return Result(report, tuple(files.values()))

    def _write(self, work: Collected, usage: UsageReport) -> dict[str, Path]:
        out = self.spec.folder / OUT_DIR
        manifest = ResultManifest(
            base_commit=self.spec.workspace.base_commit,
            commit=work.commit,
            files=work.files,
            files_truncated=work.files_changed > len(work.files),
            commits=work.commits,
            commands=self.observer.commands,
            tests=self.observer.tests,
            garbage_lines=self.observer.garbage_lines,
            dropped_events=self.journal.dropped,
            usage=usage,
        )
        (out / "manifest.json").write_bytes(manifest.model_dump_json().encode())
        self.attempt.stdout.write(out / "stdout")
        self.attempt.stderr.write(out / "stderr")
        names = {"manifest": "manifest.json", "stdout": "stdout", "stderr": "stderr"}
        if work.commit is not None:
            names["bundle"] = "bundle"
        return {field: out / name for field, name in names.items()}


def _not_taken(problem: str) -> str:
    return f"The agent's work could not be taken along: {problem}"


def blob_of(path: Path) -> Blob:
    raw = path.read_bytes()
    return Blob(digest=hashlib.sha256(raw).hexdigest(), size=len(raw))
