"""The code server is killed and its runs live on: they are replaced or handed over, and no two ever write."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.postgres import EmbeddedPostgres
from tests.dagster_stack import DagsterStack, dagster_stack, is_alive
from tests.home import eventually, reading

pytestmark = pytest.mark.slow

SERVICES = ("bridge", "sink")

# Every heartbeat and every write of the sink, in the order of their commits as far as one row's lock tells it.
HISTORY = """
create table history (number bigserial primary key, what text not null, service text not null, epoch bigint not null);
create function note_beat() returns trigger language plpgsql as $$
begin
    insert into history (what, service, epoch) values ('beat', new.service, new.epoch);
    return new;
end $$;
create function note_write() returns trigger language plpgsql as $$
begin
    insert into history (what, service, epoch)
    values ('write', new.kafka_topic || '/' || new.kafka_partition, new.epoch);
    return new;
end $$;
create trigger note_beat before update of beat_at on hl.leases for each row execute function note_beat();
create trigger note_write before update of next_offset on hl.offsets for each row execute function note_write();
"""


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedPostgres, kafka: EmbeddedKafka, mosquitto: EmbeddedMosquitto
) -> Iterator[DagsterStack]:
    with dagster_stack(postgres, kafka, mosquitto) as stack:
        stack.carries("first")
        stack.house.execute(HISTORY)
        yield stack


class Load:
    """Fifty readings a second of one device.

    Args:
        stack: where to.
        device_id: whose.
    """

    def __init__(self, stack: DagsterStack, device_id: str) -> None:
        self._stack, self._device_id, self.n_sent = stack, device_id, 0

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()

        def publish() -> None:
            house = self._stack.house
            while not stop.wait(0.02):
                house.publish((house.topic(self._device_id), reading()))
                self.n_sent += 1

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def n_rows(self) -> int:
        statement = "select count(*) from {energy} where device_id = %s"
        return int(self._stack.house.query(statement, self._device_id)[0][0])


def assert_no_two_ever_wrote(stack: DagsterStack) -> None:
    """Nobody beats or writes with an epoch after somebody has with a higher one."""
    late = stack.house.query(
        "select what, service, epoch, highest from (select *, max(epoch) over (partition by what, service "
        "order by number) as highest from history) as each where epoch < highest"
    )
    assert late == []
    assert stack.house.query("select count(distinct what) from history") == [(2,)]


def lose_code_server(stack: DagsterStack) -> dict[str, tuple[str, int]]:
    """Kills the code server; its runs and their processes, by service."""
    holders = {service: stack.holder(service) for service in SERVICES}
    stack.kill_process("code_server")
    return {service: (lease.run_id, lease.pid) for service, lease in holders.items()}


def test_orphans_that_hang_are_replaced_and_ended_and_no_two_ever_write(stack: DagsterStack) -> None:
    load = Load(stack, "hanging")
    with load.running():
        orphans = lose_code_server(stack)
        stack.carries("by-orphans")
        for _, pid in orphans.values():
            os.kill(pid, signal.SIGSTOP)
        stack.start_process("code_server")
        after = {service: stack.holder(service, after=run_id) for service, (run_id, _) in orphans.items()}
        stack.carries("by-successors")
    assert {stack.status(run_id) for run_id, _ in orphans.values()} == {"FAILURE"}
    for _, pid in orphans.values():
        eventually(lambda pid=pid: is_alive(pid), lambda runs: not runs)  # type: ignore[misc]
    assert {service: lease.run_id for service, lease in after.items()} == {
        service: stack.holder(service).run_id for service in SERVICES
    }
    eventually(load.n_rows, lambda n: n >= load.n_sent)
    assert load.n_rows() == load.n_sent
    assert_no_two_ever_wrote(stack)


def test_orphans_hand_over_to_runs_launched_by_hand_and_no_two_ever_write(stack: DagsterStack) -> None:
    load = Load(stack, "handing-over")
    with load.running():
        orphans = lose_code_server(stack)
        stack.start_process("code_server")
        for service, (run_id, pid) in orphans.items():
            by_hand = stack.launch(service)
            assert stack.holder(service, after=run_id).run_id == by_hand
            eventually(lambda pid=pid: is_alive(pid), lambda runs: not runs)  # type: ignore[misc]
        stack.carries("by-hand")
    for run_id, _ in orphans.values():
        eventually(lambda run_id=run_id: stack.status(run_id), lambda status: status == "SUCCESS")  # type: ignore[misc]
    eventually(load.n_rows, lambda n: n >= load.n_sent)
    assert load.n_rows() == load.n_sent
    assert_no_two_ever_wrote(stack)
