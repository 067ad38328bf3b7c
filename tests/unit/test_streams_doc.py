"""The example in docs/streams.md is one that works."""

import re
from pathlib import Path

from hl_platform.core.streams import parse_stream
from hl_platform.streams import load_streams

TEXT = (Path(__file__).parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def test_the_example_is_a_valid_stream_beside_the_built_in_ones(tmp_path: Path) -> None:
    assert EXAMPLE is not None
    (tmp_path / "solar.toml").write_text(EXAMPLE[1], encoding="utf-8")
    assert list(load_streams(str(tmp_path))) == ["energy", "heatpump", "temperature", "solar"]


def test_the_example_shows_every_key() -> None:
    assert EXAMPLE is not None
    stream = parse_stream(EXAMPLE[1], "solar.toml")
    assert all(f"{key} = " in EXAMPLE[1] for key in stream.__struct_fields__ if key != "fields")


def test_the_table_of_streams_is_that_of_the_declarations() -> None:
    rows = [
        f"| {s.name} | `{s.mqtt_filter}` | `{s.kafka_topic}` ({s.kafka_partitions}) | `{s.table}` |"
        for s in load_streams().values()
    ]
    assert [row for row in rows if row not in TEXT] == []
