"""`python -m bench.bridge_peers KIND ...`: who takes the readings, as a process of its own that tells how far it is.

Prints a line of JSON for each look at itself: readings done, seconds of CPU, resident memory. Ends when its standard
input does; hl's bridge begins at its first line, and says in the end what its accounts are. Each peer imports what it
needs when it runs: its memory is its own.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

LOOK_EVERY_S = 0.02


class Progress:
    """How many readings are done; counted by the peer, told by a thread."""

    def __init__(self) -> None:
        self.n = 0
        self._process = psutil.Process()
        # Not getrusage's: that begins with the size of the parent, before the program was loaded.
        self._peak = 0

    def tell(self, **more: Any) -> None:  # noqa: ANN401
        """One line for the parent."""
        times = self._process.cpu_times()
        self._peak = max(self._peak, self._process.memory_info().rss)
        line = {
            "n": self.n,
            "at": time.time(),
            "cpu_s": times.user + times.system,
            "peak_mb": self._peak / 1e6,
            **more,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def tell_on(self, look: Callable[[], int] | None = None) -> None:
        """Tells again and again until standard input ends."""
        ended = threading.Event()

        def wait_for_end() -> None:
            sys.stdin.read()
            ended.set()

        threading.Thread(target=wait_for_end, daemon=True).start()
        while not ended.wait(LOOK_EVERY_S):
            if look is not None:
                self.n = look()
            self.tell()


def run_hl(mqtt_port: int, kafka: str, client_id: str, topic: str) -> None:
    """The bridge, as its service makes it, without a lease."""
    from msgspec.structs import replace  # noqa: PLC0415

    from hl_platform.adapters.kafka.topics import ensure_topics  # noqa: PLC0415
    from hl_platform.adapters.mqtt.session import SocketSession  # noqa: PLC0415
    from hl_platform.adapters.runtime import spare_what_is_loaded  # noqa: PLC0415
    from hl_platform.core.accounts import StageStats  # noqa: PLC0415
    from hl_platform.core.settings import load_settings  # noqa: PLC0415
    from hl_platform.pipeline.make_bridge import make_bridge, make_session  # noqa: PLC0415
    from hl_platform.pipeline.services import Service  # noqa: PLC0415
    from hl_platform.streams import load_streams  # noqa: PLC0415

    prefix, _, name = client_id.partition("-")
    environment = {
        "HL_MQTT__HOST": "127.0.0.1",
        "HL_MQTT__PORT": str(mqtt_port),
        "HL_MQTT__CLIENT_ID_PREFIX": prefix,
        "HL_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "HL_BRIDGE__SPOOL_DIR": os.environ["BENCH_SPOOL"],
        "HL_BRIDGE__INSTANCES": os.environ["BENCH_BRIDGES"],
    }
    settings = load_settings(environment)
    streams = tuple(replace(stream, kafka_topic=topic) for stream in [load_streams()["energy"]])
    service, stats = Service(name, "bridge", streams), StageStats()
    ensure_topics(settings.kafka, streams)
    session = make_session(SocketSession, settings, service)
    bridge = make_bridge(settings, service, stats, session, ask_kafka=lambda: None, kafka_answers=True)
    spare_what_is_loaded()
    progress = Progress()
    progress.tell()
    # Several bridges are to begin together, none while another still starts.
    sys.stdin.readline()
    thread = threading.Thread(target=bridge.run)
    thread.start()
    progress.tell_on(lambda: stats.snapshot()["energy"].forwarded if stats.accounts else 0)
    bridge.stop()
    thread.join()
    account = stats.snapshot()["energy"]
    progress.tell(
        account={
            "received": account.received,
            "forwarded": account.forwarded,
            "dead_lettered": account.dead_lettered,
            "in_flight": account.in_flight,
        }
    )


def run_socket(mqtt_port: int, _kafka: str, client_id: str, _topic: str) -> None:
    """A bare socket reader: splits packets and acknowledges them. What Mosquitto can give."""
    from bench.bridge_load import introduce  # noqa: PLC0415

    connected = introduce(("127.0.0.1", mqtt_port), client_id)
    progress = Progress()
    threading.Thread(target=_read, args=(connected, progress), daemon=True).start()
    progress.tell_on()


def _read(connected: socket.socket, progress: Progress) -> None:
    rest = b""
    while True:
        data = rest + connected.recv(65_536)
        at, end, acknowledgements = 0, len(data), []
        while at + 3 < end:
            length, body = data[at + 1], at + 2
            if length > 127:
                length, body = (length & 127) + (data[at + 2] << 7), at + 3
            if body + length > end:
                break
            if data[at] >> 4 == 3:
                after = body + 2 + (data[body] << 8 | data[body + 1])
                acknowledgements.append(b"\x40\x02" + data[after : after + 2])
            at = body + length
        rest = data[at:]
        if acknowledgements:
            connected.sendall(b"".join(acknowledgements))
            progress.n += len(acknowledgements)


def run_paho(mqtt_port: int, _kafka: str, client_id: str, _topic: str) -> None:
    """paho-mqtt with manual acknowledgements and nothing else."""
    import paho.mqtt.client as paho  # noqa: PLC0415
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415
    from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415
    from paho.mqtt.properties import Properties  # noqa: PLC0415

    progress = Progress()
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, manual_ack=True
    )

    def received(client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        client.ack(message.mid, 1)
        progress.n += 1

    client.on_message = received
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3_600
    properties.ReceiveMaximum = 10_000
    client.connect("127.0.0.1", mqtt_port, clean_start=False, properties=properties)
    client.loop_start()
    progress.tell_on()
    client.disconnect()


def run_mq_bridge(mqtt_port: int, kafka: str, client_id: str, topic: str) -> None:
    """mq-bridge: acknowledged after Kafka's word, as hl does it, but neither validated nor enriched."""
    from mq_bridge import Route  # noqa: PLC0415

    route = Route.from_config(
        {
            "input": {
                "mqtt": {
                    "url": f"tcp://127.0.0.1:{mqtt_port}",
                    "topic": "homelab/energy/#",
                    "client_id": client_id,
                    "clean_session": False,
                    "session_expiry_interval": 3_600,
                    "max_inflight": 10_000,
                    "queue_capacity": 10_000,
                    "qos": 1,
                }
            },
            "output": {"kafka": {"url": kafka, "topic": topic, "producer_options": [["linger.ms", "5"]]}},
        }
    )
    progress = Progress()
    threading.Thread(target=route.run, daemon=True).start()
    progress.tell_on()
    os._exit(0)


def run_librdkafka(_mqtt_port: int, kafka: str, _client_id: str, topic: str) -> None:
    """confluent-kafka's producer with a report for each record, and no MQTT."""
    from confluent_kafka import Producer  # noqa: PLC0415

    n = int(os.environ["BENCH_N"])
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": n + 1,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )
    value, progress = b'{"x":"' + os.urandom(120).hex().encode() + b'"}', Progress()

    def delivered(_error: object, _message: object) -> None:
        progress.n += 1

    def produce() -> None:
        for index in range(n):
            producer.produce(topic, value, b"bench%03d" % (index % 50), on_delivery=delivered)
            if index % 400 == 0:
                producer.poll(0)
        producer.flush()

    threading.Thread(target=produce, daemon=True).start()
    progress.tell_on()


KINDS: dict[str, Callable[[int, str, str, str], None]] = {
    "hl": run_hl,
    "socket": run_socket,
    "paho": run_paho,
    "librdkafka": run_librdkafka,
    "mq-bridge": run_mq_bridge,
}


if __name__ == "__main__":
    KINDS[sys.argv[1]](int(sys.argv[2]), *sys.argv[3:6])
