"""What really comes to stand outside: the worst target there is, which makes everything twice that is written twice."""

from dispatch_common.events import PublishRequested
from dispatch_common.invariants import EffectSeen
from services.result_publisher.protocol import Kind, Seen
from tests.simulation.world import Name, World


def look(world: World, name: Name, kind: Kind) -> Seen:
    """Read the outside: a branch by its name, everything else by its key."""
    mine = [each for each in world.outside if (each.run_id, each.kind) == (name[0], kind.value)]
    if kind is Kind.BRANCH:
        wanted = content(world, name)
        return Seen.ABSENT if not mine else Seen.STANDS if mine[-1].content == wanted else Seen.FOREIGN
    return Seen.STANDS if any(each.revision == name[1] for each in mine) else Seen.ABSENT


def stands(world: World, name: Name, kind: Kind) -> None:
    """Make it stand outside, once more if it stood already: the worst target there is. Only names and states cannot."""
    there = look(world, name, kind)
    if kind in (Kind.BRANCH, Kind.STATE) and there is Seen.STANDS:
        return
    world.outside += (EffectSeen(name[0], name[1], kind.value, content(world, name), world.moment),)


def content(world: World, name: Name) -> str:
    request = world.publications[name].request
    return (request.result.commit or "") if isinstance(request, PublishRequested) else "notice"
