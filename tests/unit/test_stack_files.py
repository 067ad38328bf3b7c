"""Files, locks and secrets of the stack: whole or not at all, and closed to others."""

import threading
from pathlib import Path

import pytest

from hl_platform.core.errors import ConfigError
from hl_platform.stack.files import build_once, rotate, tail, truncate_grown, write_private
from hl_platform.stack.lock import DataDirLock, holder_of
from hl_platform.stack.logs import find_logs, readable
from hl_platform.stack.secret_files import read_or_create


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_secret_is_the_same_at_every_call(tmp_path: Path) -> None:
    assert read_or_create(tmp_path, "password") == read_or_create(tmp_path, "password")


def test_secrets_differ(tmp_path: Path) -> None:
    assert read_or_create(tmp_path, "one") != read_or_create(tmp_path, "other")


def test_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    read_or_create(tmp_path, "password")
    assert _mode(tmp_path / "password") == 0o600


def test_private_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_private(tmp_path / "connection.json", "{}")
    assert _mode(tmp_path / "connection.json") == 0o600


def test_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(draft: Path) -> None:
        (draft / "half").touch()
        raise ConfigError("no network")

    with pytest.raises(ConfigError):
        build_once(tmp_path / "server", build)
    assert [path.name for path in tmp_path.iterdir()] == [".server.lock"]


def test_several_builders_at_once_build_one(tmp_path: Path) -> None:
    built = []

    def build(draft: Path) -> None:
        built.append(draft)
        (draft / "program").touch()

    threads = [threading.Thread(target=build_once, args=(tmp_path / "server", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(built), (tmp_path / "server" / "program").exists()) == (1, True)


def test_built_programs_can_be_run_by_another_user(tmp_path: Path) -> None:
    def build(draft: Path) -> None:
        (draft / "program").touch(mode=0o700)
        (draft / "data").touch(mode=0o600)

    target = build_once(tmp_path / "server", build)
    assert (_mode(target), _mode(target / "program"), _mode(target / "data")) == (0o755, 0o755, 0o644)


def test_rotation_keeps_three_older_logs(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    for number in range(6):
        rotate(log)
        log.write_text(str(number))
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert texts == {"kafka.log": "5", "kafka.log.1": "4", "kafka.log.2": "3", "kafka.log.3": "2"}


def test_grown_log_is_cut_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "kafka.log"
    with path.open("ab", buffering=0) as log:
        log.write(b"x" * 100)
        truncate_grown(path, 50)
        log.write(b"y")
    assert (path.read_text(), (tmp_path / "kafka.log.1").read_text()) == ("y", "x" * 100)


def test_grown_log_that_cannot_be_copied_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "kafka.log"
    path.write_text("x" * 100)
    (tmp_path / "kafka.log.1").mkdir()
    truncate_grown(path, 50)
    assert path.read_text() == "x" * 100


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(f"line {number}\n" for number in range(5000)))
    assert tail(tmp_path / "a.log", 2) == ["line 4998", "line 4999"]


def test_tail_of_no_file_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.log", 2) == []


def test_free_data_directory_has_no_holder(tmp_path: Path) -> None:
    lock = DataDirLock(tmp_path)
    lock.acquire()
    lock.release()
    assert holder_of(tmp_path) is None


def test_second_lock_names_who_holds_the_first(tmp_path: Path) -> None:
    first = DataDirLock(tmp_path)
    first.acquire()
    try:
        with pytest.raises(ConfigError, match=r"in use by another hl \(pid \d+\)"):
            DataDirLock(tmp_path).acquire()
    finally:
        first.release()


def test_json_line_of_a_log_is_shown_for_people() -> None:
    line = '{"n_rows": 3, "event": "batch_committed", "level": "info", "timestamp": "2026-01-03T16:00:00Z"}'
    assert readable(line) == "2026-01-03T16:00:00Z info batch_committed n_rows=3"


@pytest.mark.parametrize("line", ["plain text", "{not json", ""])
def test_other_lines_are_shown_as_they_are(line: str) -> None:
    assert readable(line) == line


def test_an_unknown_log_is_answered_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "bridge.log").touch()
    assert find_logs(tmp_path, "bridge") == [tmp_path / "bridge.log"]
    with pytest.raises(ConfigError, match="There are: bridge"):
        find_logs(tmp_path, "bridg")
