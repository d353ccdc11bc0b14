"""From a genuine delivery to TaskReceived, through a real Plane API, a real database and a real broker."""

from dispatch_common.values import Trust
from tests.support.receiver import SECRET, World


async def test_a_labelled_item_is_handed_over_within_one_reading(world: World):
    world.plane.add_webhook(f"{world.http.base_url}/webhooks/plane/plane", secret=SECRET)
    item = world.item(labels=(world.label,))
    await world.plane.hooks.idle()

    (fact,) = await world.told()

    assert fact.snapshot.key == "DISP-1"
    assert fact.snapshot.object_id == item
    assert fact.snapshot.repository == "app"
    assert [want.key for want in fact.wanted] == ["label:agent:coder"]
    assert (fact.actor.id, fact.may_start) == (world.alice.id, True)
    assert fact.snapshot.author_trust is Trust.MEMBER
