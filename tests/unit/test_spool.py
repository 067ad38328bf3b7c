"""The spool keeps what it said it keeps, whatever is killed, cut off, full or damaged."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hl_platform.adapters.spool import FILE, PAGE_BYTES, Frame, Spool, SpoolError, SpoolFullError

ENOUGH = 64 * 1024 * 1024


class Opened:
    """A spool with what it found and reported."""

    def __init__(self, directory: Path, max_bytes: int = ENOUGH) -> None:
        self.found: list[bytes] = []
        self.damage: list[str] = []
        self.spool = Spool(
            directory, max_bytes=max_bytes, on_found=self.found.extend, on_damage=self.damage.append
        )

    def drain(self) -> list[bytes]:
        return [entry for frame in self.frames() for entry in frame.entries]

    def frames(self) -> list[Frame]:
        frames = []
        while (frame := self.spool.take()) is not None:
            frames.append(frame)
        return frames

    def release(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self.spool.release(frame.number)


def test_entries_leave_in_the_order_in_which_they_came(tmp_path: Path):
    opened = Opened(tmp_path)
    opened.spool.append([b"a", b"b"])
    assert opened.drain() == [b"a", b"b"]
    opened.spool.append([b"c"])
    assert opened.drain() == [b"c"]


def test_entries_that_were_not_released_come_again_after_a_restart(tmp_path: Path):
    first = Opened(tmp_path)
    first.spool.append([b"a"])
    first.spool.append([b"b"])
    first.drain()
    first.spool.close()
    assert Opened(tmp_path).found == [b"a", b"b"]


def test_released_entries_do_not_come_again_after_an_orderly_end(tmp_path: Path):
    first = Opened(tmp_path)
    first.spool.append([b"a"])
    first.release(first.frames())
    first.spool.append([b"b"])
    first.spool.close()
    second = Opened(tmp_path)
    assert second.drain() == [b"b"]
    assert second.spool.n_waiting == 1


def test_a_second_process_is_kept_out(tmp_path: Path):
    opened = Opened(tmp_path)
    with pytest.raises(SpoolError, match="in use"):
        Opened(tmp_path)
    opened.spool.close()
    Opened(tmp_path).spool.close()


def test_a_killed_process_leaves_all_that_it_had_appended(tmp_path: Path):
    script = (
        "import os, sys; from pathlib import Path; from hl_platform.adapters.spool import Spool\n"
        f"spool = Spool(Path({str(tmp_path)!r}), max_bytes={ENOUGH}, on_found=list, on_damage=str)\n"
        "for n in range(50): spool.append([b'%d' % n])\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert Opened(tmp_path).found == [b"%d" % n for n in range(50)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=5), min_size=1, max_size=8),
    n_synced=st.integers(0, 7),
    share=st.floats(0, 1),
)
def test_a_power_cut_takes_nothing_that_was_synced_and_leaves_no_half_append(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], n_synced: int, share: float
):
    directory, copy = tmp_path_factory.mktemp("spool") / "s", tmp_path_factory.mktemp("cut") / "s"
    n_synced = min(n_synced, len(batches))
    opened = Opened(directory)
    log = directory / f"{FILE}-wal"
    for batch in batches[:n_synced]:
        opened.spool.append(batch)
    synced_bytes = log.stat().st_size
    for batch in batches[n_synced:]:
        opened.spool.append(batch)
    shutil.copytree(directory, copy)
    # What came after the last sync may have reached the disk up to any byte.
    torn = synced_bytes + int(share * (log.stat().st_size - synced_bytes))
    with (copy / log.name).open("r+b") as file:
        file.truncate(torn)
    survived = Opened(copy).found
    whole = [[entry for batch in batches[:n] for entry in batch] for n in range(n_synced, len(batches) + 1)]
    opened.spool.close()
    assert survived in whole


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.sampled_from("tro"))))
def test_whatever_happens_in_whatever_order_nothing_is_lost_and_order_is_kept(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object]
):
    directory = tmp_path_factory.mktemp("spool")
    opened, waiting, taken = Opened(directory), [], []
    for step in steps:
        if isinstance(step, list):
            opened.spool.append(step)
            waiting += step
        elif step == "t" and (frame := opened.spool.take()) is not None:
            taken.append(frame)
        elif step == "r" and taken:
            frame = taken.pop(0)
            opened.release([frame])
            assert waiting[: len(frame.entries)] == frame.entries
            del waiting[: len(frame.entries)]
        elif step == "o":
            opened.spool.close()
            opened, taken = Opened(directory), []
            assert opened.found == waiting
        assert opened.spool.n_waiting == len(waiting)
    opened.spool.close()


def test_a_full_spool_says_so_and_takes_again_when_there_is_room(tmp_path: Path):
    opened = Opened(tmp_path, max_bytes=1024 * 1024)
    while opened.spool.size_bytes < 1024 * 1024 - 60_000:
        opened.spool.append([bytes(50_000)])
    n_before = opened.spool.n_waiting
    with pytest.raises(SpoolFullError):
        opened.spool.append([bytes(50_000), bytes(50_000)])
    assert opened.spool.size_bytes <= 1024 * 1024
    assert opened.spool.n_waiting == n_before
    opened.release(opened.frames())
    opened.spool.append([b"more"])
    assert opened.drain() == [b"more"]


def test_an_empty_spool_gives_its_room_back(tmp_path: Path):
    opened = Opened(tmp_path)
    opened.spool.append([bytes(100_000) for _ in range(50)])
    opened.release(opened.frames())
    files = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert files < 200_000


def test_a_damaged_entry_is_reported_and_kept_and_the_others_go_on(tmp_path: Path):
    first = Opened(tmp_path)
    first.spool.append([b"a", b"damaged on disk", b"c"])
    first.spool.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute(
            "update entries set payload = ? where payload = ?", (b"something else", b"damaged on disk")
        )
    second = Opened(tmp_path)
    assert second.found == [b"a", b"c"]
    assert len(second.damage) == 1
    second.spool.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert db.execute("select payload from damaged").fetchall() == [(b"something else",)]


def test_a_file_that_is_no_spool_is_set_aside_and_reported(tmp_path: Path):
    (tmp_path / FILE).write_bytes(b"rubbish" * 1_000)
    opened = Opened(tmp_path)
    opened.spool.append([b"a"])
    assert len(opened.damage) == 1
    assert [file.read_bytes() for file in tmp_path.glob("*.damaged*")] == [b"rubbish" * 1_000]


def damage_on_disk(spool: Spool, *numbers: int) -> None:
    """Changes entries behind the spool's back."""
    spool._db.executemany(
        "update entries set payload = cast(x'00' || payload as blob) where number = ?",
        [(number,) for number in numbers],
    )


def test_an_entry_damaged_since_it_was_appended_is_not_waited_for(tmp_path: Path):
    opened = Opened(tmp_path)
    opened.spool.append([b"a", b"b", b"c"])
    damage_on_disk(opened.spool, 2)
    frames = opened.frames()
    assert [frame.entries for frame in frames] == [[b"a", b"c"]]
    assert opened.spool.n_waiting == 2
    opened.release(frames)
    assert opened.spool.is_empty


def test_an_entry_that_has_become_a_text_is_damaged_like_any_other(tmp_path: Path):
    opened = Opened(tmp_path)
    opened.spool.append([b"a", b"b"])
    opened.spool._db.execute("update entries set payload = cast(x'ff00ff' as text) where number = 1")
    assert opened.drain() == [b"b"]
    assert len(opened.damage) == 1


def test_a_spool_with_nothing_but_damaged_entries_is_empty_once_they_are_set_aside(tmp_path: Path):
    opened = Opened(tmp_path)
    opened.spool.append([b"a"])
    damage_on_disk(opened.spool, 1)
    assert opened.spool.take() is None
    assert opened.spool.is_empty


def test_entries_beside_a_damaged_one_that_cannot_be_set_aside_yet_are_not_passed_over(tmp_path: Path):
    opened = Opened(tmp_path)
    opened.spool.append([b"a", b"b", b"c"])
    damage_on_disk(opened.spool, 2)
    opened.spool._db.execute(
        "create trigger failing before insert on damaged begin select raise(abort, 'disk fails'); end"
    )
    for _ in range(2):
        with pytest.raises(SpoolError, match="disk fails"):
            opened.spool.take()
    opened.spool.append([b"d"])
    opened.spool._db.execute("drop trigger failing")
    assert opened.drain() == [b"a", b"c", b"d"]
    assert opened.spool.n_waiting == 3


def test_a_full_spool_with_damaged_entries_can_be_drained(tmp_path: Path):
    opened = Opened(tmp_path, max_bytes=1024 * 1024)
    with suppress(SpoolFullError):
        while True:
            opened.spool.append([bytes(3_000)])
    n_before = opened.spool.n_waiting
    damage_on_disk(opened.spool, *range(1, 100, 2))
    frames = opened.frames()
    assert sum(len(frame.entries) for frame in frames) == n_before - 50
    opened.release(frames)
    assert opened.spool.is_empty
    with pytest.raises(SpoolFullError):
        opened.spool.append([bytes(2 * 1024 * 1024)])


NUMBERED = [b"%05d" % number + bytes(300) for number in range(4_000)]


def spool_with_bad_pages(directory: Path, *shares: float) -> bytes:
    """Leaves a spool of which pages at these shares of the file are rubbish; returns its content."""
    opened = Opened(directory)
    opened.spool.append(NUMBERED)
    opened.spool.close()
    content = bytearray((directory / FILE).read_bytes())
    for share in shares:
        start = int(share * (len(content) // PAGE_BYTES - 1)) * PAGE_BYTES
        content[start : start + PAGE_BYTES] = b"\xff" * PAGE_BYTES
    (directory / FILE).write_bytes(content)
    return bytes(content)


def kept_files(directory: Path) -> list[bytes]:
    """Without their first page, in which SQLite counts how often it was opened."""
    return [file.read_bytes()[PAGE_BYTES:] for file in directory.glob("*.damaged*")]


@pytest.mark.parametrize("shares", [(0.5,), (0.2, 0.21, 0.8), (0.4, 1.0)])
def test_entries_before_between_and_behind_unreadable_pages_are_saved_and_the_file_is_kept(
    tmp_path: Path, shares: tuple[float, ...]
):
    content = spool_with_bad_pages(tmp_path, *shares)
    opened = Opened(tmp_path)
    opened.spool.append([b"more"])
    saved = opened.drain()
    # A page holds a dozen of these.
    assert len(NUMBERED) - 14 * len(shares) <= len(saved) - 1 < len(NUMBERED)
    assert saved == [*sorted(set(saved) & set(NUMBERED)), b"more"]
    assert opened.spool.n_waiting == len(saved)
    assert kept_files(tmp_path) == [content[PAGE_BYTES:]]
    assert len(opened.damage) == 1
    assert f"{len(saved) - 1} could be read" in opened.damage[0]
    opened.spool.close()
    again = Opened(tmp_path)
    assert again.found == saved
    assert again.damage == []
    assert list(tmp_path.glob("*.rescued*")) == []


def test_found_entries_are_counted_once_though_the_file_is_mended_amid_them(tmp_path: Path):
    spool_with_bad_pages(tmp_path, 0.5)
    counts: list[int] = []
    spool = Spool(
        tmp_path,
        max_bytes=ENOUGH,
        on_found=lambda entries: counts.append(sum(1 for _ in entries)),
        on_damage=str,
    )
    assert counts == [spool.n_waiting]


def test_a_spool_whose_every_entry_is_unreadable_is_set_aside_and_a_fresh_one_takes_its_place(tmp_path: Path):
    content = spool_with_bad_pages(tmp_path, *(page / 1_000 for page in range(3, 1_001)))
    opened = Opened(tmp_path)
    assert opened.found == []
    assert kept_files(tmp_path) == [content[PAGE_BYTES:]]
    opened.spool.append([b"a"])
    assert opened.drain() == [b"a"]


def test_entries_are_saved_from_a_file_larger_than_the_bound_of_today(tmp_path: Path):
    spool_with_bad_pages(tmp_path, 0.5)
    opened = Opened(tmp_path, max_bytes=1024 * 1024 // 4)
    assert len(opened.found) > len(NUMBERED) - 14


def test_a_crash_while_a_damaged_file_is_replaced_loses_nothing_that_was_saved(tmp_path: Path):
    opened = Opened(tmp_path)
    opened.spool.append([b"a", b"b"])
    opened.spool.close()
    (tmp_path / FILE).rename(tmp_path / f"{FILE}.rescued")
    assert Opened(tmp_path).found == [b"a", b"b"]


def test_what_a_crash_left_of_an_earlier_rescue_is_not_taken_for_saved(tmp_path: Path):
    opened = Opened(tmp_path)
    opened.spool.append([b"a"])
    opened.spool.close()
    (tmp_path / f"{FILE}.rescued").write_bytes(b"half of it")
    assert Opened(tmp_path).found == [b"a"]
    assert list(tmp_path.glob("*.rescued*")) == []


def test_size_that_cannot_be_read_is_an_error_of_ours(tmp_path: Path):
    opened = Opened(tmp_path)
    # Lets every statement fail.
    opened.spool._db.set_progress_handler(lambda: 1, 1)
    with pytest.raises(SpoolError, match="interrupted"):
        _ = opened.spool.size_bytes


def test_the_directory_is_closed_to_others(tmp_path: Path):
    Opened(tmp_path / "spool").spool.close()
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError, match="file"):
        Opened(tmp_path / "file" / "spool")
