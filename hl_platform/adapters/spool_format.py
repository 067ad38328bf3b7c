"""The bytes of a spool's segment: a head, then frames of entries, each found again after a crash or damage.

```
segment = "hlspool1", salt, previous, crc           salt: 8 random bytes, so that no payload can look like a frame
frame   = salt, number, n_bytes, n_entries, crc     previous: number of the frame before this segment's first
          entry * n_entries
entry   = n_bytes, crc, payload
```

All integers are little endian; a crc is CRC-32 of what stands before it in its head, an entry's that of its payload.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAGIC = b"hlspool1"
SEGMENT_HEAD = struct.Struct("<8s8sQI")
FRAME_HEAD = struct.Struct("<8sQIII")
ENTRY_HEAD = struct.Struct("<II")
CRC_BYTES = 4


class Frame(NamedTuple):
    """What one append made durable.

    Args:
        number: rises by one from frame to frame.
        start, end: its bytes in the segment, half-open.
        entries: those whose checksum holds, in order.
        n_lost: those whose does not.
    """

    number: int
    start: int
    end: int
    entries: list[bytes]
    n_lost: int


class Gap(NamedTuple):
    """Bytes that are no frame, half-open."""

    start: int
    end: int


def encode_segment_head(salt: bytes, previous: int) -> bytes:
    """The beginning of a segment."""
    return _with_crc(SEGMENT_HEAD.pack(MAGIC, salt, previous, 0))


def decode_segment_head(data: bytes) -> tuple[bytes, int] | None:
    """Salt and previous frame's number; None where it is no head."""
    head = data[: SEGMENT_HEAD.size]
    if len(head) < SEGMENT_HEAD.size or not head.startswith(MAGIC) or not _crc_holds(head):
        return None
    _, salt, previous, _ = SEGMENT_HEAD.unpack(head)
    return salt, previous


def encode_frame(salt: bytes, number: int, entries: Sequence[bytes]) -> bytes:
    """One frame."""
    parts = [b""]
    for payload in entries:
        parts += (ENTRY_HEAD.pack(len(payload), zlib.crc32(payload)), payload)
    n_bytes = sum(map(len, parts))
    parts[0] = _with_crc(FRAME_HEAD.pack(salt, number, n_bytes, len(entries), 0))
    return b"".join(parts)


def scan(data: bytes, salt: bytes, start: int) -> Iterator[Frame | Gap]:
    """Frames of a segment, and gaps where there is none, in order and without a byte left out.

    Args:
        data: the segment from `start` on.
        salt: of the segment.
        start: where in the segment `data` begins.
    """
    at = 0
    while at < len(data):
        frame = _frame_at(data, at, salt, start)
        if frame is None:
            following = _next_frame(data, at + 1, salt)
            yield Gap(start + at, start + following)
            at = following
        else:
            yield frame
            at = frame.end - start


def _frame_at(data: bytes, at: int, salt: bytes, start: int) -> Frame | None:
    head = data[at : at + FRAME_HEAD.size]
    if not _is_head(head, salt):
        return None
    _, number, n_bytes, n_entries, _ = FRAME_HEAD.unpack(head)
    body = at + FRAME_HEAD.size
    if body + n_bytes > len(data):
        return None
    entries = list(_entries(data, body, body + n_bytes))
    return Frame(number, start + at, start + body + n_bytes, entries, n_entries - len(entries))


def _entries(data: bytes, at: int, end: int) -> Iterator[bytes]:
    while at + ENTRY_HEAD.size <= end:
        n_bytes, crc = ENTRY_HEAD.unpack_from(data, at)
        at += ENTRY_HEAD.size
        payload = data[at : at + n_bytes]
        at += n_bytes
        # A length that leads outside is damage too, and leaves nothing to go on from.
        if at <= end and zlib.crc32(payload) == crc:
            yield payload


def _next_frame(data: bytes, at: int, salt: bytes) -> int:
    while (at := data.find(salt, at)) >= 0:
        if _is_head(data[at : at + FRAME_HEAD.size], salt):
            return at
        at += 1
    return len(data)


def _is_head(head: bytes, salt: bytes) -> bool:
    return len(head) == FRAME_HEAD.size and head.startswith(salt) and _crc_holds(head)


def _with_crc(head: bytes) -> bytes:
    return head[:-CRC_BYTES] + zlib.crc32(head[:-CRC_BYTES]).to_bytes(CRC_BYTES, "little")


def _crc_holds(head: bytes) -> bool:
    return head == _with_crc(head)
