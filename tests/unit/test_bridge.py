"""What the bridge makes of messages, without servers."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from msgspec.structs import replace

from hl_platform.adapters.mqtt.packets import MqttMessage
from hl_platform.core.accounts import StageStats
from hl_platform.core.sections import ReadingSettings
from hl_platform.pipeline.bridge import Bridge
from hl_platform.pipeline.outgoing import Outgoing
from hl_platform.streams import load_streams

NOW = datetime(2026, 1, 3, 16, tzinfo=UTC)
TOPIC = "homelab/energy/meter1"
PAYLOAD = b'{"timestamp":"2026-01-03T16:00:00Z","total_energy_kwh":1,"power_kw":2}'


def carried(messages: list[MqttMessage]) -> list[Outgoing]:
    """The records that a bridge makes of messages."""
    records: list[Outgoing] = []

    def submit(some: Iterable[Outgoing]) -> None:
        records.extend(some)

    bridge = Bridge(
        service="bridge",
        streams={"energy": replace(load_streams()["energy"], retained="ingest")},
        session=cast(Any, None),
        make_outlet=lambda _: cast(Any, SimpleNamespace(submit=submit)),
        kafka_answers=True,
        rules=ReadingSettings(),
        stats=StageStats(),
        now=lambda: NOW,
        pulse=cast(Any, SimpleNamespace(missed=False)),
    )
    bridge._carry(messages)
    return records


def test_messages_of_one_topic_keep_their_own_flags_and_tokens() -> None:
    flags = [(1, False), (1, False), (0, False), (1, True), (0, True), (1, False)]
    records = carried(
        [MqttMessage(TOPIC, PAYLOAD, qos, retained, token) for token, (qos, retained) in enumerate(flags)]
    )
    sources = [json.loads(record.value)["source"] for record in records]
    assert [(source["qos"], source["retained"]) for source in sources] == flags
    assert [record.token for record in records] == list(range(len(flags)))


def test_the_dead_letter_of_a_message_acknowledges_it() -> None:
    good, bad = carried(
        [
            MqttMessage(TOPIC, payload, 1, retained=False, token=token)
            for token, payload in [(7, PAYLOAD), (8, b"{")]
        ]
    )
    assert (good.dead, good.token) == (False, 7)
    assert (bad.dead, bad.token) == (True, 8)
