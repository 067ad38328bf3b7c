"""A spool on disk: entries are appended durably at the end and leave at the front, across crashes and power cuts.

`<directory>/lock` keeps a second process out, `<directory>/*.seg` are the segments (`spool_format`), deleted when
drained, and `<directory>/cursor` says how far that is. A cursor that is lost or old repeats entries and loses none.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog

from hl_platform.adapters.spool_format import (
    SEGMENT_HEAD,
    Frame,
    Gap,
    decode_segment_head,
    encode_frame,
    encode_segment_head,
    scan,
)
from hl_platform.core.errors import TransientError

log = structlog.get_logger()

# A drained segment gives its room back: small against the bound, large against the cost of a new file.
SEGMENT_BYTES = 16 * 1024 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT)


class SpoolError(TransientError):
    """The disk failed, or the spool is in use elsewhere."""


class SpoolFullError(SpoolError):
    """The spool's bound is reached, or its disk is full."""


class Damage(NamedTuple):
    """Entries that were durable and cannot be read any more.

    Args:
        path: segment. When the rest of it is drained it stays, under a name that ends in `.damaged`.
        start, end: the bytes concerned, half-open; both 0 where whole frames are missing.
        what: the same in words.
    """

    path: Path
    start: int
    end: int
    what: str


@dataclass(slots=True)
class Segment:
    """One file.

    Args:
        salt: of its frames.
        size: up to the end of its last durable frame, in bytes.
        last: number of that frame; the one before the segment while it has none.
        damaged: whether it must be kept.
    """

    path: Path
    salt: bytes
    size: int
    last: int
    damaged: bool = False


class Spool:
    """Entries on disk. One thread at a time.

    Guarantee: what `append` returned from is there after a crash or a power cut, in order, until it was released;
    what it raised for may be there or not. Damage is reported, never passed over.

    Args:
        directory: made if need be, closed to others.
        max_bytes: bound of all segments together.
        on_found: told of the entries that are there already, in order.
        on_damage: told of what cannot be read, once.
        segment_bytes: size at which a new segment begins.

    Raises:
        SpoolError: another process has it, or the directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        on_found: Callable[[Sequence[bytes]], None],
        on_damage: Callable[[Damage], None],
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.max_bytes = max_bytes
        self.n_waiting = 0
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._on_damage = on_damage
        self._segments: deque[Segment] = deque()
        self._writing: int | None = None
        self._ahead: deque[Frame] = deque()
        self._read_at: tuple[Segment, int] | None = None
        # (number, entries) of the durable frames that were not released.
        self._waiting: deque[tuple[int, int]] = deque()
        self._reported: set[tuple[Path, int]] = set()
        with self._translated():
            _make_private(directory)
            self._lock = _lock(directory / "lock")
            try:
                self._cursor = os.open(directory / "cursor", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._released, synced = self._read_cursor()
                self._last = self._released
                self._load(synced, on_found)
                # Above every number that may be on disk, readable or not.
                self._next = max(self._last, synced) + 1
                self._drop_drained()
            except BaseException:
                os.close(self._lock)
                raise

    @property
    def size_bytes(self) -> int:
        """What the segments take on disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def is_empty(self) -> bool:
        """Whether everything was released."""
        return not self._waiting

    def append(self, entries: Sequence[bytes]) -> None:
        """Makes entries durable, all or none of them.

        Raises:
            SpoolFullError: the spool or its disk is full.
            SpoolError: the disk failed.
        """
        with self._translated():
            try:
                self._append(entries)
            except OSError:
                self._give_up_segment()
                raise

    def take(self) -> Frame | None:
        """The next frame that was not taken yet; None at the end. Its lost entries were reported.

        Raises:
            SpoolError: the disk failed.
        """
        with self._translated():
            while not self._ahead and self._read_more():
                pass
        return self._ahead.popleft() if self._ahead else None

    def release(self, number: int) -> None:
        """Lets go of all frames up to this one."""
        self._released = max(self._released, number)
        while self._waiting and self._waiting[0][0] <= number:
            self.n_waiting -= self._waiting.popleft()[1]
        self._drop_drained()

    def save(self) -> None:
        """Notes on disk what was released, so that a restart repeats less."""
        self._write_cursor()

    def close(self) -> None:
        """Notes what was released, and lets another process in."""
        self.save()
        self._close_segment()
        os.close(self._cursor)
        os.close(self._lock)

    def _append(self, entries: Sequence[bytes]) -> None:
        descriptor, segment = self._writing, self._segments[-1] if self._segments else None
        frame = encode_frame(segment.salt if segment else bytes(8), self._next, entries)
        if self.size_bytes + len(frame) + SEGMENT_HEAD.size > self.max_bytes:
            raise SpoolFullError(f"The spool holds {self.size_bytes} of {self.max_bytes} bytes.")
        if descriptor is None or segment is None or segment.size >= self._segment_bytes:
            descriptor, segment = self._begin_segment()
            frame = encode_frame(segment.salt, self._next, entries)
        _write_all(descriptor, frame, segment.size)
        os.fdatasync(descriptor)
        segment.size += len(frame)
        self._last = segment.last = self._next
        self._next += 1
        self._waiting.append((self._last, len(entries)))
        self.n_waiting += len(entries)

    def _begin_segment(self) -> tuple[int, Segment]:
        self._close_segment()
        number = int(self._segments[-1].path.stem) + 1 if self._segments else 1
        path = self._directory / f"{number:012}.seg"
        salt = secrets.token_bytes(8)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._writing = descriptor
        segment = Segment(path, salt, SEGMENT_HEAD.size, self._last)
        self._segments.append(segment)
        _write_all(descriptor, encode_segment_head(salt, self._last), 0)
        _sync_directory(self._directory)
        return descriptor, segment

    def _give_up_segment(self) -> None:
        """Nothing may stand behind a frame that was not synced: cut it off, and go on in another segment."""
        if self._writing is None:
            return
        segment = self._segments[-1]
        # Where even that fails, the next start finds the rest and says so.
        with contextlib.suppress(OSError):
            os.ftruncate(self._writing, segment.size)
        self._close_segment()
        # What was written may stay readable; its number is not used again.
        self._next += 1
        if segment.size == SEGMENT_HEAD.size:
            self._segments.pop()
            with contextlib.suppress(OSError):
                segment.path.unlink()

    def _close_segment(self) -> None:
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None

    def _read_more(self) -> bool:
        """Fetches what follows in the segment at hand, or goes on to the next; False at the end."""
        if self._read_at is None:
            if not self._segments:
                return False
            self._read_at = (self._segments[0], SEGMENT_HEAD.size)
        segment, offset = self._read_at
        if offset < segment.size:
            self._ahead.extend(self._frames(segment, offset))
            self._read_at = (segment, segment.size)
            return True
        following = [other for other in self._segments if other.path > segment.path]
        if following:
            self._read_at = (following[0], SEGMENT_HEAD.size)
        return bool(following)

    def _frames(self, segment: Segment, offset: int) -> Iterator[Frame]:
        """The frames from a place on that were not released; reports gaps and losses."""
        for item in scan(_read(segment.path, offset, segment.size), segment.salt, offset):
            if isinstance(item, Gap):
                self._report(segment, item.start, item.end, f"{item.end - item.start} bytes are unreadable")
                continue
            if item.n_lost:
                self._report(segment, item.start, item.end, f"{item.n_lost} entries are unreadable")
            if item.number > self._released:
                yield item

    def _report(self, segment: Segment, start: int, end: int, what: str) -> None:
        segment.damaged = True
        if (segment.path, start) not in self._reported:
            self._reported.add((segment.path, start))
            self._on_damage(Damage(segment.path, start, end, what))

    def _drop_drained(self) -> None:
        if not self._segments or self._segments[0].last > self._released:
            return
        # Durable before anything is deleted: else a power cut could make deleted frames look missing.
        self._write_cursor(sync=True)
        while self._segments and self._segments[0].last <= self._released:
            segment = self._segments.popleft()
            if not self._segments:
                self._close_segment()
            self._reported = {(path, start) for path, start in self._reported if path != segment.path}
            if self._read_at is not None and self._read_at[0] is segment:
                self._read_at = None
            try:
                if segment.damaged:
                    _keep(segment.path)
                else:
                    segment.path.unlink()
            except OSError as exc:
                log.warning("spool_segment_stays", file=str(segment.path), error=str(exc))

    def _load(self, synced: int, on_found: Callable[[Sequence[bytes]], None]) -> None:
        """Finds the segments and what is in them; cuts off what a crash left behind the last durable frame."""
        paths = sorted(self._directory.glob("*.seg"))
        for path in paths:
            head = decode_segment_head(_read(path, 0, SEGMENT_HEAD.size))
            if head is None:
                self._set_aside(path, is_last=path == paths[-1], synced=synced)
                continue
            segment = Segment(path, head[0], path.stat().st_size, head[1])
            if path == paths[-1]:
                self._cut_torn_tail(segment, synced)
            self._segments.append(segment)
            if head[1] > self._last:
                self._report(segment, 0, 0, f"frames {self._last + 1} to {head[1]} are missing before it")
            for frame in self._frames(segment, SEGMENT_HEAD.size):
                on_found(frame.entries)
                self._waiting.append((frame.number, len(frame.entries)))
                self.n_waiting += len(frame.entries)
                segment.last = max(segment.last, frame.number)
            self._last = max(self._last, segment.last)
        if self._segments and self._last < synced:
            self._report(
                self._segments[-1], 0, 0, f"frames {self._last + 1} to {synced} are missing behind it"
            )

    def _cut_torn_tail(self, segment: Segment, synced: int) -> None:
        """Frames are synced one by one, so only the very last may be torn; what is known as synced is not cut."""
        before, tail = segment.last, None
        for item in scan(
            _read(segment.path, SEGMENT_HEAD.size, segment.size), segment.salt, SEGMENT_HEAD.size
        ):
            if tail is not None and isinstance(tail, Frame):
                before = tail.number
            tail = item
        torn = isinstance(tail, Gap) or (tail is not None and tail.n_lost > 0)
        if tail is None or not torn or before < synced:
            return
        log.info("spool_tail_dropped", file=str(segment.path), n_bytes=tail.end - tail.start)
        os.truncate(segment.path, tail.start)
        segment.size = tail.start

    def _set_aside(self, path: Path, *, is_last: bool, synced: int) -> None:
        if is_last and self._last >= synced and path.stat().st_size <= SEGMENT_HEAD.size:
            # Begun and never synced: nothing in it was acknowledged.
            path.unlink()
            return
        kept = _keep(path)
        self._on_damage(Damage(kept, 0, kept.stat().st_size, "the segment has no readable head"))

    def _read_cursor(self) -> tuple[int, int]:
        """(last released frame, last frame known to be durable)."""
        head = decode_segment_head(os.pread(self._cursor, SEGMENT_HEAD.size, 0))
        return (head[1], int.from_bytes(head[0], "little")) if head else (0, 0)

    def _write_cursor(self, *, sync: bool = False) -> None:
        # In place, so that a full disk can be drained; torn, it counts as lost.
        content = encode_segment_head(self._last.to_bytes(8, "little"), self._released)
        try:
            _write_all(self._cursor, content, 0)
            if sync:
                os.fdatasync(self._cursor)
        except OSError as exc:
            log.warning("spool_cursor_not_saved", error=str(exc))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            text = f"The spool {self._directory}: {exc.strerror or exc}"
            if exc.errno in FULL:
                raise SpoolFullError(text) from exc
            raise SpoolError(text) from exc


def _make_private(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        _sync_directory(directory.parent)
    directory.chmod(0o700)


def _keep(path: Path) -> Path:
    # Names of segments come again; what is damaged must not be overwritten.
    return path.rename(path.with_name(f"{path.stem}-{secrets.token_hex(4)}.damaged"))


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise SpoolError(f"The spool {path.parent} is in use by another process.") from exc
    return descriptor


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        n_written = os.pwrite(descriptor, rest, at)
        rest, at = rest[n_written:], at + n_written


def _read(path: Path, start: int, end: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)
    except FileNotFoundError:
        return b""


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
