"""`hl import` against real servers: files arrive row by row, once, and disturb neither readings nor accounts."""

import csv
import gzip
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from hl_platform.cli import main
from hl_platform.core.streams import Stream
from hl_platform.pipeline import breaker, import_sender
from hl_platform.pipeline.comparison import compare_accounts
from hl_platform.stack import importing
from tests.home import Home, eventually, reading

START = datetime(2024, 1, 3, 16, tzinfo=UTC)
HEADER = "timestamp,device_id,total_energy_kwh,power_kw,voltage,note"


class Terminal:
    """Runs `hl import` for one household."""

    def __init__(self, home: Home, directory: Path) -> None:
        self._env = {**home.env, "HL_DATA_DIR": str(directory / "data")}
        self._stream = home.energy.name

    def run(self, *arguments: str | Path) -> Result:
        given = ["import", *map(str, arguments), "--stream", self._stream]
        return CliRunner().invoke(main, given, env=self._env)


@pytest.fixture
def terminal(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # The household's streams are this test's own and in no directory of declarations.
    def streams(_dir: str | None) -> dict[str, Stream]:
        return {stream.name: stream for stream in home.streams.values()}

    monkeypatch.setattr(importing, "load_streams", streams)
    return Terminal(home, tmp_path)


def line(n: int, kwh: object = None) -> str:
    at = START + timedelta(minutes=n)
    return f"{at.isoformat()},meter{n % 3},{kwh or n / 10},1.5,{230 + n % 5},note {n}"


def table(path: Path, *lines: str) -> Path:
    text = "\n".join([HEADER, *lines]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def rows(home: Home) -> list[tuple[Any, ...]]:
    return home.query(
        "select device_id, timestamp, total_energy_kwh, power_kw, voltage, extra->>'note', corrections "
        "from {energy} order by timestamp, device_id"
    )


def expected(count: int) -> list[tuple[Any, ...]]:
    return [
        (f"meter{n % 3}", START + timedelta(minutes=n), n / 10, 1.5, 230 + n % 5, f"note {n}", 0)
        for n in range(1, count + 1)
    ]


def lines(count: int) -> list[str]:
    return [line(n) for n in range(1, count + 1)]


def differences(home: Home) -> list[object]:
    return [found for found in compare_accounts(home.settings, home.streams.values()) if found.n_records]


@pytest.mark.parametrize("name", ["history.csv", "history.csv.gz"])
def test_history_of_years_ago_arrives_row_by_row(home: Home, terminal: Terminal, tmp_path: Path, name: str):
    with home.running("sink"):
        result = terminal.run(table(tmp_path / name, *lines(1_000)))
    assert (result.exit_code, rows(home)) == (0, expected(1_000)), result.output
    assert "1,000 rows sent" in result.stdout
    assert "1,000 new, 0 corrections, 0 already stored" in result.stdout
    assert not (tmp_path / f"{name}.rejected.csv").exists()


def test_parquet_arrives_row_by_row(home: Home, terminal: Terminal, tmp_path: Path):
    source = table(tmp_path / "history.csv", *lines(1_000))
    duckdb.read_csv(str(source)).write_parquet(str(tmp_path / "history.parquet"))
    with home.running("sink"):
        result = terminal.run(tmp_path / "history.parquet")
    assert (result.exit_code, rows(home)) == (0, expected(1_000)), result.output


def test_several_files_and_other_names_of_columns(home: Home, terminal: Terminal, tmp_path: Path):
    for n in (1, 2):
        text = f"Zeit;Energie (kWh);Leistung\n2024-07-0{n} 12:00:00;12,5;1,25\n"
        (tmp_path / f"{n}.csv").write_text(text)
    arguments = ["--device", "meter9", "--timezone", "Europe/Berlin", "--map", "Zeit=timestamp"]
    arguments += ["--map", "Energie (kWh)=total_energy_kwh", "--map", "Leistung=power_kw"]
    with home.running("sink"):
        result = terminal.run(tmp_path / "1.csv", tmp_path / "2.csv", *arguments)
    assert result.exit_code == 0, result.output
    found = [row[:4] for row in rows(home)]
    assert found == [("meter9", datetime(2024, 7, n, 10, tzinfo=UTC), 12.5, 1.25) for n in (1, 2)]


def test_importing_twice_changes_nothing(home: Home, terminal: Terminal, tmp_path: Path):
    path = table(tmp_path / "history.csv", *lines(300))
    with home.running("sink"):
        terminal.run(path)
        before = home.query("select * from {energy} order by 1, 2")
        result = terminal.run(path)
        assert home.query("select * from {energy} order by 1, 2") == before
    assert "0 new, 0 corrections, 300 already stored" in result.stdout


def test_a_mended_file_corrects_what_an_import_brought(home: Home, terminal: Terminal, tmp_path: Path):
    with home.running("sink"):
        terminal.run(table(tmp_path / "history.csv", *lines(10)))
        result = terminal.run(table(tmp_path / "history.csv", *lines(9), line(10, kwh=77), line(11)))
    assert "1 new, 1 corrections, 9 already stored" in result.stdout
    assert [row[2] for row in rows(home)][-2:] == [77, 1.1]


def test_what_a_bridge_received_stays_unless_told(home: Home, terminal: Terminal, tmp_path: Path):
    """Also where the device's clock was ahead of the bridge's."""
    at = datetime.now(UTC) + timedelta(seconds=20)
    path = table(tmp_path / "now.csv", f"{at.isoformat()},meter1,77,1,1,imported")
    with home.running("bridge", "sink"):
        home.publish((home.topic("meter1"), reading(at)))
        eventually(home.n_rows)
        result = terminal.run(path)
        assert "0 new, 0 corrections, 1 already stored" in result.stdout
        assert [row[2] for row in rows(home)] == [12.45]
        result = terminal.run(path, "--overwrite")
        assert "0 new, 1 corrections, 0 already stored" in result.stdout
    assert [(row[2], row[5]) for row in rows(home)] == [(77, "imported")]


def test_bad_rows_stop_nothing_and_are_in_a_file_of_their_own(home: Home, terminal: Terminal, tmp_path: Path):
    bad = [
        line(2).replace("1.5", "a lot"),
        "yesterday,meter1,1,1,1,",
        "too,few",
        line(5).replace("meter2", "a/b"),
    ]
    with home.running("sink"):
        result = terminal.run(table(tmp_path / "mixed.csv", line(1), *bad, line(6)))
        assert (result.exit_code, home.n_rows()) == (1, 2), result.output
        assert "4 rows rejected" in result.stdout
        assert home.account("sink")["dead_lettered"] == 0
        with (tmp_path / "mixed.csv.rejected.csv").open() as file:
            header, *found = csv.reader(file)
        assert header == ["hl_line", "hl_reason", "hl_detail", *HEADER.split(",")]
        assert [cells[:2] for cells in found] == [
            ["3", "invalid"],
            ["4", "not_a_time"],
            ["5", "not_csv"],
            ["6", "no_device_id"],
        ]
        # Mended there, it is imported as it is.
        mended = (tmp_path / "mixed.csv.rejected.csv").read_text().replace("a lot", "1.5")
        (tmp_path / "mended.csv").write_text(mended)
        assert (
            "1 rows sent" in terminal.run(tmp_path / "mended.csv", "--rejected", tmp_path / "rest.csv").stdout
        )
        assert len((tmp_path / "rest.csv").read_text().splitlines()) == 4
    assert rows(home)[1] == expected(2)[1]


def test_a_dry_run_says_everything_and_sends_nothing(home: Home, terminal: Terminal, tmp_path: Path):
    path = table(tmp_path / "mixed.csv", *lines(50), "yesterday,meter1,1,1,1,")
    result = terminal.run(path, "--dry-run")
    assert result.exit_code == 1
    assert "50 good rows, 1 bad ones" in result.stdout
    assert "from 2024-01-03 16:01:00Z to 2024-01-03 16:50:00Z" in result.stdout
    assert "meter1 (17)" in result.stdout
    assert "mixed.csv, line 52: 'yesterday'" in result.stdout
    assert home.records(home.energy.kafka_topic) == []
    assert not (tmp_path / "mixed.csv.rejected.csv").exists()


def test_accounts_balance_and_no_delay_is_measured(home: Home, terminal: Terminal, tmp_path: Path):
    with home.running("bridge", "sink"):
        home.publish(*((home.topic("meter1"), reading(seq=n)) for n in range(20)))
        terminal.run(table(tmp_path / "history.csv", *lines(500)))
        eventually(lambda: home.account("sink")["received"], lambda n: n == 520)
        last = home.query("select last_reading_at from hl.accounts where stage = 'sink' and received > 0")
        eventually(lambda: home.account("bridge"), lambda found: found["forwarded"] == 20)
        assert differences(home) == []
    origins = home.query(
        "select bridge, sum(n_records)::int from hl.coverage "
        "where stage = 'sink' and kind = 'forwarded' and stream = %s group by bridge order by bridge",
        home.energy.name,
    )
    assert origins == [("", 500), ("bridge", 20)]
    assert home.query("select coalesce(max(max_ms), 0) < 60000 from hl.delays") == [(True,)]
    assert all(at > datetime.now(UTC) - timedelta(minutes=5) for (at,) in last)


def test_kafka_keeps_old_history_for_as_long_as_new_readings(home: Home, terminal: Terminal, tmp_path: Path):
    terminal.run(table(tmp_path / "history.csv", *lines(5)), "--no-wait")
    found = home.records(home.energy.kafka_topic)
    ages = [datetime.now(UTC).timestamp() * 1000 - message.timestamp()[1] for message in found]
    assert (len(ages), max(ages) < 60_000) == (5, True)
    assert {message.key() for message in found} == {b"meter0", b"meter1", b"meter2"}
    assert found[0].headers() == [("hl.import", b"history.csv")]


def test_rows_that_the_database_rejects_pause_nobody(
    home: Home, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # A stream that were paused would stay so.
    monkeypatch.setattr(breaker, "PROBE_EVERY_S", 3_600.0)
    home.execute(f"alter table {home.energy.table} add constraint none_of_these check (power_kw <> 1.5)")
    with home.running("bridge", "sink"):
        result = terminal.run(table(tmp_path / "history.csv", *lines(1_500)))
        assert (result.exit_code, "1,500 records of the stream were rejected" in result.stdout) == (1, True)
        assert home.query("select * from hl.alerts where code = 'breaker_open'") == []
        home.publish((home.topic("meter1"), reading()))
        eventually(home.n_rows, lambda n: n == 1)


def test_a_sink_that_stands_still_is_said(
    home: Home, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(import_sender, "PATIENCE_S", 5.0)
    path = table(tmp_path / "history.csv", *lines(2_000))
    result = terminal.run(path)
    assert (result.exit_code, "Kafka has all rows" in result.stdout) == (1, True)
    # No further ahead of the sink than allowed, so that what devices send does not wait long.
    monkeypatch.setattr(import_sender, "MAX_AHEAD", 100)
    monkeypatch.setattr(import_sender, "LOOK_EVERY_S", 0.01)
    result = terminal.run(path)
    assert (result.exit_code, "--skip" in result.stdout) == (1, True)
    assert len(home.records(home.energy.kafka_topic)) < 4_000


def test_stopped_it_says_how_to_go_on_and_does(
    home: Home, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = table(tmp_path / "history.csv", *lines(3_000))
    monkeypatch.setattr(importing, "stop_on_signals", _stop_after(1_500, monkeypatch))
    with home.running("sink"):
        result = terminal.run(path)
        assert (result.exit_code, "To go on, run the same with --skip 1" in result.stdout) == (130, True)
        n_done = int(result.stdout.partition("--skip ")[2].partition(";")[0])
        monkeypatch.undo()
        monkeypatch.setattr(importing, "load_streams", lambda _dir: {home.energy.name: home.energy})
        result = terminal.run(path, "--skip", str(n_done))
    assert (result.exit_code, f"{3_000 - n_done:,} rows sent" in result.stdout) == (0, True)
    assert rows(home) == expected(3_000)


@pytest.mark.usefixtures("terminal")
def test_kafka_that_is_away_is_one_sentence(home: Home, tmp_path: Path):
    home.env["HL_KAFKA__BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    result = Terminal(home, tmp_path).run(table(tmp_path / "a.csv", line(1)))
    assert (result.exit_code, result.stderr.startswith("Kafka"), "Traceback" in result.output) == (
        1,
        True,
        False,
    )


def _stop_after(n_rows: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Ctrl-C at a row: what `stop_on_signals` would do then."""
    stop = threading.Event()
    send = import_sender.ImportSender.send

    def counting(self: import_sender.ImportSender, *arguments: object) -> None:
        if self.n_sent == n_rows:
            stop.set()
        send(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(import_sender.ImportSender, "send", counting)

    class _Stop:
        def __enter__(self) -> threading.Event:
            return stop

        def __exit__(self, *_: object) -> None:
            return None

    return _Stop
