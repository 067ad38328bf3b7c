"""A probe of `hl check` goes to who named its device, and to nobody else, in any way."""

import asyncio

from hl_platform.core.probe import PROBE_DEVICE
from tests.unit.feed_parts import Client, House


def test_new_probe_goes_only_to_who_named_its_device() -> None:
    house = House()
    everyone = house.client().subscribe("energy")
    sender = house.client().subscribe("energy", device_id=[PROBE_DEVICE])
    house.publish(["m1", PROBE_DEVICE, "m1"])
    everyone.read()
    sender.read()
    assert (everyone.offsets(), sender.offsets()) == ([0, 2], [1])


def test_snapshot_holds_no_probe() -> None:
    house = House()
    house.publish([PROBE_DEVICE, "m1"])
    client = house.client().subscribe("energy")
    client.read()
    assert [message["device_id"] for message in client.of("data")] == ["m1"]


def test_client_that_goes_on_where_it_was_is_told_of_no_probe() -> None:
    async def run() -> Client:
        house = House()
        house.publish(["m1", PROBE_DEVICE, "m1"])
        client = house.client().subscribe("energy", positions={"energy": {"0": 0}})
        await client.settle()
        return client

    assert asyncio.run(run()).offsets() == [0, 2]
