"""Two bridges on one shared subscription: while one is gone, the other carries what the broker gives to it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hl_platform.adapters.mqtt.client import disconnect
from hl_platform.adapters.postgres.lease_reader import LeaseReader, LeaseRow
from tests.home import Home, eventually, reading

N_DEVICES = 20
LONG_UP_S = 16.0
BRIDGES = ("bridge-1", "bridge-2")


class Siblings:
    """Two bridges and a sink, each a process.

    Args:
        home: the household.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.n_sent = 0
        self.processes = {name: home.start_process(name) for name in (*BRIDGES, "sink")}
        for name in BRIDGES:
            self.await_holder(name, self.processes[name])

    def publish(self, n: int) -> None:
        """Publishes n readings, numbered from where the last call ended."""
        numbers = range(self.n_sent, self.n_sent + n)
        self.home.publish(
            *((self.home.topic(f"meter{each % N_DEVICES}"), reading(seq=each)) for each in numbers)
        )
        self.n_sent += n

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def lease(self, name: str) -> LeaseRow | None:
        with LeaseReader(self.home.env["HL_DATABASE__URL"]) as reader:
            return reader.lease(name)

    def uptime_s(self) -> float:
        """For how long the database has been up; right after its start nobody stands in."""
        with LeaseReader(self.home.env["HL_DATABASE__URL"]) as reader:
            clock = reader.clock()
        return clock.now - clock.up_since

    def await_holder(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Returns once a process holds the lease of a service."""
        eventually(lambda: self.lease(name), lambda lease: _is_held(lease, process.pid))

    def end_by_lease(self, name: str) -> None:
        """Asks a service to end, as a termination does, and returns when it has."""
        with LeaseReader(self.home.env["HL_DATABASE__URL"]) as reader:
            reader.request_stop(name, "")
        eventually(lambda: self.lease(name), lambda lease: lease is not None and lease.released_at)

    def await_rows(self) -> None:
        """Returns once every reading sent is one row."""
        eventually(self.home.n_rows, lambda n: n >= self.n_sent, patience_s=60)
        distinct = self.home.query("select count(*), count(distinct extra ->> 'seq') from {energy}")
        assert distinct == [(self.n_sent, self.n_sent)]

    def end(self) -> None:
        for name in self.processes:
            self.kill(name)


@contextmanager
def siblings(home: Home) -> Iterator[Siblings]:
    home.env["HL_BRIDGE__INSTANCES"] = "2"
    pair = Siblings(home)
    try:
        # What is published before anybody has subscribed is nobody's.
        eventually(home.has_bridge)

        # Each has subscribed once it has counted something.
        def both_receive() -> bool:
            pair.publish(10)
            received = home.query(
                "select count(*) from hl.accounts where stage = 'bridge' and stream = %s and received > 0",
                home.energy.name,
            )
            return received == [(2,)]

        eventually(both_receive)
        yield pair
    finally:
        pair.end()


def test_messages_of_a_killed_bridge_are_carried_by_its_sibling_until_it_is_back(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    with siblings(home) as pair:
        eventually(lambda: pair.uptime_s() > LONG_UP_S)
        pair.publish(2_000)
        pair.kill("bridge-2")
        killed_at = time.monotonic()
        pair.publish(2_000)
        pair.await_rows()
        with capsys.disabled():
            sys.stdout.write(f"\n  every reading a row {time.monotonic() - killed_at:.1f} s after the kill\n")
        pair.await_holder("bridge-2", pair.processes["bridge-1"])

        pair.processes["bridge-2"] = home.start_process("bridge-2")
        pair.publish(1_000)
        pair.await_holder("bridge-2", pair.processes["bridge-2"])
        pair.publish(1_000)
        pair.await_rows()
        assert home.account("sink")["dead_lettered"] == 0
        assert _is_held(pair.lease("bridge-1"), pair.processes["bridge-1"].pid)


def test_messages_of_a_bridge_that_was_ended_on_purpose_are_carried_too(home: Home) -> None:
    with siblings(home) as pair:
        pair.end_by_lease("bridge-2")
        pair.publish(500)
        pair.await_rows()


def test_stand_in_ends_with_its_host_and_frees_both_services(home: Home) -> None:
    with siblings(home) as pair:
        pair.kill("bridge-2")
        pair.await_holder("bridge-2", pair.processes["bridge-1"])
        with LeaseReader(home.env["HL_DATABASE__URL"]) as reader:
            reader.request_stop("bridge-1", "")
        pair.processes["bridge-1"].wait(30)
        leases = [pair.lease(name) for name in BRIDGES]
        assert [lease is not None and lease.released_at is not None for lease in leases] == [True, True]


def test_session_of_a_bridge_that_is_not_wanted_any_more_is_emptied_and_ended(home: Home) -> None:
    with siblings(home) as pair:
        eventually(lambda: pair.uptime_s() > LONG_UP_S + 20, patience_s=60)
        pair.end_by_lease("bridge-1")
        pair.end_by_lease("bridge-2")
        # Nobody reads either session.
        pair.publish(1_000)
        home.execute(
            "update hl.leases set released_at = released_at - interval '2 min', "
            "beat_at = beat_at - interval '2 min' where stage = 'bridge'"
        )
        home.env["HL_BRIDGE__INSTANCES"] = "1"
        pair.processes["bridge"] = home.start_process("bridge")
        pair.await_rows()
        eventually(lambda: home.query("select count(*) from hl.leases where stage = 'retired'") == [(2,)])
        assert [_has_session(home, name) for name in BRIDGES] == [False, False]
        pair.publish(500)
        pair.await_rows()


def _has_session(home: Home, service: str) -> bool:
    """Whether the broker keeps a session for a service. If so, it is ended by asking."""
    present: list[bool] = []
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=f"{home.prefix}-{service}", protocol=paho.MQTTv5
    )
    client.on_connect = lambda _c, _u, flags, _reason, _p: present.append(flags.session_present)
    client.connect(home.env["HL_MQTT__HOST"], int(home.env["HL_MQTT__PORT"]), clean_start=False)
    client.loop_start()
    eventually(lambda: present)
    disconnect(client)
    return present[0]


def _is_held(lease: LeaseRow | None, pid: int) -> bool:
    return lease is not None and lease.pid == pid and lease.released_at is None
