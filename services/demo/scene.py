"""What stands on the stage: people, a project and a work item in the local Plane, a repository, and the catalog.

Acts in Plane as a person would; tells the product only what a user would tell it, through the console's API.
"""

from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from dispatch_common import clock, ids
from dispatch_common.errors import Permanent
from services.demo import plane_rows, sample
from services.demo.client import Api
from services.demo.plane import LocalPlane
from services.demo.plane_hooks import Webhook
from services.demo.plane_state import ADMIN, Person

WORKSPACE: Final = "lab"
SOURCE: Final = "plane-local"
LABEL: Final = "agent:coder"
_PROJECT: Final = "7d49b8bb-2cd8-401a-b024-1bd8106b4e32"
_STATE: Final = ("In Review", "#8B5CF6", 40000.0, "started")
#: What stands in the catalog's files for addresses that are only known now.
_PLANE: Final = "http://127.0.0.1:8000"
_REPOSITORY: Final = "/srv/agent-dispatch/sample.git"


class CatalogChanged(Permanent):
    """The catalog's files do not hold the address that the demo replaces."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the story needs to know."""

    plane: LocalPlane
    alice: Person
    robot: Person
    item_id: str
    label_ids: tuple[str, ...]
    repository: Path

    @property
    def key(self) -> str:
        row = self.plane.state.items[self.item_id]
        return f"{self.plane.state.projects[row['project']]['identifier']}-{row['sequence_id']}"

    @property
    def title(self) -> str:
        return str(self.plane.state.items[self.item_id]["name"])

    @property
    def state(self) -> str:
        """Return the work item's state as people read it."""
        return str(self.plane.state.states[self.plane.state.items[self.item_id]["state"]]["name"])

    def comments(self) -> list[str]:
        """Return our comments on the work item, as HTML, oldest first."""
        found = self.plane.state.of_item(self.plane.state.comments, self.item_id)
        return [str(each["comment_html"]) for each in reversed(found) if each["actor"] == self.robot.id]

    def links(self) -> list[str]:
        return [str(each["url"]) for each in self.plane.state.of_item(self.plane.state.links, self.item_id)]

    def label(self) -> None:
        """Alice adds the label to the work item; Plane tells every webhook."""
        self.plane.state.patch_item(self.item_id, {"label_ids": list(self.label_ids)}, actor=self.alice.id, ui=True)


def build(plane: LocalPlane, folder: Path) -> Scene:
    """Put everything in place in Plane and on disk."""
    state = plane.state
    alice, robot = state.add_person("alice", ADMIN), state.add_person("agent-dispatch")
    project = state.add_project({"name": "Shop", "identifier": "DISP"}, actor=alice.id, project_id=_PROJECT)
    common = plane_rows.base(str(ids.fresh()), plane_rows.stamp(clock.now()), alice.id)
    review = plane_rows.state(common, project, *_STATE)
    state.states[review["id"]] = review
    label = state.add_label(_PROJECT, {"name": LABEL, "color": "#0ea5e9"}, actor=alice.id)
    skill = state.add_label(_PROJECT, {"name": "tests", "color": "#a3a3a3"}, actor=alice.id)
    text = f"{sample.STORY}<pre><code>{escape(sample.SCRIPT)}</code></pre>"
    asked = {"name": sample.TITLE, "description_html": text, "priority": "high", "labels": [skill["id"]]}
    item = state.create_item(_PROJECT, asked, actor=alice.id)
    return Scene(plane, alice, robot, item["id"], (skill["id"], label["id"]), sample.make(folder / "sample.git"))


def catalog(scene: Scene) -> list[tuple[str, str]]:
    """Return the catalog's files with the addresses of this very demo."""
    folder = files("services.demo") / "catalog"
    found = sorted((each.name, each.read_text()) for each in folder.iterdir() if each.name.endswith(".yaml"))
    whole = "".join(text for _, text in found)
    if _PLANE not in whole or _REPOSITORY not in whole:
        raise CatalogChanged
    return [
        (name, text.replace(_PLANE, scene.plane.url).replace(_REPOSITORY, str(scene.repository)))
        for name, text in found
    ]


async def introduce(api: Api, scene: Scene, receiver_url: str) -> Webhook:
    """Apply the catalog, set the secrets, and register the webhook in Plane, as the README tells a user to."""
    hook = scene.plane.add_webhook(f"{receiver_url}/webhooks/plane/{SOURCE}")
    await api.set_secret(f"{SOURCE}-webhook", hook.secret)
    await api.set_secret(f"{SOURCE}-token", scene.robot.token)
    await api.apply(catalog(scene))
    return hook
