"""What the local Plane answers to each call: one small function per call, from state to (status, body)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from services.demo import plane_rows as rows
from services.demo.plane_rows import Row
from services.demo.plane_state import FORBIDDEN, MEMBER, NO_SUCH, PlaneAnswer, PlaneState

Answer: TypeAlias = tuple[int, Any]
LARGEST_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    state: PlaneState
    actor: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Row

    @property
    def project(self) -> str:
        return self.path["project"]


def me(call: Call) -> Answer:
    return 200, rows.user_lite(call.state.users[call.actor])


def workspace_members(call: Call) -> Answer:
    users = call.state.users
    return 200, [rows.user_lite(users[each]) | {"role": role} for each, role in call.state.roles.items()]


def project_members(call: Call) -> Answer:
    return 200, [rows.user_lite(call.state.users[each]) for each in call.state.project_roles[call.project]]


def add_member(call: Call) -> Answer:
    member, role = call.body["member"], int(call.body.get("role", MEMBER))
    call.state.project_roles[call.project][member] = role
    return 201, {"id": member, "member": member, "role": role}


def projects(call: Call) -> Answer:
    return 200, _page(call, [_project(call, each) for each in call.state.projects.values()])


def add_project(call: Call) -> Answer:
    return 201, _project(call, call.state.add_project(call.body, actor=call.actor))


def project(call: Call) -> Answer:
    return 200, _project(call, call.state.projects[call.project])


def patch_project(call: Call) -> Answer:
    return 200, _project(call, call.state.patch_project(call.project, call.body, actor=call.actor))


def states(call: Call) -> Answer:
    return 200, _page(call, [each for each in call.state.states.values() if each["project"] == call.project])


def labels(call: Call) -> Answer:
    return 200, _page(call, [each for each in call.state.labels.values() if each["project"] == call.project][::-1])


def add_label(call: Call) -> Answer:
    return 201, call.state.add_label(call.project, call.body, actor=call.actor)


def patch_label(call: Call) -> Answer:
    row = call.state.labels.get(call.path["label"])
    if row is None:
        raise PlaneAnswer(404, NO_SUCH)
    row.update({key: value for key, value in call.body.items() if key in ("name", "color", "description")})
    row["updated_by"] = call.actor
    return 200, row


def items(call: Call) -> Answer:
    source, external = call.query.get("external_source"), call.query.get("external_id")
    if source and external:
        found = call.state.item_by_external(call.project, source, external)
        if found is None:
            raise PlaneAnswer(404, NO_SUCH)
        return 200, _shown(call, found)
    order = call.query.get("order_by", "-created_at")
    of_project = [each for each in call.state.items.values() if each["project"] == call.project]
    key = order.lstrip("-")
    of_project.sort(key=lambda each: (each.get(key) is not None, each.get(key)), reverse=order.startswith("-"))
    return 200, _page(call, [_shown(call, each) for each in of_project])


def add_item(call: Call) -> Answer:
    return 201, call.state.create_item(call.project, call.body, actor=call.actor)


def item(call: Call) -> Answer:
    return 200, _shown(call, _item(call))


def item_by_key(call: Call) -> Answer:
    identifier, _, number = call.path["key"].rpartition("-")
    for each in call.state.items.values():
        of_project = call.state.projects[each["project"]]
        if of_project["identifier"] == identifier and str(each["sequence_id"]) == number:
            return 200, _shown(call, each)
    raise PlaneAnswer(404, NO_SUCH)


def patch_item(call: Call) -> Answer:
    return 200, call.state.patch_item(_item(call)["id"], call.body, actor=call.actor)


def delete_item(call: Call) -> Answer:
    call.state.delete_item(_item(call)["id"])
    return 204, None


def comments(call: Call) -> Answer:
    found = call.state.of_item(call.state.comments, _item(call)["id"])
    return 200, _page(call, [{"is_member": each["actor"] in call.state.roles} | each for each in found])


def comment(call: Call) -> Answer:
    return 200, _comment(call)


def add_comment(call: Call) -> Answer:
    row = call.state.add_comment(_item(call)["id"], call.body, actor=call.actor)
    # The real answer names the claimed author; what is stored, and what webhooks say, is the true one.
    return 201, row | {"updated_by": row["created_by"], "actor": row["created_by"]}


def patch_comment(call: Call) -> Answer:
    return 200, call.state.patch_comment(_own_comment(call)["id"], call.body, actor=call.actor)


def delete_comment(call: Call) -> Answer:
    del call.state.comments[_own_comment(call)["id"]]
    return 204, None


def links(call: Call) -> Answer:
    return 200, _page(call, call.state.of_item(call.state.links, _item(call)["id"]))


def add_link(call: Call) -> Answer:
    return 201, call.state.add_link(_item(call)["id"], call.body, actor=call.actor)


def delete_link(call: Call) -> Answer:
    if call.state.links.pop(call.path["link"], None) is None:
        raise PlaneAnswer(404, NO_SUCH)
    return 204, None


def activities(call: Call) -> Answer:
    wanted = _item(call)["id"]
    return 200, _page(call, [each for each in call.state.activities if each["issue"] == wanted])


def _project(call: Call, row: Row) -> Row:
    members = call.state.project_roles[row["id"]]
    return rows.project_answer(row, role=members.get(call.actor, 0), members=len(members))


def _item(call: Call) -> Row:
    row = call.state.items.get(call.path["item"])
    if row is None or row["project"] != call.project:
        raise PlaneAnswer(404, NO_SUCH)
    return row


def _comment(call: Call) -> Row:
    row = call.state.comments.get(call.path["comment"])
    if row is None or row["issue"] != _item(call)["id"]:
        raise PlaneAnswer(404, NO_SUCH)
    return row


def _own_comment(call: Call) -> Row:
    row = _comment(call)
    if row["actor"] != call.actor and call.state.roles.get(call.actor, 0) < MEMBER:
        raise PlaneAnswer(403, FORBIDDEN)
    return row


def _shown(call: Call, row: Row) -> Row:
    expand = set(call.query.get("expand", "").split(","))
    shown = dict(row)
    if "labels" in expand:
        shown["labels"] = [call.state.labels[each] for each in row["labels"]]
    if "assignees" in expand:
        shown["assignees"] = [rows.user_lite(call.state.users[each]) for each in row["assignees"]]
    if "state" in expand:
        shown["state"] = rows.state_expanded(call.state.states[row["state"]])
    if "project" in expand:
        shown["project"] = rows.project_expanded(call.state.projects[row["project"]])
    fields = call.query.get("fields")
    return rows.only(shown, fields.split(",")) if fields else shown


def _page(call: Call, found: list[Row]) -> Row:
    asked = call.query.get("per_page", str(LARGEST_PAGE))
    if not asked.isdigit() or not 1 <= int(asked) <= LARGEST_PAGE:
        raise PlaneAnswer(400, {"detail": f"Invalid per_page value. Cannot exceed {LARGEST_PAGE}."})
    return rows.page(found, per_page=int(asked), cursor=call.query.get("cursor"))
