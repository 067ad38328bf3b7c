"""Rows of a person's file as Kafka records, held to the rules that devices are held to. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from hl_platform.core.errors import PoisonRecordError
from hl_platform.core.import_columns import ColumnPlan
from hl_platform.core.import_times import TimeReader
from hl_platform.core.import_values import Convert, converter_of, guess
from hl_platform.core.readings import ReadingDecoder

EXAMPLES_KEPT = 3


class ImportRecord(NamedTuple):
    """A good row: the record's key, the reading's time, and the record's value."""

    device_id: str
    timestamp: datetime
    value: bytes


class Example(NamedTuple):
    """A bad row.

    Args:
        file: its name.
        line: there.
        detail: what is wrong with it.
    """

    file: str
    line: int
    detail: str


class RowReader:
    """Makes the Kafka records of a file's rows.

    Args:
        plan: what the columns are.
        times: reads the timestamps.
        decoder: of the stream.
        decimal_comma: whether numbers are written 12,45.
        now: when the import began, aware.
        overwrite: whether the rows go before what a bridge received.
    """

    def __init__(
        self,
        plan: ColumnPlan,
        times: TimeReader,
        decoder: ReadingDecoder,
        *,
        decimal_comma: bool,
        now: datetime,
        overwrite: bool,
    ) -> None:
        self._device = plan.device
        self._times = times
        self._decoder = decoder
        self._now = now
        self._overwrite = overwrite
        self._decimal_comma = decimal_comma
        kinds = [column.kind for column in plan.columns]
        self._time_index = kinds.index("timestamp")
        self._device_index = kinds.index("device") if "device" in kinds else None
        self._device_key = plan.stream.device_id_field
        self._object_index = kinds.index("extra_object") if "extra_object" in kinds else None
        types = {field.name: field.type for field in plan.stream.fields}
        self._cells: list[tuple[int, str, Convert]] = []
        for index, column in enumerate(plan.columns):
            if column.kind == "field":
                convert = converter_of(types[column.target], decimal_comma=decimal_comma)
                self._cells.append((index, column.target, convert))
            elif column.kind == "extra":
                self._cells.append((index, column.target, self._guesser()))

    def read(self, cells: Sequence[Any]) -> ImportRecord:
        """The record of a row.

        Args:
            cells: as many as there are columns; rows of a device in the order of the file.

        Raises:
            PoisonRecordError: why it is none; reasons of `ReadingDecoder` and `TimeReader`.
        """
        device_id = self._device if self._device_index is None else _device_of(cells[self._device_index])
        assert device_id is not None  # noqa: S101 - the plan has a column or a name
        timestamp = self._times.read(cells[self._time_index], device_id)
        body: dict[str, Any] = {"timestamp": timestamp}
        if self._device_key is not None:
            body[self._device_key] = device_id
        if self._object_index is not None:
            body = {**_object_of(cells[self._object_index]), **body}
        for index, name, convert in self._cells:
            try:
                value = convert(cells[index])
            except ValueError as exc:
                raise PoisonRecordError("invalid", f"{exc} - in column {name!r}") from exc
            if value is not None:
                body[name] = value
        return ImportRecord(device_id, timestamp, self._encode(body, device_id))

    def _encode(self, body: dict[str, Any], device_id: str) -> bytes:
        try:
            payload = msgspec.json.encode(body)
        except (UnicodeEncodeError, TypeError, ValueError, OverflowError) as exc:
            raise PoisonRecordError("invalid", f"no text in UTF-8: {exc}") from exc
        return self._decoder.encode_import(payload, device_id, self._now, overwrite=self._overwrite)

    def _guesser(self) -> Callable[[Any], Any]:
        return lambda value: guess(value, decimal_comma=self._decimal_comma)


@dataclass(slots=True)
class ImportTally:
    """What was found in the rows so far.

    Args:
        n_good, n_rejected: rows.
        devices: good rows of each.
        first_at, last_at: of the good rows, None without any.
        reasons: bad rows by reason.
        examples: the first bad rows of each reason.
    """

    n_good: int = 0
    n_rejected: int = 0
    devices: Counter[str] = field(default_factory=Counter)
    first_at: datetime | None = None
    last_at: datetime | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, record: ImportRecord) -> None:
        """Counts a good row."""
        self.n_good += 1
        self.devices[record.device_id] += 1
        if self.first_at is None or record.timestamp < self.first_at:
            self.first_at = record.timestamp
        if self.last_at is None or record.timestamp > self.last_at:
            self.last_at = record.timestamp

    def reject(self, file: str, line: int, fault: PoisonRecordError) -> None:
        """Counts a bad row."""
        self.n_rejected += 1
        self.reasons[fault.reason] += 1
        examples = self.examples.setdefault(fault.reason, [])
        if len(examples) < EXAMPLES_KEPT:
            examples.append(Example(file, line, fault.detail))


def _device_of(value: Any) -> str:  # noqa: ANN401
    if value is None or value == "":
        raise PoisonRecordError("no_device_id", "the device is missing")
    return value if isinstance(value, str) else str(value)


def _object_of(value: Any) -> dict[str, Any]:  # noqa: ANN401
    # What `extra` of hl's own tables holds.
    if value is None or value == "":
        return {}
    try:
        found = msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError as exc:
        raise PoisonRecordError("invalid", f"{exc} - in column 'extra'") from exc
    if not isinstance(found, dict):
        raise PoisonRecordError("invalid", "no JSON object - in column 'extra'")
    return found
