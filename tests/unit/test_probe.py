"""Probes and what is concluded from where they come to."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.adapters.postgres.status import PipelineStatus, ServiceHolder
from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.lag import PartitionLag
from hl_platform.core.probe import (
    MEASURES,
    PROBE_DEVICE,
    STAGES,
    first_failed,
    make_probe,
    measure_budget_ms,
    plan_steps,
    probe_topic,
)
from hl_platform.core.readings import ReadingDecoder, Source
from hl_platform.core.sections import ReadingSettings
from hl_platform.core.streams import Field, Stream
from hl_platform.stack.check_advice import explain
from hl_platform.streams import load_streams

NOW = datetime(2026, 1, 3, 16, tzinfo=UTC)
LIMITS = st.none() | st.floats(-100, 100)


def outcomes(**arrivals: float) -> list[str]:
    return [step.outcome for step in plan_steps("energy", 0.0, arrivals)]


@pytest.mark.parametrize("stream", load_streams().values(), ids=lambda stream: stream.name)
def test_probe_is_valid_and_of_the_probe_device(stream: Stream):
    decoder = ReadingDecoder(stream, ReadingSettings())
    source = Source(probe_topic(stream), 1, retained=False, bridge="bridge")
    key, value = decoder.encode_record(make_probe(stream, NOW), NOW, source)
    reading = decoder.decode_record(value, key, NOW)
    assert (reading.device_id, reading.timestamp, reading.is_probe) == (PROBE_DEVICE, NOW, True)


def test_history_of_a_device_with_the_probes_name_is_rejected_and_not_lost():
    decoder = ReadingDecoder(load_streams()["energy"], ReadingSettings())
    with pytest.raises(PoisonRecordError, match="hl check"):
        decoder.encode_import(make_probe(load_streams()["energy"], NOW), PROBE_DEVICE, NOW, overwrite=False)


@given(LIMITS, LIMITS)
def test_probe_is_within_any_declared_limits(one: float | None, two: float | None):
    low, high = (min(one, two), max(one, two)) if one is not None and two is not None else (one, two)
    field = Field(name="x", type="float", kind="gauge", required=True, minimum=low, maximum=high)
    stream = Stream(name="s", mqtt_filter="a/s/#", kafka_topic="s", table="s", fields=(field,))
    value = make_probe(stream, NOW)
    ReadingDecoder(stream, ReadingSettings()).encode_record(value, NOW, Source("a/s/hl-probe", 1, False, "b"))  # noqa: FBT003


def test_budget_of_a_delay_is_that_of_all_stages_on_its_way():
    assert {measure: measure_budget_ms(measure) for measure in MEASURES} == {
        "device_to_mqtt": 100.0,
        "device_to_kafka": 300.0,
        "device_to_row": 800.0,
        "device_to_frame": 400.0,
    }


def test_every_stage_in_time_is_ok_and_one_beyond_its_budget_slow():
    assert outcomes(mqtt=0.05, kafka=0.2, row=0.9, frame=0.25) == ["ok", "ok", "slow", "ok"]


def test_row_that_does_not_come_does_not_hide_the_frame():
    assert outcomes(mqtt=0.01, kafka=0.02, frame=0.03) == ["ok", "ok", "failed", "ok"]


def test_what_lies_behind_a_failed_stage_is_skipped():
    assert outcomes(mqtt=0.01) == ["ok", "failed", "skipped", "skipped"]
    assert outcomes() == ["failed", "skipped", "skipped", "skipped"]


def test_stage_seen_before_the_one_that_hands_it_over_took_no_time():
    assert plan_steps("energy", 0.0, {"mqtt": 0.2, "kafka": 0.1})[1].delay_ms == 0


def test_first_failed_stage_is_the_one_to_look_at():
    steps = plan_steps("energy", 0.0, {"mqtt": 0.1, "kafka": 0.2}) + plan_steps("solar", 0.0, {"mqtt": 0.1})
    failed = first_failed(steps)
    assert failed is not None
    assert failed.name == "kafka"
    assert (
        first_failed(plan_steps("energy", 0.0, dict.fromkeys(("mqtt", "kafka", "row", "frame"), 0.1))) is None
    )


@pytest.mark.parametrize(
    ("released", "beat_age_s", "said"),
    [(True, 1.0, "is stopped"), (False, 60.0, "no heartbeat for 60 s"), (False, 0.2, "shows its heartbeat")],
)
def test_advice_tells_how_the_service_is(*, released: bool, beat_age_s: float, said: str):
    status = PipelineStatus([ServiceHolder("sink", "sink", 1, "h", released, 1.0, beat_age_s)], [], {}, {})
    steps = plan_steps("energy", 0.0, {"mqtt": 0.1, "kafka": 0.2})
    text = " ".join(explain(STAGES[2], steps, None, status, 3.0))
    assert said in text
    assert "`hl logs sink`" in text
    assert "energy" in text


def test_lag_is_a_warning_over_100_records_and_critical_over_1000():
    levels = [PartitionLag("g", "t", 0, 0, end).level for end in (0, 100, 101, 1_000, 1_001)]
    assert levels == ["ok", "ok", "warning", "warning", "critical"]


def test_position_behind_the_end_of_a_topic_made_anew_is_no_lag():
    assert PartitionLag("g", "t", 0, 50, 3).n_records == 0


def test_position_that_is_written_down_now_and_then_is_not_judged():
    assert PartitionLag("g", "t", 0, 0, 5_000, is_exact=False).level == "shown"
