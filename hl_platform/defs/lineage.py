"""The path of each stream as assets: MQTT topic, Kafka topic, table, and the dead letters beside it."""

from collections.abc import Mapping
from datetime import timedelta

import dagster as dg

from hl_platform.core.streams import Stream

# A house sends something every few minutes; half an hour of silence deserves a look, an hour a red mark.
FRESH_FOR = timedelta(hours=1)
WARN_AFTER = timedelta(minutes=30)


def build_lineage(streams: Mapping[str, Stream]) -> dg.Definitions:
    """Four assets for every stream. Nothing here moves data; the services do."""
    return dg.Definitions(assets=[spec for stream in streams.values() for spec in lineage_of(stream)])


def mqtt_key(stream: Stream) -> dg.AssetKey:
    """The asset of what devices publish."""
    return dg.AssetKey(["mqtt", stream.name])


def kafka_key(stream: Stream) -> dg.AssetKey:
    """The asset of the Kafka topic."""
    return dg.AssetKey(["kafka", stream.kafka_topic])


def dead_letter_key(stream: Stream) -> dg.AssetKey:
    """The asset of the dead-letter topic."""
    return dg.AssetKey(["kafka", stream.dead_letter_topic])


def table_key(stream: Stream) -> dg.AssetKey:
    """The asset of the table of readings."""
    return dg.AssetKey(["postgres", stream.table])


def lineage_of(stream: Stream) -> list[dg.AssetSpec]:
    """The assets of one stream, upstream first."""
    title = stream.title or stream.name
    fields = fields_of(stream)
    return [
        _spec(
            stream,
            mqtt_key(stream),
            kind="mqtt",
            description=f"{title}: what devices publish. {stream.description}",
            metadata={"mqtt_filter": stream.mqtt_filter, "fields": fields},
        ),
        _spec(
            stream,
            kafka_key(stream),
            kind="kafka",
            deps=[mqtt_key(stream)],
            description=f"{title}: valid readings as JSON, keyed by device_id, each device's in order.",
            metadata={
                "kafka_topic": stream.kafka_topic,
                "kafka_partitions": stream.kafka_partitions,
                "fields": fields,
            },
        ),
        _spec(
            stream,
            dead_letter_key(stream),
            kind="kafka",
            deps=[mqtt_key(stream), kafka_key(stream)],
            description=f"{title}: what was rejected, byte for byte, with the reason in the headers.",
            metadata={"kafka_topic": stream.dead_letter_topic},
        ),
        _spec(
            stream,
            table_key(stream),
            kind="postgres",
            deps=[kafka_key(stream)],
            description=f"{title}: one row for each reading. {stream.description}",
            metadata={
                "table": f"public.{stream.table}",
                "consumer_group": stream.consumer_group,
                "dagster/column_schema": columns_of(stream),
            },
            freshness=dg.FreshnessPolicy.time_window(fail_window=FRESH_FOR, warn_window=WARN_AFTER),
        ),
    ]


def fields_of(stream: Stream) -> dg.TableMetadataValue:
    """The declaration's fields as a table to look at."""
    records = [
        dg.TableRecord(
            {
                "field": field.name,
                "type": field.type,
                "kind": field.kind,
                "unit": field.unit or "-",
                "required": field.required,
                "description": field.description,
            }
        )
        for field in stream.fields
    ]
    return dg.MetadataValue.table(records)


def columns_of(stream: Stream) -> dg.TableSchema:
    """The table's columns as Dagster's own schema metadata."""
    times = {
        "received_at": "When the bridge received the reading",
        "ingested_at": "When the sink stored it",
    }
    return dg.TableSchema(
        columns=[
            dg.TableColumn("device_id", "text", description="The device"),
            dg.TableColumn("timestamp", "timestamptz", description="The device's own time"),
            *(
                dg.TableColumn(
                    field.name,
                    field.sql_type,
                    description=f"{field.description} ({field.unit})" if field.unit else field.description,
                )
                for field in stream.fields
            ),
            dg.TableColumn("extra", "jsonb", description="Fields of the payload that are not declared"),
            *(dg.TableColumn(name, "timestamptz", description=text) for name, text in times.items()),
        ]
    )


def _spec(
    stream: Stream,
    key: dg.AssetKey,
    *,
    kind: str,
    description: str,
    metadata: Mapping[str, object],
    deps: list[dg.AssetKey] | None = None,
    freshness: dg.FreshnessPolicy | None = None,
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=deps or [],
        description=description,
        metadata=metadata,
        kinds={kind},
        group_name=stream.name,
        owners=[f"team:{stream.owner}"],
        freshness_policy=freshness,
    )
