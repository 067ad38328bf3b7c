"""Dagster keeps exactly one run of each service alive: real code server, daemon and page, real services."""

import os
import signal
import threading
from collections.abc import Iterator

import psutil
import pytest

from hl_platform.adapters.postgres.connection import connect
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.layout import Layout
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.dagster_stack import START_S, DagsterStack, dagster_stack, is_alive
from tests.home import eventually, reading
from tests.servers import new_postgres, running, temporary_layout


@pytest.fixture(scope="module")
def own_layout() -> Iterator[Layout]:
    with temporary_layout() as layout:
        yield layout


@pytest.fixture(scope="module")
def own_postgres(own_layout: Layout) -> Iterator[EmbeddedPostgres]:
    """Restarted by a test."""
    with running(new_postgres(own_layout)) as server:
        yield server


@pytest.fixture(scope="module")
def stack(
    own_postgres: EmbeddedPostgres, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto
) -> Iterator[DagsterStack]:
    with dagster_stack(own_postgres, kafka, mosquitto) as stack:
        yield stack


def one_run(stack: DagsterStack, job: str) -> str:
    """The only active run of a job, once there is only one and it works."""
    runs = eventually(
        lambda: stack.active(job),
        lambda runs: [run["status"] for run in runs] == ["STARTED"],
        patience_s=START_S,
    )
    return str(runs[0]["runId"])


def says_stopped(stack: DagsterStack, sensor: str) -> None:
    eventually(
        lambda: stack.last_skip_reason(sensor), lambda text: "stays stopped" in text, patience_s=START_S
    )


def backdate(stack: DagsterStack, service: str) -> None:
    """Makes the holder of a service look a month old."""
    with connect(stack.house.env["HL_DATABASE__URL"], application_name="hl-test") as conn:
        conn.execute(
            "update hl.leases set acquired_at = acquired_at - interval '30 days' where service = %s",
            (service,),
        )


@pytest.mark.parametrize("service", ["bridge", "sink"])
def test_each_service_has_one_run_that_carries(stack: DagsterStack, service: str) -> None:
    assert stack.holder(service).run_id == one_run(stack, service)
    stack.carries("first")


def test_runs_are_forked_from_one_process_that_has_imported_everything(stack: DagsterStack) -> None:
    parents = {psutil.Process(stack.holder(service).pid).parent() for service in ("bridge", "sink")}
    [parent] = parents
    assert parent is not None
    assert "multiprocessing.forkserver" in " ".join(parent.cmdline())
    # Forking is safe where nothing else runs.
    assert parent.num_threads() == 1


@pytest.mark.parametrize("service", ["bridge", "sink"])
def test_killed_run_is_replaced_and_carries_again(stack: DagsterStack, service: str) -> None:
    before = stack.holder(service)
    os.kill(before.pid, signal.SIGKILL)
    after = stack.holder(service, after=before.run_id)
    stack.carries(f"after-kill-of-{service}")
    assert one_run(stack, service) == after.run_id
    assert stack.status(before.run_id) == "FAILURE"


def test_hung_run_is_declared_dead_and_its_process_ended(stack: DagsterStack) -> None:
    before = stack.holder("bridge")
    os.kill(before.pid, signal.SIGSTOP)
    after = stack.holder("bridge", after=before.run_id)
    eventually(lambda: is_alive(before.pid), lambda runs: not runs)
    assert one_run(stack, "bridge") == after.run_id
    assert stack.status(before.run_id) == "FAILURE"


# Switching a sensor off waits for ticks of another, which are half a minute apart.
@pytest.mark.timeout(400)
def test_terminated_run_stays_stopped_until_its_sensor_is_switched_on_again(stack: DagsterStack) -> None:
    run_id = stack.holder("sink").run_id
    stack.terminate(run_id)
    says_stopped(stack, "keep_sink_alive")
    lease = stack.lease("sink")
    assert lease is not None
    assert lease.released_at is not None

    # Neither a restart of the daemon nor one of the code server counts as "switched on again".
    stack.kill_process("daemon")
    stack.kill_process("code_server")
    stack.start_process("code_server")
    stack.start_process("daemon")
    stack.await_tick("keep_sink_alive")
    says_stopped(stack, "keep_sink_alive")
    assert stack.runs("sink")[0]["runId"] == run_id

    stack.switch("keep_sink_alive", on=False)
    stack.switch("keep_sink_alive", on=True)
    assert stack.holder("sink", after=run_id).run_id == one_run(stack, "sink")
    stack.carries("after-switching-on")


def test_terminated_service_launched_by_hand_is_kept_alive_again(stack: DagsterStack) -> None:
    stack.terminate(stack.holder("bridge").run_id)
    says_stopped(stack, "keep_bridge_alive")
    by_hand = stack.launch("bridge")
    lease = eventually(lambda: stack.holder("bridge"), lambda lease: lease.run_id == by_hand)
    os.kill(lease.pid, signal.SIGKILL)
    assert stack.holder("bridge", after=by_hand).run_id == one_run(stack, "bridge")


@pytest.mark.parametrize("service", ["bridge", "sink"])
def test_old_run_hands_over_and_no_reading_is_lost_or_doubled(stack: DagsterStack, service: str) -> None:
    before = stack.holder(service)
    device, stop, sent = f"handover-{service}", threading.Event(), []

    def publish() -> None:
        while not stop.wait(0.02):
            stack.house.publish((stack.house.topic(device), reading()))
            sent.append(device)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        backdate(stack, service)
        after = stack.holder(service, after=before.run_id)
        eventually(lambda: stack.status(before.run_id), lambda status: status == "SUCCESS")
    finally:
        stop.set()
        thread.join()
    tags = {tag["key"]: tag["value"] for tag in stack.runs(service)[0]["tags"]}
    assert tags["hl/handover"] == before.run_id
    assert one_run(stack, service) == after.run_id
    eventually(lambda: _n_rows(stack, device), lambda n: n == len(sent))
    for stage in ("bridge", "sink"):
        account = stack.house.account(stage)
        assert account.pop("received") == sum(account.values())


def test_second_run_launched_by_hand_takes_over(stack: DagsterStack) -> None:
    before = stack.holder("sink")
    by_hand = stack.launch("sink")
    assert stack.holder("sink", after=before.run_id).run_id == by_hand
    eventually(lambda: stack.status(before.run_id), lambda status: status == "SUCCESS")
    assert one_run(stack, "sink") == by_hand


def test_outage_of_the_database_ends_no_healthy_run(
    stack: DagsterStack, own_postgres: EmbeddedPostgres
) -> None:
    before = {service: stack.holder(service).run_id for service in ("bridge", "sink")}
    own_postgres.kill()
    own_postgres.start()
    own_postgres.wait_ready()
    stack.carries("after-outage")
    assert {service: one_run(stack, service) for service in before} == before


def test_services_outlive_the_code_server(stack: DagsterStack) -> None:
    before = {service: stack.holder(service).run_id for service in ("bridge", "sink")}
    stack.kill_process("code_server")
    stack.carries("without-code-server")
    stack.start_process("code_server")
    stack.carries("with-new-code-server")
    assert {service: one_run(stack, service) for service in before} == before


def test_run_that_outlived_the_code_server_can_be_terminated(stack: DagsterStack) -> None:
    orphan = stack.holder("bridge")
    stack.kill_process("code_server")
    stack.start_process("code_server")
    stack.terminate(orphan.run_id)
    eventually(lambda: is_alive(orphan.pid), lambda runs: not runs)
    says_stopped(stack, "keep_bridge_alive")
    stack.launch("bridge")
    stack.carries("after-orphan")


def test_run_that_outlived_the_code_server_is_replaced_when_killed(stack: DagsterStack) -> None:
    orphan = stack.holder("sink")
    stack.kill_process("code_server")
    stack.start_process("code_server")
    os.kill(orphan.pid, signal.SIGKILL)
    assert stack.holder("sink", after=orphan.run_id).run_id == one_run(stack, "sink")
    stack.carries("after-killed-orphan")


def test_table_shows_live_figures(stack: DagsterStack) -> None:
    figures = eventually(lambda: stack.figures("postgres", "energy_readings"), patience_s=START_S)
    assert figures["inserted"]
    assert figures["lag"] is not None


def _n_rows(stack: DagsterStack, device_id: str) -> int:
    return int(stack.house.query("select count(*) from {energy} where device_id = %s", device_id)[0][0])
