"""What a monitoring system scrapes of a running household."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.home import eventually
from tests.terminal.flow import Flow

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(flow: Flow) -> Samples:
    text = flow.get("/metrics").raise_for_status().text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    found = [
        number for (known, has), number in samples.items() if known == name and labels.items() <= set(has)
    ]
    return sum(found) if found else None


def test_one_scrape_has_the_accounts_of_every_stage(flow: Flow):
    before = scrape(flow)

    def rise(stage: str) -> float:
        name, labels = "hl_readings_forwarded_total", {"stage": stage, "stream": "heatpump"}
        return (value(scrape(flow), name, **labels) or 0) - (value(before, name, **labels) or 0)

    assert flow.hl("check", "heatpump").exit_code == 0
    for stage in ("bridge", "sink", "live"):
        eventually(lambda stage=stage: rise(stage), lambda n: n >= 1)


@pytest.mark.parametrize("measure", ["device_to_mqtt", "device_to_kafka", "device_to_row"])
def test_delays_of_live_readings_are_a_histogram_that_grows(flow: Flow, measure: str):
    def counted() -> float:
        return value(scrape(flow), "hl_delay_seconds_count", measure=measure) or 0

    before = counted()
    flow.produce("meter1", [1.0, 2.0])
    eventually(counted, lambda n: n >= before + 2)
    samples = scrape(flow)
    everything = value(samples, "hl_delay_seconds_bucket", measure=measure, le="+Inf")
    assert everything == value(samples, "hl_delay_seconds_count", measure=measure)


def test_lag_of_every_partition_and_group_is_told(flow: Flow):
    def partitions() -> dict[str, int]:
        samples = scrape(flow)
        groups = [
            dict(labels)["consumer_group"] for name, labels in samples if name == "hl_kafka_lag_records"
        ]
        return {group: groups.count(group) for group in groups}

    eventually(partitions, lambda n: n.get("timescaledb-energy") == 3 and len(n) == 2 * len(flow.streams))


def test_leases_backlog_and_dependencies_are_told(flow: Flow):
    samples = scrape(flow)
    for service in ("bridge", "sink", flow.service):
        assert value(samples, "hl_service_up", service=service) == 1
        assert value(samples, "hl_lease_holder_info", service=service) == 1
    assert value(samples, "hl_refresh_backlog_buckets", model="energy_hourly") is not None
    assert value(samples, "hl_dependency_up", dependency="database") == 1
    assert value(samples, "hl_dependency_up", dependency="kafka") == 1
    assert value(samples, "hl_build_info") == 1


def test_clients_of_the_feed_are_counted(flow: Flow):
    def clients() -> float | None:
        return value(scrape(flow), "hl_feed_clients")

    # Those of the tests before may still be leaving.
    eventually(clients, lambda n: n == 0)
    with flow.subscribe():
        assert clients() == 1


def test_stopped_service_is_down(flow: Flow):
    with flow.without("sink"):
        eventually(lambda: value(scrape(flow), "hl_service_up", service="sink"), lambda up: up == 0)


def test_instance_that_reads_and_reaches_all_is_ready(flow: Flow):
    answer = flow.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert set(answer.json()["checks"]) == {"reader", "kafka", "database"}
    assert flow.get("/health/live").status_code == 200
