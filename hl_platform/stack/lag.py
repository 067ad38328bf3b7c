"""`hl lag`: how far every consumer group is behind, partition by partition."""

import json
import sys
from collections.abc import Sequence

import click
from rich.table import Table
from rich.text import Text

from hl_platform.adapters.kafka.lag import read_partition_lag
from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.status import read_next_offsets
from hl_platform.core.lag import PartitionLag
from hl_platform.core.settings import Settings, load_settings
from hl_platform.stack.check import choose_streams, require_running
from hl_platform.stack.connection import command_environment
from hl_platform.stack.tables import answer_console, plain_table

STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red", "shown": "dim"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def lag(*, as_json: bool) -> None:
    """Show how far each consumer group is behind: yellow over 100 records, red over 1,000.

    Exit code 1 if one is red. A live service writes its position down every few seconds only, so it is shown dim and
    is never red; `/health/ready` judges it.
    """
    settings = load_settings(command_environment())
    require_running(settings)
    places = read_places(settings)
    if as_json:
        click.echo(json.dumps([_document(place) for place in places], indent=2))
    else:
        answer_console().print(lag_table(places))
    sys.exit(1 if any(place.level == "critical" for place in places) else 0)


def read_places(settings: Settings) -> list[PartitionLag]:
    """Where every group is: the sinks by hl's own offsets, live services by what they wrote to Kafka.

    Raises:
        TransientError: the database or Kafka cannot be reached now.
    """
    url = settings.database.read_url or settings.database.url or ""
    with connect(url, application_name="hl-lag") as conn:
        next_offsets = read_next_offsets(conn)
    return read_partition_lag(settings.kafka, choose_streams(settings, ()).values(), next_offsets)


def lag_table(places: Sequence[PartitionLag]) -> Table:
    """The positions for a person."""
    table = plain_table("Lag", ("consumer group", "Kafka topic"), ("partition", "next", "end", "records"))
    for place in places:
        table.add_row(
            place.consumer_group,
            place.kafka_topic,
            str(place.kafka_partition),
            f"{place.next_offset:,}",
            f"{place.end_offset:,}",
            Text(f"{place.n_records:,}", style=STYLES[place.level]),
        )
    return table


def _document(place: PartitionLag) -> dict[str, object]:
    return {
        "consumer_group": place.consumer_group,
        "kafka_topic": place.kafka_topic,
        "kafka_partition": place.kafka_partition,
        "next_offset": place.next_offset,
        "end_offset": place.end_offset,
        "lag": place.n_records,
        "level": place.level,
    }
