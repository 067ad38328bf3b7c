"""The alarm of the broker's queue: from 80 % of its bound, and over when it has emptied."""

import pytest

from hl_platform.core.accounts import StageStats
from hl_platform.core.sections import MqttSettings
from hl_platform.pipeline.mqtt_queue import CODE, MqttQueueAlarm


@pytest.mark.parametrize(("n_bytes", "raised"), [(0, False), (799, False), (800, True), (2_000, True)])
def test_alarm_begins_at_80_percent(n_bytes: int, raised: bool) -> None:  # noqa: FBT001
    stats = StageStats()
    MqttQueueAlarm(MqttSettings(host="broker", max_queued_bytes=1_000), "bridge", stats).look(n_bytes)
    assert (("", CODE) in stats.alerts) is raised


def test_alarm_ends_when_the_queue_has_emptied() -> None:
    stats = StageStats()
    alarm = MqttQueueAlarm(MqttSettings(host="broker", max_queued_bytes=1_000), "bridge", stats)
    alarm.look(900)
    alarm.look(100)
    assert stats.alerts == {}
