"""Pages of buckets, put together from what is kept in memory and what has to be read, all of one moment.

1. The database tells the prints of the chunks that the range touches. A chunk is *steady* when none of its buckets is
   dirty or can still end in the future.
2. Of a steady chunk with the print that it is kept under, the kept part is taken. All else is read, in the same
   snapshot, as the public view has it; what is steady and read whole is kept.
3. The parts are cut at the ends of the range and of the page.
"""

import asyncio
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import starmap
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from hl_live.buckets import ROWS_AT_A_TIME, Row, filled, plan_filled
from hl_live.chunks import (
    WIDTHS,
    Key,
    Part,
    PartCache,
    Range,
    chunk_of,
    chunks_of,
    first_of,
    last_begin,
    most_buckets,
    plan_reads,
    within,
)
from hl_platform.adapters.postgres.bucket_prints import Prints
from hl_platform.adapters.postgres.bucket_rows import BucketSelection
from hl_platform.adapters.postgres.readings import Snapshot

JUST_AFTER = timedelta(microseconds=1)


class Ask(NamedTuple):
    """What a request wants.

    Args:
        selection: which buckets.
        make: of a row, what is encoded.
        fill: buckets of which nothing is known are wanted, too.
        zone: the household's.
        about: what the bytes of a bucket depend on beside its row: model, columns, `fill`.
    """

    selection: BucketSelection
    make: Callable[..., msgspec.Struct]
    fill: bool
    zone: tzinfo
    about: str


class Page(NamedTuple):
    """An answer's buckets.

    Args:
        parts: in order.
        last: device and begin of the last bucket, if there are as many as were asked for.
        digest: differs where the buckets do.
    """

    parts: list[Part]
    last: tuple[str, datetime] | None
    digest: bytes


@dataclass
class _Piece:
    """What a page has of one chunk.

    Args:
        span: what of it lies in the range.
        reads: what is read of it; None where its part is kept.
        is_steady: nothing of the chunk is dirty or can still end in the future; the part is of the whole of it.
    """

    key: Key
    span: Range
    whole: Range
    is_steady: bool
    reads: Range | None
    part: Part = field(default=Part(0, b""))


def can_be_kept(selection: BucketSelection) -> bool:
    """Whether parts of such a request are kept.

    Without devices, all of them would have to be looked at for a page of few. The same holds for small pages of a long
    range. A range shorter than a chunk is read at once.
    """
    width = WIDTHS.get(selection.grain)
    if width is None or selection.device_ids is None or selection.limit is None:
        return False
    span = Range(selection.start, selection.end)
    return span.end - span.start >= width and most_buckets(selection.grain, span) <= selection.limit


async def read_page(snapshot: Snapshot, cache: PartCache, ask: Ask) -> Page:
    """A page of a request that can be kept (`can_be_kept`).

    Guarantee: it says what `public.<model>` says in the snapshot.
    """
    selection = ask.selection
    assert selection.limit is not None  # noqa: S101 - can_be_kept() says so
    devices = list(selection.device_ids or ())
    if len(set(devices)) > 1 or selection.after is not None:
        devices = await snapshot.ordered(devices, selection.after[0] if selection.after else None)
    else:
        devices = devices[:1]
    at_once = most_buckets(selection.grain, Range(selection.start, selection.end))
    digest = hashlib.blake2b(digest_size=16)
    found: list[tuple[str, Part]] = []
    missing = selection.limit
    while devices and missing > 0:
        n_devices = max(1, missing // at_once)
        for piece in await _read_some(snapshot, cache, ask, devices[:n_devices], digest):
            part = piece.part if piece.part.n_buckets <= missing else first_of(piece.part, missing)
            missing -= part.n_buckets
            if part.n_buckets:
                found.append((piece.key.device_id, part))
        devices = devices[n_devices:]
    last = (found[-1][0], last_begin(found[-1][1])) if found and missing == 0 else None
    return Page([part for _, part in found], last, digest.digest())


async def page_of(rows: Sequence[Row], ask: Ask) -> Page:
    """A page of rows that were read otherwise; lets others run while it is encoded."""
    parts = []
    digest = hashlib.blake2b(digest_size=16)
    for first in range(0, len(rows), ROWS_AT_A_TIME):
        parts.append(_encoded(rows[first : first + ROWS_AT_A_TIME], ask.make))
        digest.update(parts[-1].body)
        await asyncio.sleep(0)
    last = (rows[-1][0], rows[-1][1]) if rows and len(rows) == ask.selection.limit else None
    return Page(parts, last, digest.digest())


async def _read_some(
    snapshot: Snapshot,
    cache: PartCache,
    ask: Ask,
    devices: Sequence[str],
    digest: Any,  # noqa: ANN401 - one of hashlib's
) -> list[_Piece]:
    """The pieces of some devices, in order."""
    selection, width = ask.selection, WIDTHS[ask.selection.grain]
    end = chunk_of(selection.end - JUST_AFTER, width) + width
    prints = await snapshot.prints(selection, devices, chunk_of(selection.start, width), end, width)
    pieces = [piece for device_id in devices for piece in _plan_pieces(cache, ask, prints, device_id)]
    rows = await _read_missing(snapshot, selection, pieces)
    digest.update(repr((prints.generation, devices)).encode())
    n_rows = 0
    for piece in pieces:
        if piece.reads is not None:
            read = _between(rows[piece.key.device_id], piece.reads)
            piece.part = _encoded(_filled(read, piece, ask) if ask.fill else read, ask.make)
            if piece.is_steady:
                cache.put(piece.key, prints.of(piece.key[1:]), piece.part)
            n_rows += len(read)
            if n_rows > ROWS_AT_A_TIME:
                n_rows = 0
                await asyncio.sleep(0)
        # The print tells what a steady part says; the others tell it themselves.
        told = b"%d/%d/" % prints.of(piece.key[1:])[1:] if piece.is_steady else piece.part.body
        digest.update(b"%d:%b" % (piece.key.chunk.toordinal(), told))
        if piece.is_steady and piece.span != piece.whole:
            piece.part = within(piece.part, piece.span)
    return pieces


def _plan_pieces(cache: PartCache, ask: Ask, prints: Prints, device_id: str) -> Iterator[_Piece]:
    selection, width = ask.selection, WIDTHS[ask.selection.grain]
    start = selection.start
    if selection.after is not None and selection.after[0] == device_id:
        start = max(start, selection.after[1] + JUST_AFTER)
    for chunk in chunks_of(Range(start, selection.end), width):
        if not ask.fill and (device_id, chunk) not in prints.known:
            continue
        key, whole = Key(ask.about, device_id, chunk), Range(chunk, chunk + width)
        span = Range(max(start, whole.start), min(selection.end, whole.end))
        if key[1:] in prints.dirty or whole.end > prints.open_from:
            yield _Piece(key, span, whole, is_steady=False, reads=span)
        elif (part := cache.get(key, prints.of(key[1:]))) is not None:
            yield _Piece(key, span, whole, is_steady=True, reads=None, part=part)
        else:
            yield _Piece(key, span, whole, is_steady=True, reads=whole)


async def _read_missing(
    snapshot: Snapshot, selection: BucketSelection, pieces: Sequence[_Piece]
) -> Mapping[str, list[Row]]:
    """What has to be read for some pieces, and maybe more, by device and in order."""
    found: dict[str, list[Row]] = {piece.key.device_id: [] for piece in pieces if piece.reads is not None}
    for span in plan_reads([piece.reads for piece in pieces if piece.reads is not None]):
        chosen = selection._replace(
            device_ids=list(found), start=span.start, end=span.end, after=None, limit=None
        )
        for row in await snapshot.buckets(chosen):
            found[row[0]].append(row)
    return found


def _between(rows: Sequence[Row], span: Range) -> Sequence[Row]:
    first, behind = (bisect_left(rows, at, key=itemgetter(1)) for at in span)
    return rows[first:behind]


def _filled(rows: Sequence[Row], piece: _Piece, ask: Ask) -> Sequence[Row]:
    assert piece.reads is not None  # noqa: S101 - the caller has read it
    chosen = ask.selection._replace(
        device_ids=[piece.key.device_id], start=piece.reads.start, end=piece.reads.end, after=None, limit=None
    )
    # What is steady has ended by the database's clock, whatever ours says.
    now = datetime.max.replace(tzinfo=UTC) if piece.is_steady else datetime.now(UTC)
    return filled(plan_filled(chosen, ask.zone, now), rows)


def _encoded(rows: Sequence[Row], make: Callable[..., msgspec.Struct]) -> Part:
    return Part(len(rows), msgspec.json.encode(list(starmap(make, rows)))[1:-1])
