"""What commands print for a person and for a pipe."""

import io

import pytest
from rich.console import Console

from hl_platform.stack.status import STAGE_COLUMNS
from hl_platform.stack.tables import answer_console, plain_table, two_lines


def test_eight_counts_fit_beside_each_other_in_80_columns():
    table = plain_table("Readings", ("stage",), two_lines(STAGE_COLUMNS))
    table.add_row("bridge", *("1,234,567" for _ in STAGE_COLUMNS[:2]), *("0" for _ in STAGE_COLUMNS[2:]))
    told = io.StringIO()
    Console(file=told, width=80).print(table)
    assert "…" not in told.getvalue()
    assert "duplicates" in told.getvalue()


def test_a_pipe_gets_names_of_any_length_whole(capsys: pytest.CaptureFixture[str]):
    table = plain_table("Lag", ("consumer group", "Kafka topic"), ("records",))
    names = "timescaledb-" + "g" * 100, "homelab." + "t" * 100
    table.add_row(*names, "0")
    answer_console().print(table)
    assert capsys.readouterr().out.splitlines()[-1].split() == [*names, "0"]
