"""What is done to whom between which two steps: the cells of the matrix, and nothing else."""

import random
from typing import NamedTuple

# In the order of the path of a message. Each is a point between two steps, where the process stands still while
# the harm is done; `victim.py` says where in the code.
STEPS = {
    "bridge": {
        "received": "MQTT has delivered a message, nothing has been done with it",
        "queued": "the message is queued for Kafka and on its way",
        "delivered": "Kafka has the record, no PUBACK has been sent",
        "acknowledged": "the PUBACK has been sent",
        "spooled": "Kafka is away, a frame of records is synced to the spool, no PUBACK of it has been sent",
        "drained": "Kafka is back and has a frame of records, which is still in the spool",
    },
    "sink": {
        "claimed": "the database has handed over the partitions, nothing has been read",
        "read": "a batch has been read, nothing has been done with it",
        "rejected": "Kafka has acknowledged the dead letters of a batch, the transaction has not begun",
        "advanced": "the transaction is open and the offsets are moved",
        "written": "the rows are written, the transaction is not committed",
        "committed": "the transaction is committed, Kafka has not been told the position",
        "shown": "Kafka has been told the position",
    },
}
# Whom each stage needs.
PROCESSES = {
    "bridge": ("bridge", "mosquitto", "kafka"),
    "sink": ("sink", "kafka", "postgres"),
}
LINES = {
    "bridge": ("mqtt-bridge", "bridge-kafka"),
    "sink": ("kafka-sink", "sink-postgres"),
}
FAULTS = {
    "kill": "kill -9; started again at once",
    "stop": "SIGSTOP for longer than a lease lives, then SIGCONT; a service has a successor meanwhile",
    "cut": "the line's connections are broken and further ones refused for a while",
    "slow": "the line delays each piece and carries little",
}
# Where in the load the harm is done, in passages of the step.
MESSAGES = range(20, 200)
BATCHES = range(1, 5)
FRAMES = range(1, 2)
PASSAGES = {"claimed": range(1, 2), "rejected": range(1, 3), "spooled": FRAMES, "drained": FRAMES}

# One row of every process and line, every fault, and the steps where a mistake would cost or repeat a reading.
SMALL = (
    "bridge.received/mqtt-bridge/cut",
    "bridge.queued/kafka/kill",
    "bridge.queued/bridge/stop",
    "bridge.delivered/bridge/kill",
    "bridge.delivered/bridge-kafka/slow",
    "bridge.acknowledged/mosquitto/kill",
    "bridge.drained/bridge/kill",
    "sink.claimed/kafka-sink/cut",
    "sink.rejected/sink/kill",
    "sink.advanced/sink/stop",
    "sink.written/postgres/kill",
    "sink.committed/sink/kill",
    "sink.written/sink-postgres/cut",
    "sink.read/postgres/stop",
)


class Cell(NamedTuple):
    """One experiment.

    Args:
        stage: whose protocol: `bridge` or `sink`.
        step: where it stands still.
        victim: a process or a line.
        fault: what happens to it.
    """

    stage: str
    step: str
    victim: str
    fault: str

    @property
    def name(self) -> str:
        """`<stage>.<step>/<victim>/<fault>`: what `--only` selects by."""
        return f"{self.stage}.{self.step}/{self.victim}/{self.fault}"

    @property
    def spools(self) -> bool:
        """Whether Kafka must be away for the step to be reached."""
        return self.step in ("spooled", "drained")

    def rng(self, seed: int) -> random.Random:
        """Randomness of this cell alone, so that it is the same whichever others run."""
        return random.Random(f"{seed}/{self.name}")

    def passage(self, rng: random.Random) -> int:
        """At which passage of the step the harm is done."""
        return rng.choice(PASSAGES.get(self.step, MESSAGES if self.stage == "bridge" else BATCHES))


def plan_cells() -> list[Cell]:
    """Every cell: each process and line of a stage, at each of its steps, with each fault it can have."""
    return [
        Cell(stage, step, victim, fault)
        for stage, steps in STEPS.items()
        for step in steps
        for victims, faults in ((PROCESSES, ("kill", "stop")), (LINES, ("cut", "slow")))
        for victim in victims[stage]
        for fault in faults
    ]
