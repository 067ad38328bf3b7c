"""Answers as CSV."""

import csv
import io
from datetime import UTC, datetime

from hl_live.csv_text import csv_of, objects_of


def test_each_kind_of_value_has_its_cell() -> None:
    values = ['Küche, "oben"', 1, 2.5, True, None, datetime(2026, 1, 3, 16, tzinfo=UTC), {"heat": 60.0}]
    text = csv_of([f"c{n}" for n in range(len(values))], [values]).decode()
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == [
        'Küche, "oben"',
        "1",
        "2.5",
        "true",
        "",
        "2026-01-03T16:00:00Z",
        '{"heat":60.0}',
    ]


def test_no_rows_are_a_line_of_names() -> None:
    assert csv_of(["a", "b"], []) == b"a,b\r\n"


def test_objects_are_told_in_the_order_of_names() -> None:
    parts = [b'{"a":1,"b":2},{"b":4,"a":3}', b'{"a":5}']
    assert list(objects_of(["b", "a"], parts)) == [[2, 1], [4, 3], [None, 5]]
