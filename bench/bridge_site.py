"""Servers of the bridge's measurement, and who takes readings from them, as processes of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import psutil

from bench.stack import own_layout
from hl_platform.core.sections import MqttSettings
from hl_platform.stack.kafka import EmbeddedKafka
from hl_platform.stack.mosquitto import EmbeddedMosquitto
from hl_platform.stack.net import free_port

PATIENCE_S = 90.0


class Run(NamedTuple):
    """What one peer did with one queue."""

    readings_per_s: float
    cpu_us: float
    peak_mb: float


class Site:
    """Servers of the measurement's own, and who works on them."""

    def __init__(self, stack: ExitStack) -> None:
        layout = stack.enter_context(own_layout())
        self.directory = layout.data_dir.parent
        self.mosquitto = EmbeddedMosquitto(layout, MqttSettings(port=free_port(), max_queued_bytes=2**32))
        self.kafka = EmbeddedKafka(layout, free_port())
        for server in (self.mosquitto, self.kafka):
            stack.callback(server.stop)
            server.start()
        for server in (self.mosquitto, self.kafka):
            server.wait_ready(60)
        self.address = (self.mosquitto.host, self.mosquitto.port)

    @contextmanager
    def peer(self, kind: str, client_id: str, topic: str, n: int, n_bridges: int = 1) -> Iterator["Peer"]:
        """A peer at work; one of ours works once it was told to begin."""
        spool = self.directory / topic
        spool.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "bench.bridge_peers", kind]
        command += [str(self.mosquitto.port), self.kafka.bootstrap_servers, client_id, topic]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.directory / f"{client_id}.log").open("w"),
            text=True,
            env={**os.environ, "BENCH_SPOOL": str(spool), "BENCH_N": str(n), "BENCH_BRIDGES": str(n_bridges)},
        )
        try:
            yield Peer(process)
        finally:
            process.kill()
            process.wait()


class Peer:
    """What a peer's process says of itself."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def look(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            # Log lines go the same way.
            if line.startswith('{"n": '):
                return dict(json.loads(line))
            if "warning" in line or "error" in line:
                sys.stderr.write(line)
        message = f"a peer ended with {self._process.wait()}; see its log"
        raise SystemExit(message)

    def begin(self) -> None:
        """Returns when it has been told to begin, which it is once it is ready."""
        self.look()
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def cpu_s(self) -> float:
        """Seconds of CPU it has used."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def end(self) -> dict[str, Any]:
        """Ends it; its last line."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        last = {}
        try:
            while True:
                last = self.look()
        except SystemExit:
            return last


def drain(peers: Sequence[Peer], n: int, count: Callable[[], int] | None) -> Run:
    """Waits until peers have done all; their speed together from the first reading on.

    Args:
        peers: at work.
        n: how many there are.
        count: how many are done, where a peer cannot tell.
    """
    until = time.monotonic() + PATIENCE_S
    first: dict[str, Any] | None = None
    idle = look_at(peers)
    while True:
        now = look_at(peers)
        if count is not None:
            # Counting takes longer than the peer's lines do: they would be old.
            now |= {"n": count(), "at": time.time(), "cpu_s": sum(peer.cpu_s() for peer in peers)}
        if first is None:
            if now["n"]:
                first = idle
            idle = now
        if now["n"] >= n:
            break
        assert time.monotonic() < until, f"{now['n']} of {n} after {PATIENCE_S} s"
    assert first is not None
    seconds, cpu_s = now["at"] - first["at"], now["cpu_s"] - first["cpu_s"]
    return Run(n / seconds, cpu_s / n * 1e6, now["peak_mb"])


def look_at(peers: Sequence[Peer]) -> dict[str, Any]:
    """The next line of each, as one."""
    lines = [peer.look() for peer in peers]
    sums = {key: sum(line[key] for line in lines) for key in ("n", "cpu_s", "peak_mb")}
    return {**sums, "at": max(line["at"] for line in lines)}
