"""kill -9 of the bridge under load: its accounts are exact again when its successor is up and all has settled."""

import random
import threading

import pytest

from hl_platform.core.coverage import DEAD_LETTERED, FORWARDED
from hl_platform.pipeline.comparison import compare_accounts
from tests.accounts import n_on_kafka, n_read_from_bridges
from tests.home import Home, eventually, reading

N_DEVICES = 20


def send_while(home: Home, n: int, first: int, harm: threading.Thread) -> None:
    """Publishes n readings and n // 100 invalid payloads while harm is done."""
    good = [(home.topic(f"meter{k % N_DEVICES}"), reading(seq=first + k)) for k in range(n)]
    bad = [(home.topic("meter1"), b"not json") for _ in range(n // 100)]
    harm.start()
    home.publish(*good, *bad)
    harm.join()


def settled(home: Home, n_rows: int) -> None:
    eventually(home.n_rows, lambda n: n >= n_rows, patience_s=90)
    eventually(
        lambda: (home.account("bridge"), n_read_from_bridges(home)),
        lambda found: found[0]["in_flight"] == 0 and found[0]["forwarded"] == found[1],
        patience_s=90,
    )


@pytest.mark.parametrize("seed", range(5))
def test_killed_bridge_leaves_accounts_that_its_successor_makes_exact(home: Home, seed: int):
    rng = random.Random(seed)
    processes = [home.start_process("bridge")]
    try:
        eventually(home.has_bridge)

        def kill_and_start() -> None:
            threading.Event().wait(rng.uniform(0.05, 0.4))
            process = processes.pop()
            process.kill()
            process.wait()
            processes.append(home.start_process("bridge"))

        with home.running("sink"):
            send_while(home, 3_000, 0, threading.Thread(target=kill_and_start))
            settled(home, 3_000)
            bridge = home.account("bridge")
            assert bridge["forwarded"] == n_on_kafka(home, FORWARDED) == n_read_from_bridges(home)
            assert bridge["dead_lettered"] == n_on_kafka(home, DEAD_LETTERED)
            assert bridge["received"] == bridge["forwarded"] + bridge["dead_lettered"]
            assert not [
                found for found in compare_accounts(home.settings, home.streams.values()) if found.n_records
            ]
    finally:
        for process in processes:
            process.kill()
            process.wait()
