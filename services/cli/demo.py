"""`dispatch demo`: one work item from its label to the published result, on servers that exist only for the demo.

Everything is in a temporary folder; nothing of it stays, and nothing is left running.
"""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, cast

import httpx
import orjson
import typer
import uvloop

from dispatch_common import clock, service, telemetry
from dispatch_common.errors import DispatchError
from dispatch_common.settings import Settings
from services.cli import stack
from services.demo import scene as scenery
from services.demo.client import Api, Run
from services.demo.plane import LocalPlane, local_plane
from services.demo.scene import Scene
from services.demo.show import JsonLines, Line, Show, Terminal
from services.demo.story import Story, StoryBroke

_KEEP: Final = typer.Option("--keep", help="Leave everything running until Ctrl-C, to look around.")
_JSON: Final = typer.Option("--json", help="One JSON object per line instead of text.")
_STOPPED: Final = 130
_LOG_LINES: Final = 5
_END_PATIENCE: Final = timedelta(seconds=20)
_WHAT: Final = (
    "The servers, the services, the sandbox, git and the protocol between them are the real ones.",
    "The agent is the built-in scripted one: a real process in the sandbox, following a script. No model is involved.",
    "Plane is a small local stand-in, made from recorded requests and answers. The forge is a git repository on disk.",
)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("demo")(demo)


def demo(keep: Annotated[bool, _KEEP] = False, as_json: Annotated[bool, _JSON] = False) -> None:
    """Show one task on its way from a Plane webhook to a pull request. Takes seconds and leaves nothing behind."""
    show = JsonLines() if as_json else Terminal()
    raise typer.Exit(uvloop.run(_demo(show, keep=keep)))


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs for the demo."""

    started: stack.Stack
    plane: LocalPlane
    api: Api
    scene: Scene
    story: Story


async def _demo(show: Show, *, keep: bool) -> int:
    folder = Path(tempfile.mkdtemp(prefix="agent-dispatch-demo-"))
    log = folder / "demo.log"
    code = 1
    try:
        async with service.stop_signals() as stop:
            play = asyncio.create_task(_play(show, folder, log, keep=keep))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([play, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            play.cancel()
            code = await _code_of(play, show, log)
    finally:
        shutil.rmtree(folder, ignore_errors=code != 0)
    return code


async def _code_of(play: asyncio.Task[None], show: Show, log: Path) -> int:
    try:
        await play
    except asyncio.CancelledError:
        show.tell(Line("note", "Stopped. Nothing was left behind."))
        return _STOPPED
    except Exception as error:  # noqa: BLE001 - the process's edge: whatever it was is told, with where to look
        _tell_failure(error, show, log)
        return 1
    return 0


async def _play(show: Show, folder: Path, log: Path, *, keep: bool) -> None:
    show.tell(Line("title", "Agent Dispatch: from a label to a pull request"))
    for sentence in _WHAT:
        show.tell(Line("intro", sentence))
    show.tell(Line("title", "Setting up"))
    show.tell(Line("note", "nats-server, PostgreSQL and the services start in a temporary folder", "servers"))
    began = clock.monotonic()
    async with _stage(show, folder, log) as stage:
        show.tell(Line("note", f"ready after {clock.monotonic() - began:.1f} s", "set-up"))
        show.tell(Line("title", "What happens"))
        try:
            run = await _told(stage)
        except StoryBroke as error:
            if keep:
                show.tell(Line("failure", str(error), "failed"))
                await _stay(show, stage)
            raise
        _tell_commands(show, stage, run.short, keep=keep)
        if keep:
            await _stay(show, stage)


async def _stay(show: Show, stage: Stage) -> None:
    """Stay up until Ctrl-C, reachable for the command line as with `up`."""
    urls = stage.started.urls
    stack.write_ready(stage.started.settings.data / stack.READY_FILE, stage.started.document())
    for name, url in (("console", urls["console"]), ("Plane", stage.plane.item_url(stage.scene.item_id))):
        show.tell(Line("result", url, name))
    show.tell(Line("note", "Everything stays up until Ctrl-C, then all of it is removed."))
    with contextlib.suppress(asyncio.CancelledError):  # a Ctrl-C now is the good end
        await stage.started.watch()


async def _told(stage: Stage) -> Run:
    """Return the run once the story is told, or raise what ended a service meanwhile."""
    telling = asyncio.create_task(stage.story.tell())
    dying = asyncio.create_task(stage.started.watch())
    try:
        await asyncio.wait([telling, dying], return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            dying.result()
        return await telling
    finally:
        for task in (telling, dying):
            task.cancel()
        await asyncio.gather(telling, dying, return_exceptions=True)


@asynccontextmanager
async def _stage(show: Show, folder: Path, log: Path) -> AsyncGenerator[Stage]:
    settings = _settings(folder)
    telemetry.setup(settings, "dispatch-demo")
    with _logging_to(log):
        async with local_plane(slug=scenery.WORKSPACE) as plane, stack.running(settings) as started:
            show.tell(Line("note", "all of them answer", "services"))
            token = await asyncio.to_thread((started.token_file or folder).read_text)
            async with Api(started.urls["console"], token.strip()) as api:
                scene = scenery.build(plane, folder)
                show.tell(Line("note", f"{scene.repository.name}, a small Python project with a flaky test", "sample"))
                hook = await scenery.introduce(api, scene, started.urls["receiver"])
                show.tell(Line("note", "coders Vega and Rigel, ops Altair, docs Lyra, reviewer Sirius", "catalog"))
                try:
                    yield Stage(started, plane, api, scene, Story(api, scene, hook, show))
                finally:
                    await _end_agents(api)


def _settings(folder: Path) -> Settings:
    """Nothing of the user's own installation is read or touched, whatever the environment says."""
    return Settings(
        org="default",
        data=folder / "data",
        kek_file=folder / "master.key",
        nats_url="",
        database_url="",
        receiver_url="",
        receiver_port=0,
        console_port=0,
        public_url="",
        ops_port=0,
    )


@contextlib.contextmanager
def _logging_to(log: Path) -> Generator[None]:
    """The log goes to a file; the terminal is for the story."""
    root = logging.getLogger()
    before = list(root.handlers)
    handler = logging.FileHandler(log)
    handler.setFormatter(before[0].formatter)
    root.handlers[:] = [handler]
    try:
        yield
    finally:
        root.handlers[:] = before
        handler.close()


async def _end_agents(api: Api) -> None:
    """Agents survive the services on purpose; the demo's must not."""
    with contextlib.suppress(DispatchError, httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(_END_PATIENCE.total_seconds()):
            while live := await api.live_runs():
                for run in live:
                    await api.cancel(run.id)
                await asyncio.sleep(0.1)


def _tell_commands(show: Show, stage: Stage, run: str, *, keep: bool) -> None:
    show.tell(Line("title", "To look further" if keep else "To look further, keep it up: make demo KEEP=1, and then"))
    if keep:
        show.tell(Line("command", f"export DISPATCH_DATA={stage.started.settings.data}"))
    for command in ("inspect", "why", "logs"):
        show.tell(Line("command", f"dispatch {command} {run}"))
    show.tell(Line("command", "dispatch get deliveries"))
    show.tell(Line("command", "dispatch pulls view sample/1"))
    # In this order: until the fix is merged the sample's test is flaky, and so is whatever runs it.
    show.tell(Line("command", "dispatch pulls merge sample/1"))
    show.tell(Line("command", 'dispatch run "Say hello" --repo sample --role docs --follow'))
    if keep:
        show.tell(Line("command", f"git -C {stage.scene.repository} log --oneline --all"))


def _first(error: Exception) -> Exception:
    group = cast("ExceptionGroup[Exception]", error)
    return _first(group.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def _tell_failure(error: Exception, show: Show, log: Path) -> None:
    first = _first(error)
    show.tell(Line("failure", str(first) or type(first).__name__, "failed"))
    if not log.exists():
        return
    kept = Path(tempfile.gettempdir()) / f"{log.parent.name}.log"
    shutil.copy(log, kept)
    for sentence in _warnings(log)[-_LOG_LINES:]:
        show.tell(Line("note", sentence, "log"))
    show.tell(
        Line("failure", f"The whole log is in {kept}; try again with make demo KEEP=1 to look around.", "look at")
    )


def _warnings(log: Path) -> list[str]:
    found: list[str] = []
    for raw in log.read_bytes().splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            line = orjson.loads(raw)
            if line.get("level") in ("warning", "error", "critical"):
                told = {
                    name: line[name] for name in ("service", "reason", "sweep", "task", "exception") if name in line
                }
                found.append(f"{line.get('event')} {' '.join(f'{k}={str(v)[-300:]}' for k, v in told.items())}")
    return found
