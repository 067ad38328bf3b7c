"""Chunks of buckets: the encoded answers that are kept in memory, and what of a range has to be read.

A *chunk* is what one device has of a model within a stretch of UTC time, a *part* what an answer says of it. A part is
kept together with the print that its chunk had in the same snapshot of the database, and is used only where the print
is the same again. So what is kept is never older than what the database says; how long it is kept decides nothing.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from hl_platform.adapters.postgres.bucket_prints import Print
from hl_platform.core.levels import Grain

# Of which grains chunks are kept, and how long one is: few enough in a year to be compared, and small enough that a
# late reading costs little. Of coarser levels nobody has many.
WIDTHS: Mapping[Grain, timedelta] = {"hour": timedelta(days=1), "day": timedelta(days=28)}
# How short a bucket can be; by this is reckoned how many there may be in a range.
SHORTEST: Mapping[Grain, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(hours=23)}
# The least difference of two times.
JUST_AFTER = timedelta(microseconds=1)
# Where the database begins to count as well (bucket_prints.ORIGIN).
ORIGIN = datetime(1, 1, 1, tzinfo=UTC)
# A year of hours of one device is 2 MB with one column, and 9 MB with all.
MAX_BYTES = 64 * 1024 * 1024
# What an entry takes beside its bytes: key, tuple, print and the place in the order.
ENTRY_BYTES = 700
# Of a range with more gaps than this, all that lies between is read in one go.
MAX_READS = 3


class Range(NamedTuple):
    """A stretch of time, half-open."""

    start: datetime
    end: datetime


# What a part is of: whatever its bytes depend on beside the rows (model, columns) with the generation of its print; the
# device; the number of the chunk. A plain tuple: hundreds are made for one answer.
Key = tuple[str, str, int]


class Part(NamedTuple):
    """Buckets of one device: JSON objects with commas between, in the order of time."""

    n_buckets: int
    body: bytes


class _Begin(msgspec.Struct):
    start: datetime


class PartCache:
    """The parts that were asked for last, as many as fit.

    Args:
        max_bytes: how much they may take.

    Guarantee: a part is only found under the print that it was put with.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, tuple[Print, Part]] = OrderedDict()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, wanted: Print) -> Part | None:
        """What was put for a chunk, if its print is still the same."""
        found = self._entries.get(key)
        if found is None or found[0] != wanted:
            return None
        self._entries.move_to_end(key)
        return found[1]

    def put(self, key: Key, known: Print, part: Part) -> None:
        """Keeps a part, and lets go of those that were not asked for since longest."""
        before = self._entries.pop(key, None)
        if before is not None:
            self.n_bytes -= _size(key, before[1])
        self._entries[key] = known, part
        self.n_bytes += _size(key, part)
        while self.n_bytes > self._max_bytes:
            gone, (_, part) = self._entries.popitem(last=False)
            self.n_bytes -= _size(gone, part)


def number_of(at: datetime, width: timedelta) -> int:
    """Number of the chunk that a time lies in."""
    return (at - ORIGIN) // width


def chunk_at(number: int, width: timedelta) -> Range:
    """All of a chunk."""
    start = ORIGIN + number * width
    return Range(start, start + width)


def numbers_of(span: Range, width: timedelta) -> range:
    """The numbers of all chunks that a range touches."""
    return range(number_of(span.start, width), number_of(span.end - JUST_AFTER, width) + 1)


def most_buckets(grain: Grain, span: Range) -> int:
    """How many buckets of a device can begin in a range."""
    return (span.end - span.start) // SHORTEST[grain] + 2


def plan_reads(wanted: Sequence[Range]) -> list[Range]:
    """The fewest ranges that hold all of these; one for all, where they would be many.

    Args:
        wanted: in any order; may overlap.
    """
    found: list[Range] = []
    for span in sorted(set(wanted)):
        if found and span.start <= found[-1].end:
            found[-1] = Range(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found if len(found) <= MAX_READS else [Range(found[0].start, found[-1].end)]


def within(part: Part, span: Range) -> Part:
    """Those buckets of a part that begin in a range."""
    begins, objects = _begins(part), _objects(part)
    return joined([one for at, one in zip(begins, objects, strict=True) if span.start <= at < span.end])


def first_of(part: Part, n_buckets: int) -> Part:
    """The first buckets of a part."""
    return joined(_objects(part)[:n_buckets])


def last_begin(part: Part) -> datetime:
    """Where the last bucket of a part begins; it has one."""
    return _begins(part)[-1]


def joined(objects: Sequence[bytes | msgspec.Raw]) -> Part:
    """The part of some buckets."""
    return Part(len(objects), b",".join(bytes(one) for one in objects))


def _begins(part: Part) -> list[datetime]:
    return [one.start for one in msgspec.json.decode(b"[%b]" % part.body, type=list[_Begin])]


def _objects(part: Part) -> list[msgspec.Raw]:
    return msgspec.json.decode(b"[%b]" % part.body, type=list[msgspec.Raw])


def _size(key: Key, part: Part) -> int:
    return len(part.body) + len(key[0]) + len(key[1]) + ENTRY_BYTES
