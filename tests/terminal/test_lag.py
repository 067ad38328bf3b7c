"""`hl lag` on a running household."""

from tests.terminal.flow import Flow


def test_every_partition_of_every_sink_is_shown_with_its_end(flow: Flow):
    places = flow.hl_json("lag")
    sinks = [place for place in places if place["consumer_group"].startswith("timescaledb-")]
    assert len(sinks) == sum(stream.kafka_partitions for stream in flow.streams.values())
    assert all(place["end_offset"] - place["next_offset"] == place["lag"] for place in sinks)


def test_sink_that_is_far_behind_is_critical_until_it_has_caught_up(flow: Flow):
    with flow.without("sink"):
        flow.produce("meter1", [float(number) for number in range(1_200)])
        behind = flow.hl("lag")
        places = flow.hl_json("lag")
    assert behind.exit_code == 1
    # The feed has taken what there is, or is about to.
    sinks = [place for place in places if place["consumer_group"].startswith("timescaledb-")]
    assert {place["lag"] for place in sinks if place["level"] == "critical"} == {1_200}
    assert "1,200" in behind.stdout
