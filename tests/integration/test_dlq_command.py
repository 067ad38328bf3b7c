"""`hl dlq` against real servers, as a person would use it."""

import getpass
import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from hl_platform.cli import main
from hl_platform.stack import dlq
from tests.home import Home, eventually, record


class Terminal:
    """Runs `hl dlq` for one household."""

    def __init__(self, home: Home, data_dir: Path) -> None:
        self._home = home
        self._env = {**home.env, "HL_DATA_DIR": str(data_dir)}

    def run(self, *arguments: str, answer: str = "") -> Result:
        return CliRunner().invoke(main, ["dlq", *arguments], input=answer, env=self._env)

    def json(self, *arguments: str) -> dict[str, object]:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        document: dict[str, object] = json.loads(result.stdout)
        return document

    def states(self) -> list[str]:
        return [state for (state,) in self._home.query("select state from hl.dead_letters order by id")]

    def ids(self) -> list[str]:
        return [str(number) for (number,) in self._home.query("select id from hl.dead_letters order by id")]


@pytest.fixture
def terminal(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # The household's streams are this test's own and in no directory of declarations.
    monkeypatch.setattr(dlq, "load_streams", lambda _dir: {s.name: s for s in home.streams.values()})
    return Terminal(home, tmp_path)


def reject(home: Home, *values: bytes) -> None:
    home.produce(*(("meter1", value) for value in values))
    eventually(lambda: home.query("select count(*) from hl.dead_letters")[0][0], lambda n: n == len(values))


def test_list_groups_what_is_alike(home: Home, terminal: Terminal):
    with home.running("sink"):
        reject(home, b"{1", b"{2", b"[]")
    groups = terminal.json("list")["groups"]
    assert sorted((group["n"], group["reason"]) for group in groups) == [(1, "not_json"), (2, "not_json")]  # type: ignore[attr-defined]
    shown = terminal.run("list").stdout
    assert "not_json (sink)" in shown


def test_list_narrows_and_shows_single_entries(home: Home, terminal: Terminal):
    with home.running("sink"):
        reject(home, b"{1", b"{2")
    both = terminal.json("list", "--entries", "--device", "meter1", "--since", "2026-01-01")
    assert (both["n"], [entry["preview"] for entry in both["entries"]]) == (2, ["{2", "{1"])  # type: ignore[attr-defined]
    assert terminal.json("list", "--entries", "--device", "meter2")["n"] == 0
    assert terminal.json("list", "--state", "discarded")["n"] == 0
    assert "1 more" in terminal.run("list", "--entries", "--limit", "1").stdout


def test_show_has_the_exact_bytes(home: Home, terminal: Terminal):
    value = b"\xff\x00\x1b[31mred\n"
    with home.running("sink"):
        reject(home, value)
    [entry_id] = terminal.ids()
    assert terminal.run("show", entry_id, "--raw").stdout_bytes == value
    assert terminal.json("show", entry_id)["value_hex"] == value.hex()
    shown = terminal.run("show", entry_id).stdout
    assert "ff 00 1b 5b" in shown
    assert "\x1b" not in shown


def test_show_of_what_is_not_there_says_how_to_find_what_is(terminal: Terminal):
    result = terminal.run("show", "4711")
    assert (result.exit_code, "hl dlq list --entries --state all" in result.output) == (1, True)


def test_replay_shows_first_and_asks(home: Home, terminal: Terminal):
    with home.running("sink"):
        reject(home, b"{1")
        result = terminal.run("replay", "--all", answer="n\n")
    assert (result.exit_code, "would fail again" in result.stderr) == (0, True)
    assert "Replay 1 dead letters?" in result.stderr
    assert terminal.states() == ["new"]


def test_a_dry_run_only_shows(home: Home, terminal: Terminal):
    with home.running("sink"):
        reject(home, b"{1")
        document = terminal.json("replay", "--all", "--dry-run")
    assert (document["n"], document["accepted"], document["rejected"]) == (1, 0, 1)
    assert terminal.states() == ["new"]


def test_replay_says_what_became_of_it_and_notes_who_wanted_it(home: Home, terminal: Terminal):
    with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
        conn.execute(f"alter table {home.energy.table} add constraint forbidden check (power_kw <> 66)")
    with home.running("sink"):
        reject(home, record("meter1", power_kw=66)[1], b"{1")
        with psycopg.connect(home.env["HL_DATABASE__URL"]) as conn:
            conn.execute(f"alter table {home.energy.table} drop constraint forbidden")
        document = terminal.json("replay", "--stream", home.energy.name, "--yes")
    assert (document["n_stored"], document["n_failed_again"], document["complete"]) == (1, 1, True)
    assert sorted(terminal.states()) == ["failed_again", "replayed"]
    assert home.query("select distinct state_by from hl.dead_letters") == [(getpass.getuser(),)]


def test_discard_needs_a_reason_asks_and_keeps_it(home: Home, terminal: Terminal):
    with home.running("sink"):
        reject(home, b"{1", b"{2")
    first, _ = terminal.ids()
    assert terminal.run("discard", first).exit_code == 2
    assert terminal.run("discard", first, "--reason", "a test", answer="n\n").exit_code == 1
    assert terminal.states() == ["new", "new"]
    assert terminal.json("discard", first, "--reason", "a test", "--yes") == {"discarded": 1}
    assert home.query("select state, state_reason from hl.dead_letters order by id") == [
        ("discarded", "a test"),
        ("new", None),
    ]


@pytest.mark.parametrize("command", [["replay"], ["discard", "--reason", "x"], ["replay", "--all", "1"]])
def test_what_is_meant_must_be_said(terminal: Terminal, command: list[str]):
    result = terminal.run(*command, "--yes")
    assert (result.exit_code, "--all" in result.stderr) == (2, True)


def test_a_database_that_is_away_is_one_sentence(home: Home, tmp_path: Path):
    home.env["HL_DATABASE__URL"] = "postgresql://hl:x@127.0.0.1:1/hl"
    result = Terminal(home, tmp_path).run("list")
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
