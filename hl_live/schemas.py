"""What the API answers. The shapes of a stream's readings are made from its declaration."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hl_platform.core.dead_letter_index import Entry
from hl_platform.core.readings import PYTHON_TYPES, Reading
from hl_platform.core.streams import Field, FieldKind, FieldType, Stream


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
        title = "".join(part.capitalize() for part in stream.name.split("_"))
        fields = [(field.name, Annotated[_hint_of(field), _meta_of(field)]) for field in stream.fields]
        self.data = make_struct(f"{title}Data", fields, f"The values of a reading of {stream.name}.")
        past = [
            ("device_id", str),
            ("timestamp", Annotated[datetime, Meta(description="The device's own time")]),
            ("received_at", Annotated[datetime, Meta(description="When the bridge received it")]),
            ("data", self.data),
            ("extra", Annotated[dict[str, Any] | None, Meta(description="Fields that are not declared")]),
        ]
        age = ("age_s", Annotated[float, Meta(description="Seconds since `timestamp`")])
        self.reading = make_struct(f"{title}Reading", past, f"A reading of {stream.name}.")
        self.newest = make_struct(f"{title}Newest", [*past, age], "A device's newest reading.")
        self.raw_answer = self._answer(f"{title}RawAnswer", self.reading)
        self.latest_answer = self._answer(f"{title}LatestAnswer", self.newest)

    @property
    def names(self) -> Sequence[str]:
        """Of a reading's cells."""
        return "device_id", "timestamp", "received_at", *(field.name for field in self.stream.fields), "extra"

    def cells(self, reading: Reading) -> Sequence[object]:
        """A reading of the past as one line."""
        return reading.device_id, reading.timestamp, reading.received_at, *reading.values, reading.extra

    def show_raw(self, readings: list[Reading]) -> msgspec.Struct:
        """Readings of the past."""
        return self._show(self.raw_answer, [self.reading(*self._parts(reading)) for reading in readings])

    def show_latest(self, readings: list[Reading], now: datetime) -> msgspec.Struct:
        """Newest readings with their age."""
        shown = [
            self.newest(*self._parts(reading), round((now - reading.timestamp).total_seconds(), 3))
            for reading in readings
        ]
        return self._show(self.latest_answer, shown)

    def _parts(self, reading: Reading) -> tuple[Any, ...]:
        extra = None if reading.extra is None else msgspec.Raw(reading.extra.encode())
        return reading.device_id, reading.timestamp, reading.received_at, self.data(*reading.values), extra

    def _show(self, answer: type[msgspec.Struct], readings: list[msgspec.Struct]) -> msgspec.Struct:
        return answer(self.stream.name, readings)

    def _answer(self, name: str, reading: type[msgspec.Struct]) -> type[msgspec.Struct]:
        # The list's item type is only known at run time.
        hint = list[reading]  # type: ignore[valid-type]
        return make_struct(name, [("stream", str), ("readings", hint)], f"Readings of {self.stream.name}.")


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
