"""Which records on Kafka a count stands for: how many of one bridge in one Kafka partition, up to which offset.

A count that says what it covers can be taken up again after a crash, by reading what lies behind it, and can be
compared with the count of the next stage, although both are never at the same offset while readings flow.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from hl_platform.core.dead_letters import REPLAY_OF

FORWARDED, DEAD_LETTERED = "forwarded", "dead_lettered"
# Of the sink, where it had to jump: records that it never read, and records that it reads a second time.
DROPPED, REPEATED = "dropped", "repeated"
BRIDGE_HEADER = "hl.bridge"
# Whose a record is that no bridge of ours wrote: a replay, or another program's.
NO_BRIDGE = ""
# Any program may have written a record: only what could be a service's name is kept, and kept for ever.
BRIDGE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# As `next_offset` of more records: they are before the offset that is covered already.
SAME_OFFSET = -1


class Place(NamedTuple):
    """Where records are, and what they are counted as.

    Args:
        stream: whose account.
        kind: `forwarded` or `dead_lettered`; of the sink's jumps `dropped` or `repeated`.
        kafka_topic, kafka_partition: where.
    """

    stream: str
    kind: str
    kafka_topic: str
    kafka_partition: int


class Covered(NamedTuple):
    """Records of one bridge in one Kafka partition.

    Args:
        n_records: how many.
        next_offset: those counted are before it, and none that is not counted.
    """

    n_records: int = 0
    next_offset: int = 0

    def then(self, later: "Covered") -> "Covered":
        """These, and those that were counted after them."""
        next_offset = self.next_offset if later.next_offset == SAME_OFFSET else later.next_offset
        return Covered(self.n_records + later.n_records, next_offset)


class _Origin(msgspec.Struct, frozen=True):
    bridge: str = NO_BRIDGE


class _Enveloped(msgspec.Struct):
    source: _Origin = _Origin()


_decoder = msgspec.json.Decoder(_Enveloped)


# For every reading there is.
@functools.lru_cache(maxsize=1_000)
def bridge_named(name: str) -> str:
    """The bridge of this name; NO_BRIDGE if no bridge of ours could have it."""
    return name if BRIDGE_NAME.fullmatch(name) else NO_BRIDGE


def bridge_of_reading(value: bytes, *, is_replay: bool) -> str:
    """The bridge that wrote a record of a stream's topic; NO_BRIDGE if none did.

    Args:
        value: of the record.
        is_replay: whether it replays a dead letter, whose bytes may name a bridge.
    """
    if is_replay:
        return NO_BRIDGE
    try:
        return bridge_named(_decoder.decode(value).source.bridge)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NO_BRIDGE


def bridge_of_record(kind: str, value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> str:
    """The bridge that wrote a record, as it lies on Kafka; NO_BRIDGE if none did.

    Args:
        kind: of the topic: `forwarded` or `dead_lettered`.
        value: of the record.
        headers: of the record.
    """
    named = dict(headers)
    if kind == FORWARDED:
        return bridge_of_reading(value, is_replay=REPLAY_OF in named)
    return bridge_named((named.get(BRIDGE_HEADER) or b"").decode(errors="replace"))


def find_late(
    counted: Mapping[Place, Covered], read: Mapping[Place, Covered], in_flight: Mapping[str, int]
) -> dict[Place, int]:
    """Records of a bridge that its process did not write: a predecessor's, delivered after it had been replaced.

    Args:
        counted: by the bridge; other places are not looked at.
        read: of that bridge's records by the sink, and what it repeated, known before `counted` was taken.
        in_flight: by stream, what the bridge has sent and may have on Kafka uncounted.

    Returns:
        How many there are at least, where there are any; all of them once the sink has read on to the end.
    """
    late = {}
    for place, ours in counted.items():
        theirs = read.get(place, Covered())
        # What the sink read behind our count may be ours, if anything of ours is on the way.
        comparable = theirs.next_offset <= ours.next_offset or not in_flight.get(place.stream)
        twice = read.get(place._replace(kind=REPEATED), Covered())
        n_records = theirs.n_records - twice.n_records - ours.n_records
        if comparable and n_records > 0:
            late[place] = n_records
    return late
