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
from datetime import UTC, datetime, tzinfo
from itertools import starmap
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from hl_live.buckets import ROWS_AT_A_TIME, Row, filled, plan_filled
from hl_live.chunks import (
    JUST_AFTER,
    WIDTHS,
    Key,
    Part,
    PartCache,
    Range,
    chunk_at,
    first_of,
    last_begin,
    most_buckets,
    numbers_of,
    plan_reads,
    within,
)
from hl_platform.adapters.postgres.bucket_prints import NOTHING, Print, Prints
from hl_platform.adapters.postgres.bucket_rows import BucketSelection
from hl_platform.adapters.postgres.readings import Snapshot

NO_CHUNKS: Mapping[int, Print] = {}


class Ask(NamedTuple):
    """What a request wants.

    Args:
        selection: which buckets.
        make: makes a bucket of a row.
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


class _Piece:
    """What a page has of one chunk.

    Args:
        key: of the chunk.
        span: what of it lies in the range; None for all.
        part: of all of it, where that is kept.
        reads: what is read of it otherwise.
        is_kept: what is read is kept: it is all of a steady chunk.
    """

    __slots__ = ("is_kept", "key", "part", "reads", "span")

    def __init__(
        self,
        key: Key,
        span: Range | None,
        part: Part | None,
        reads: Range | None = None,
        *,
        is_kept: bool = False,
    ) -> None:
        self.key = key
        self.span = span
        self.part = part
        self.reads = reads
        self.is_kept = is_kept


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
        for device_id, part in await _read_some(snapshot, cache, ask, devices[:n_devices], digest):
            if missing and part.n_buckets:
                cut = part if part.n_buckets <= missing else first_of(part, missing)
                found.append((device_id, cut))
                missing -= cut.n_buckets
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
) -> list[tuple[str, Part]]:
    """The parts of some devices, in order, each with its device."""
    selection, width = ask.selection, WIDTHS[ask.selection.grain]
    numbers = numbers_of(Range(selection.start, selection.end), width)
    around = Range(chunk_at(numbers[0], width).start, chunk_at(numbers[-1], width).end)
    prints = await snapshot.prints(selection, devices, around.start, around.end, width)
    pieces = [piece for device_id in devices for piece in _plan_pieces(cache, ask, prints, device_id)]
    # The prints tell what steady chunks hold; what is read of the others tells it itself.
    known = [prints.known.get(device_id, NO_CHUNKS) for device_id in devices]
    digest.update(repr((prints.generation, devices, known)).encode())
    missing = [piece for piece in pieces if piece.reads is not None]
    rows = await _read_missing(snapshot, selection, missing)
    n_rows = 0
    for piece in missing:
        assert piece.reads is not None  # noqa: S101 - chosen so
        read = _between(rows[piece.key[1]], piece.reads)
        piece.part = _encoded(_filled(read, piece, ask) if ask.fill else read, ask.make)
        if piece.is_kept:
            cache.put(piece.key, prints.of(*piece.key[1:]), piece.part)
        else:
            digest.update(b"%d:%b" % (piece.key[2], piece.part.body))
        n_rows += len(read)
        if n_rows > ROWS_AT_A_TIME:
            n_rows = 0
            await asyncio.sleep(0)
    return [(piece.key[1], _cut(piece)) for piece in pieces]


def _plan_pieces(cache: PartCache, ask: Ask, prints: Prints, device_id: str) -> Iterator[_Piece]:
    selection, width = ask.selection, WIDTHS[ask.selection.grain]
    start = selection.start
    if selection.after is not None and selection.after[0] == device_id:
        start = max(start, selection.after[1] + JUST_AFTER)
    if start >= selection.end:
        return
    numbers = numbers_of(Range(start, selection.end), width)
    about = f"{ask.about}/{prints.generation}"
    known = prints.known.get(device_id, NO_CHUNKS)
    for number in numbers if ask.fill else [number for number in known if number in numbers]:
        key = (about, device_id, number)
        is_steady = number < prints.open_from and key[1:] not in prints.dirty
        part = cache.get(key, known.get(number, NOTHING)) if is_steady else None
        if part is not None and numbers[0] < number < numbers[-1]:
            yield _Piece(key, None, part)
            continue
        whole = chunk_at(number, width)
        span = Range(max(start, whole.start), min(selection.end, whole.end))
        reads = None if part is not None else whole if is_steady else span
        yield _Piece(key, None if span == whole else span, part, reads, is_kept=is_steady)


def _cut(piece: _Piece) -> Part:
    assert piece.part is not None  # noqa: S101 - kept, or read
    return piece.part if piece.span is None else within(piece.part, piece.span)


async def _read_missing(
    snapshot: Snapshot, selection: BucketSelection, pieces: Sequence[_Piece]
) -> Mapping[str, list[Row]]:
    """What has to be read for some pieces, and maybe more, by device and in order."""
    found: dict[str, list[Row]] = {piece.key[1]: [] for piece in pieces}
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
        device_ids=[piece.key[1]], start=piece.reads.start, end=piece.reads.end, after=None, limit=None
    )
    # What is steady has ended by the database's clock, whatever ours says.
    now = datetime.max.replace(tzinfo=UTC) if piece.is_kept else datetime.now(UTC)
    return filled(plan_filled(chosen, ask.zone, now), rows)


def _encoded(rows: Sequence[Row], make: Callable[..., msgspec.Struct]) -> Part:
    return Part(len(rows), msgspec.json.encode(list(starmap(make, rows)))[1:-1])
