"""What the API answers. The shapes of a stream's readings are made from its declaration."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hl_platform.adapters.files.parquet_bytes import Column
from hl_platform.core.dead_letter_index import Entry
from hl_platform.core.readings import PYTHON_TYPES, Reading
from hl_platform.core.streams import Field, FieldKind, FieldType, Stream

# PostgreSQL's own names of what a column is cast to; another type than JSON's could come out of a sum or a mean.
TYPE_NAMES: Mapping[FieldType, str] = {
    "float": "float8",
    "integer": "int8",
    "smallint": "int2",
    "text": "text",
    "boolean": "bool",
}
KEY_COLUMNS = (
    Column("device_id", "text"),
    Column("timestamp", "timestamptz"),
    Column("received_at", "timestamptz"),
)


class FieldSchema(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a stream's readings."""

    name: str
    type: FieldType
    kind: FieldKind
    unit: str
    required: bool
    minimum: float | None
    maximum: float | None
    description: str


class StreamSchema(msgspec.Struct, frozen=True, kw_only=True):
    """A declared stream."""

    name: str
    title: str
    description: str
    mqtt_filter: str
    kafka_topic: str
    table: str
    fields: list[FieldSchema]


class StreamsAnswer(msgspec.Struct, frozen=True):
    """All declared streams."""

    streams: list[StreamSchema]


class DeadLettersAnswer(msgspec.Struct, frozen=True):
    """A page of the index of the dead letters.

    Args:
        next: give it as `before` for the next page; null where there is none.
    """

    dead_letters: list[Entry]
    next: int | None


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of the service's health."""

    status: Literal["ok", "degraded"]
    detail: str
    age_s: float | None = None
    lag: int | None = None


class Health(msgspec.Struct, frozen=True):
    """Whether the service and what it depends on are well."""

    status: Literal["ok", "degraded"]
    checks: dict[str, Check]


class StreamShapes:
    """The answer types of one stream, and how they are filled.

    Args:
        stream: the declaration.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._title = "".join(part.capitalize() for part in stream.name.split("_"))
        self.fields = {field.name: field for field in stream.fields}
        self._places = {name: place for place, name in enumerate(self.fields)}
        self.data = self._data_of(tuple(self.fields))
        self._maker = lru_cache(maxsize=64)(self._data_of)
        past = [
            ("device_id", str),
            ("timestamp", Annotated[datetime, Meta(description="The device's own time")]),
            ("received_at", Annotated[datetime, Meta(description="When the bridge received it")]),
            ("data", self.data),
            ("extra", Annotated[dict[str, Any] | None, Meta(description="Fields that are not declared")]),
        ]
        age = ("age_s", Annotated[float, Meta(description="Seconds since `timestamp`")])
        self.reading = make_struct(f"{self._title}Reading", past, f"A reading of {stream.name}.")
        self.newest = make_struct(f"{self._title}Newest", [*past, age], "A device's newest reading.")
        self.raw_answer = self._answer(f"{self._title}RawAnswer", self.reading)
        self.latest_answer = self._answer(f"{self._title}LatestAnswer", self.newest)

    def columns(self, names: Sequence[str]) -> list[Column]:
        """Of readings as a table, with these fields."""
        fields = [Column(name, TYPE_NAMES[self.fields[name].type]) for name in names]
        return [*KEY_COLUMNS, *fields, Column("extra", "jsonb")]

    def cells(self, reading: Reading, names: Sequence[str]) -> Sequence[object]:
        """A reading as one line of that table."""
        values = (reading.values[self._places[name]] for name in names)
        return reading.device_id, reading.timestamp, reading.received_at, *values, reading.extra

    def show_raw(
        self, readings: Sequence[Reading], names: Sequence[str], following: str | None
    ) -> msgspec.Struct:
        """Readings of the past, with these fields."""
        shown = [self.reading(*parts) for parts in self._parts(readings, names)]
        return self.raw_answer(self.stream.name, shown, following)

    def show_latest(
        self, readings: Sequence[Reading], names: Sequence[str], now: datetime, following: str | None
    ) -> msgspec.Struct:
        """Newest readings, with these fields and their age."""
        ages = [age_s(reading, now) for reading in readings]
        shown = [
            self.newest(*parts, age) for parts, age in zip(self._parts(readings, names), ages, strict=True)
        ]
        return self.latest_answer(self.stream.name, shown, following)

    def _parts(self, readings: Sequence[Reading], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        if len(names) == len(self._places):
            make, places = self.data, None
        else:
            make, places = self._maker(tuple(names)), [self._places[name] for name in names]
        for one in readings:
            values = one.values if places is None else [one.values[place] for place in places]
            extra = None if one.extra is None else msgspec.Raw(one.extra.encode())
            yield one.device_id, one.timestamp, one.received_at, make(*values), extra

    def _data_of(self, names: Sequence[str]) -> type[msgspec.Struct]:
        # Each may be missing from an answer: `fields` leaves it out.
        chosen = [self.fields[name] for name in names]
        fields = [(field.name, Annotated[_hint_of(field), _meta_of(field)], None) for field in chosen]
        return make_struct(f"{self._title}Data", fields, f"The values of a reading of {self.stream.name}.")

    def _answer(self, name: str, reading: type[msgspec.Struct]) -> type[msgspec.Struct]:
        # The list's item type is only known at run time.
        hint = list[reading]  # type: ignore[valid-type]
        following = Annotated[
            str | None, Meta(description="Give it as `after` for the next page; null after the last")
        ]
        fields = [("stream", str), ("readings", hint), ("next", following)]
        return make_struct(name, fields, f"Readings of {self.stream.name}.")


def age_s(reading: Reading, now: datetime) -> float:
    """Seconds since a reading's own time, in whole milliseconds."""
    return round((now - reading.timestamp).total_seconds(), 3)


def describe_streams(streams: list[Stream]) -> StreamsAnswer:
    """The declarations as the API shows them."""
    return StreamsAnswer(
        [
            StreamSchema(
                name=stream.name,
                title=stream.title or stream.name,
                description=stream.description,
                mqtt_filter=stream.mqtt_filter,
                kafka_topic=stream.kafka_topic,
                table=stream.table,
                fields=[
                    FieldSchema(**{name: getattr(field, name) for name in FieldSchema.__struct_fields__})
                    for field in stream.fields
                ],
            )
            for stream in streams
        ]
    )


def make_struct(name: str, fields: list[Any], doc: str, *, gc: bool = True) -> type[msgspec.Struct]:
    """A type of answers that is made from a declaration.

    Args:
        name: unique among all answers.
        fields: (name, type) or (name, type, default), in order.
        doc: what it is.
        gc: False where there are many and none holds another that could hold it.
    """
    # The module is where the OpenAPI plugin looks up names.
    return msgspec.defstruct(name, fields, frozen=True, gc=gc, module=__name__, namespace={"__doc__": doc})


def _hint_of(field: Field) -> Any:  # noqa: ANN401 - a type built at run time
    # Nullable even when required: a field may be declared later than a row.
    return PYTHON_TYPES[field.type] | None


def _meta_of(field: Field) -> Meta:
    text = f"{field.description} ({field.unit})" if field.unit else field.description
    return Meta(description=text or field.name)
