"""Which format an answer has."""

import pytest

from hl_live.formats import CSV, JSON, PARQUET, preferred

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("*/*", JSON),
        (BROWSER, JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv", CSV),
        ("TEXT/CSV; charset=utf-8", CSV),
        ("application/vnd.apache.parquet", PARQUET),
        ("application/json;q=0.5, text/csv;q=0.9", CSV),
        ("text/csv, application/json", CSV),
        ("*/*, text/csv", CSV),
        ("*/*;q=0.1, application/json;q=0", CSV),
        ("application/json;q=0, text/csv;q=0, */*", PARQUET),
        # What is no number between 0 and 1 is as good as nothing.
        ("text/csv;q=inf", CSV),
        ("text/csv;q=nan", CSV),
        ("text/csv;q=", CSV),
        ("image/png", None),
        ("text/csv;q=0", None),
        ("nonsense", None),
        (",;=/", None),
    ],
)
def test_the_format_is_what_accept_prefers(accept: str, wanted: str | None) -> None:
    assert preferred(accept) == wanted
