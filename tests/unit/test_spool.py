"""The spool: what append returned from is there in order, whatever cut the file short; damage is told."""

import os
import random
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hl_platform.adapters.spool import Damage, Spool, SpoolFullError
from hl_platform.core.errors import TransientError


class Opened:
    """A spool and what it told."""

    def __init__(self, directory: Path, **options: int) -> None:
        self.found: list[bytes] = []
        self.damages: list[Damage] = []
        self.spool = Spool(
            directory,
            **{"max_bytes": 2**30, **options},
            on_found=self.found.extend,
            on_damage=self.damages.append,
        )

    def drain(self) -> list[bytes]:
        taken: list[bytes] = []
        while frame := self.spool.take():
            taken += frame.entries
            self.spool.release(frame.number)
        return taken

    def drain_and_close(self) -> list[bytes]:
        taken = self.drain()
        self.spool.close()
        return taken


def crash(spool: Spool) -> None:
    """Lets go of the files as a killed process does: nothing is saved."""
    spool._close_segment()
    os.close(spool._cursor)
    os.close(spool._lock)


def test_entries_leave_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.spool.append([b"1", b""])
    opened.spool.append([b"2" * 100_000])
    assert opened.drain_and_close() == [b"1", b"", b"2" * 100_000]


def test_entries_are_there_after_a_crash_and_are_told_at_the_start(tmp_path: Path) -> None:
    spool = Opened(tmp_path).spool
    spool.append([b"1"])
    spool.append([b"2", b"3"])
    crash(spool)
    again = Opened(tmp_path)
    assert again.found == [b"1", b"2", b"3"]
    assert again.spool.n_waiting == 3
    assert again.drain_and_close() == [b"1", b"2", b"3"]


def test_released_entries_do_not_come_back_after_a_close(tmp_path: Path) -> None:
    first = Opened(tmp_path)
    first.spool.append([b"1"])
    first.spool.append([b"2"])
    frame = first.spool.take()
    assert frame is not None
    first.spool.release(frame.number)
    first.spool.close()
    assert Opened(tmp_path).drain_and_close() == [b"2"]


def test_drained_segments_give_their_room_back(tmp_path: Path) -> None:
    opened = Opened(tmp_path, segment_bytes=100)
    for number in range(20):
        opened.spool.append([b"x" * 50, str(number).encode()])
    assert len(list(tmp_path.glob("*.seg"))) > 5
    opened.drain()
    assert list(tmp_path.glob("*.seg")) == []
    assert opened.spool.size_bytes == 0
    assert opened.spool.is_empty


def test_full_spool_takes_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    opened = Opened(tmp_path, max_bytes=1_000, segment_bytes=200)
    for _ in range(6):
        opened.spool.append([b"x" * 100])
    with pytest.raises(SpoolFullError):
        opened.spool.append([b"x" * 300])
    assert len(opened.drain()) == 6
    opened.spool.append([b"y"])
    assert opened.drain_and_close() == [b"y"]


def test_full_disk_acknowledges_nothing_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(tmp_path)
    opened.spool.append([b"1"])
    write = os.pwrite

    def half(descriptor: int, data: bytes, at: int) -> int:
        if len(data) > 20:
            return write(descriptor, data[:20], at)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(SpoolFullError):
        opened.spool.append([b"2" * 100])
    monkeypatch.undo()
    opened.spool.append([b"3"])
    crash(opened.spool)
    again = Opened(tmp_path)
    assert again.damages == []
    assert again.drain_and_close() == [b"1", b"3"]


def test_failed_sync_is_not_trusted_and_loses_nothing_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(tmp_path)
    opened.spool.append([b"1"])

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(TransientError):
        opened.spool.append([b"2"])
    monkeypatch.undo()
    opened.spool.append([b"2", b"3"])
    assert opened.drain() == [b"1", b"2", b"3"]
    assert opened.spool.is_empty


def test_a_second_process_is_kept_out_until_the_first_ends(tmp_path: Path) -> None:
    first = Opened(tmp_path)
    with pytest.raises(TransientError, match="in use"):
        Opened(tmp_path)
    first.spool.close()
    Opened(tmp_path).spool.close()


def test_others_cannot_look_into_the_spool(tmp_path: Path) -> None:
    opened = Opened(tmp_path / "spool")
    opened.spool.append([b"1"])
    opened.spool.close()
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").iterdir()} == {0o600}


def filled(directory: Path, n_frames: int) -> Path:
    """A spool of frames of three entries, closed by a crash; its only segment."""
    spool = Opened(directory).spool
    for number in range(n_frames):
        spool.append([b"%d-%d" % (number, part) for part in range(3)])
    crash(spool)
    [segment] = directory.glob("*.seg")
    return segment


def expected(*numbers: int) -> list[bytes]:
    return [b"%d-%d" % (number, part) for number in numbers for part in range(3)]


def test_damage_in_the_middle_costs_one_entry_is_told_and_the_file_is_kept(tmp_path: Path) -> None:
    segment = filled(tmp_path, 5)
    data = bytearray(segment.read_bytes())
    data[data.index(b"2-1")] ^= 1
    segment.write_bytes(data)
    opened = Opened(tmp_path)
    [damage] = opened.damages
    assert damage.path == segment
    wanted = [entry for entry in expected(0, 1, 2, 3, 4) if entry != b"2-1"]
    assert opened.drain_and_close() == wanted
    assert len(opened.damages) == 1
    assert len(list(tmp_path.glob("*.damaged"))) == 1


def test_frame_with_a_damaged_head_is_told_and_those_around_it_survive(tmp_path: Path) -> None:
    segment = filled(tmp_path, 5)
    data = bytearray(segment.read_bytes())
    data[data.index(b"2-0") - 20] ^= 1
    segment.write_bytes(data)
    opened = Opened(tmp_path)
    assert len(opened.damages) == 1
    assert opened.drain_and_close() == expected(0, 1, 3, 4)


def test_missing_segment_is_told(tmp_path: Path) -> None:
    opened = Opened(tmp_path, segment_bytes=50)
    for number in range(4):
        opened.spool.append([b"x" * 60 + str(number).encode()])
    crash(opened.spool)
    sorted(tmp_path.glob("*.seg"))[1].unlink()
    again = Opened(tmp_path)
    [damage] = again.damages
    assert "missing" in damage.what
    assert len(again.drain_and_close()) == 3


def test_tail_that_was_known_to_be_durable_is_damage_and_not_torn(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.spool.append([b"1"])
    opened.spool.append([b"2"])
    opened.spool.close()
    [segment] = tmp_path.glob("*.seg")
    os.truncate(segment, segment.stat().st_size - 1)
    again = Opened(tmp_path)
    assert again.damages
    assert again.drain_and_close() == [b"1"]


def test_lost_cursor_repeats_entries_and_loses_none(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.spool.append([b"1"])
    opened.spool.append([b"2"])
    frame = opened.spool.take()
    assert frame is not None
    opened.spool.release(frame.number)
    opened.spool.close()
    (tmp_path / "cursor").write_bytes(b"")
    assert Opened(tmp_path).drain_and_close() == [b"1", b"2"]


def test_payload_that_imitates_a_frame_is_only_a_payload(tmp_path: Path) -> None:
    segment = filled(tmp_path, 2)
    forged = segment.read_bytes()
    spool = Opened(tmp_path).spool
    spool.append([forged])
    spool.append([b"last"])
    crash(spool)
    assert Opened(tmp_path).drain_and_close() == [*expected(0, 1), forged, b"last"]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_any_history_of_appends_drains_and_crashes_loses_nothing_durable_and_keeps_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, data: st.DataObject
) -> None:
    rng = random.Random(seed)
    directory = tmp_path_factory.mktemp("spool")
    durable: list[bytes] = []
    delivered: list[bytes] = []
    n_made = 0
    opened = Opened(directory, segment_bytes=300)
    steps = data.draw(st.lists(st.sampled_from(["append", "drain", "crash", "tear", "close"]), max_size=40))
    for step in steps:
        if step == "append":
            batch = [
                b"%06d" % (n_made + part) + rng.randbytes(rng.randrange(60))
                for part in range(rng.randint(1, 4))
            ]
            n_made += len(batch)
            opened.spool.append(batch)
            durable += batch
        elif step == "drain":
            frame = opened.spool.take()
            if frame is not None:
                delivered += frame.entries
                opened.spool.release(frame.number)
        else:
            if step == "close":
                opened.spool.close()
            else:
                crash(opened.spool)
            if step == "tear":
                tear(directory, rng)
            opened = Opened(directory, segment_bytes=300)
            assert opened.damages == []
    delivered += opened.drain_and_close()
    assert list(dict.fromkeys(delivered)) == durable
    shutil.rmtree(directory)


def tear(directory: Path, rng: random.Random) -> None:
    """Leaves an append that was never synced: any part of a frame, or bytes that are none, at the end."""
    segments: Sequence[Path] = sorted(directory.glob("*.seg"))
    if segments:
        frame = segments[-1].read_bytes()[28:]
        with segments[-1].open("ab") as file:
            file.write(rng.choice([frame[: rng.randrange(40)], bytes(rng.randrange(40)), rng.randbytes(30)]))
