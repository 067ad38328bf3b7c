"""A reading that a person sends through all stages to see whether they work, and how long each may take."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from hl_platform.core.streams import Field, Stream

# No device may use it: the sink keeps its readings in a table of their own, and the feed hands them only to who asks
# for this device by name. So no aggregate, no page and no table of readings ever holds one.
PROBE_DEVICE = "hl-probe"


class Stage(NamedTuple):
    """One step of a reading's way.

    Args:
        name: constant.
        title: for a person.
        behind: the stage that hands it over; empty for the device.
        budget_ms: how long it may take from there, in milliseconds.
    """

    name: str
    title: str
    behind: str
    budget_ms: float


STAGES = (
    Stage("mqtt", "device to MQTT", "", 100.0),
    Stage("kafka", "MQTT to Kafka", "mqtt", 200.0),
    Stage("row", "Kafka to row", "kafka", 500.0),
    Stage("frame", "Kafka to frame", "kafka", 100.0),
)
BUDGET_MS = 1_000.0
BY_NAME = {stage.name: stage for stage in STAGES}
# What the services measure of readings: the delay from the device to each stage.
MEASURES = tuple(f"device_to_{name}" for name in BY_NAME)


class Step(NamedTuple):
    """What became of a probe at a stage.

    Args:
        stream: whose probe.
        stage: which.
        outcome: `ok`; `slow` where it took longer than the budget; `failed` where it did not come in time; `skipped`
            where it had not come to the stage before.
        delay_ms: from the stage before, in milliseconds; None where it did not come.
    """

    stream: str
    stage: Stage
    outcome: str
    delay_ms: float | None


def measure_budget_ms(measure: str) -> float:
    """How long a delay from the device may be: the budgets of all stages on its way."""
    stage = BY_NAME.get(measure.removeprefix("device_to_"))
    total = 0.0
    while stage is not None:
        total += stage.budget_ms
        stage = BY_NAME.get(stage.behind)
    return total


def probe_topic(stream: Stream) -> str:
    """The MQTT topic of a stream's probe."""
    return stream.mqtt_filter.removesuffix("#") + PROBE_DEVICE


def make_probe(stream: Stream, sent_at: datetime) -> bytes:
    """A payload that the stream's declaration accepts.

    Args:
        stream: for which.
        sent_at: its timestamp, aware; tells it from other probes.
    """
    fields: dict[str, Any] = {field.name: _value_of(field) for field in stream.fields if field.required}
    if stream.device_id_field is not None:
        fields[stream.device_id_field] = PROBE_DEVICE
    return msgspec.json.encode({"timestamp": sent_at, **fields})


def plan_steps(stream: str, sent_s: float, arrivals: Mapping[str, float]) -> list[Step]:
    """What became of a probe, by stage.

    Args:
        stream: whose.
        sent_s: when it was sent, in seconds of any clock.
        arrivals: when it was seen at each stage that it came to, by the same clock.
    """
    steps: list[Step] = []
    for stage in STAGES:
        if stage.name not in arrivals:
            came_near = stage.behind in arrivals or not stage.behind
            steps.append(Step(stream, stage, "failed" if came_near else "skipped", None))
            continue
        # Whoever watches the stage before may see it later than who watches this one.
        delay_ms = max(0.0, (arrivals[stage.name] - arrivals.get(stage.behind, sent_s)) * 1000)
        steps.append(Step(stream, stage, "slow" if delay_ms > stage.budget_ms else "ok", delay_ms))
    return steps


def first_failed(steps: list[Step]) -> Stage | None:
    """The stage to look at: the first at which any probe failed; None where all came through."""
    failed = {step.stage.name for step in steps if step.outcome == "failed"}
    return next((stage for stage in STAGES if stage.name in failed), None)


def _value_of(field: Field) -> float | int | str | bool:
    if field.type == "text":
        return "probe"
    if field.type == "boolean":
        return False
    low, high = field.minimum, field.maximum
    value = low if low is not None else min(0.0, high) if high is not None else 0.0
    return value if field.type == "float" else int(value)
