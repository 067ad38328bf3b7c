"""Which column of a person's file is what in a stream. Pure."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import Stream

Kind = Literal["timestamp", "device", "field", "extra", "extra_object", "ignored"]

# What hl itself adds to a table, and what an import adds to its file of rejected rows: no device sent it.
OWN_COLUMNS = ("received_at", "ingested_at", "corrections", "source")
REJECTED_COLUMNS = ("hl_line", "hl_reason", "hl_detail")
# How others name the time of a reading; only for the hint in a message.
TIME_WORDS = ("time", "date", "datetime", "ts", "last_changed", "zeit", "zeitstempel", "datum")

MAX_LISTED_CHARS = 1_000


class Column(NamedTuple):
    """A column and what becomes of it.

    Args:
        name: in the file.
        kind: what it is in a reading.
        target: its key there; empty where it is ignored.
    """

    name: str
    kind: Kind
    target: str = ""


class ColumnPlan(NamedTuple):
    """How a file's rows become readings of a stream.

    Args:
        stream: whose.
        columns: in the order of the file.
        device: of all rows, where no column names it; else None.
    """

    stream: Stream
    columns: tuple[Column, ...]
    device: str | None


def plan_columns(
    stream: Stream, names: Sequence[str], renames: Mapping[str, str], device: str | None
) -> ColumnPlan:
    """Finds the timestamp, the device and the fields among a file's columns; all others go to `extra`.

    Args:
        stream: whose readings they are.
        names: of the columns, in the order of the file.
        renames: what a column is, by its name; an empty text leaves it out.
        device: of all rows, where the file has no column for it.

    Raises:
        ConfigError: the timestamp, the device or a required field is missing or there twice; the message has
            the columns and what to write.
    """
    _check_names(names)
    _check_renames(stream, names, renames)
    taken = set(renames.values())
    columns = tuple(_column_of(stream, name, renames, taken) for name in names)
    _check_unique(columns)
    has_device = any(column.kind == "device" for column in columns)
    if has_device and device is not None:
        [name] = [column.name for column in columns if column.kind == "device"]
        raise ConfigError(
            f'Column {name!r} names the device, and --device does, too. Leave one out: --map "{name}=".'
        )
    _check_present(stream, columns, names, has_device=has_device or device is not None)
    return ColumnPlan(stream, columns, device)


def plan_stream(
    streams: Mapping[str, Stream],
    wanted: str | None,
    names: Sequence[str],
    renames: Mapping[str, str],
    device: str | None,
) -> ColumnPlan:
    """The plan for the stream that was named, or for the only one that the columns fit.

    Args:
        streams: by name.
        wanted: the stream that was named, if any.
        names: see `plan_columns`, like the others.
        renames: likewise.
        device: likewise.

    Raises:
        ConfigError: there is no such stream, the columns do not fit it, or they fit none or several.
    """
    if wanted is not None:
        if wanted not in streams:
            raise ConfigError(f"There is no stream {wanted!r}. {_near(wanted, streams)}")
        return plan_columns(streams[wanted], names, renames, device)
    plans = []
    for stream in streams.values():
        try:
            plans.append(plan_columns(stream, names, renames, device))
        except ConfigError as exc:
            problem = exc
    if len(plans) == 1:
        return plans[0]
    if len(streams) == 1:
        raise problem
    raise ConfigError(
        f"The columns do not tell which stream this is. Add --stream, one of {', '.join(streams)}. "
        f"Columns: {_listed(names)}."
    )


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two columns are named {name!r}. Rename one of them in the file.")


def _check_renames(stream: Stream, names: Sequence[str], renames: Mapping[str, str]) -> None:
    targets = [*stream.columns, "extra", *([stream.device_id_field] if stream.device_id_field else [])]
    for name, target in renames.items():
        if name not in names:
            raise ConfigError(f'--map "{name}={target}": the file has no such column. {_near(name, names)}')
        if target and target not in targets:
            raise ConfigError(
                f'--map "{name}={target}": stream {stream.name} has no field {target!r}. '
                f"{_near(target, targets)}"
            )


def _column_of(stream: Stream, name: str, renames: Mapping[str, str], taken: set[str]) -> Column:
    if name in renames:
        return _planned(stream, name, renames[name])
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    # A column that was named for it goes before one that merely looks like it.
    if plain in taken:
        return Column(name, "extra", f"{name}_" if name in taken else name)
    if name in REJECTED_COLUMNS or plain in OWN_COLUMNS:
        return Column(name, "ignored")
    return _planned(stream, name, plain)


def _planned(stream: Stream, name: str, target: str) -> Column:
    if target == "":
        return Column(name, "ignored")
    if target == "timestamp":
        return Column(name, "timestamp", target)
    if target in ("device_id", stream.device_id_field):
        return Column(name, "device", target)
    if target == "extra":
        return Column(name, "extra_object", target)
    if target in stream.columns:
        return Column(name, "field", target)
    return Column(name, "extra", name)


def _check_unique(columns: Iterable[Column]) -> None:
    first: dict[str, str] = {}
    for column in columns:
        key = "device" if column.kind == "device" else column.target
        if column.kind in ("extra", "ignored"):
            continue
        if key in first:
            raise ConfigError(
                f"Columns {first[key]!r} and {column.name!r} are both {key}. "
                f'Leave one out: --map "{column.name}=".'
            )
        first[key] = column.name


def _check_present(
    stream: Stream, columns: Iterable[Column], names: Sequence[str], *, has_device: bool
) -> None:
    found = {column.target for column in columns}
    wanted = ["timestamp", *(field.name for field in stream.fields if field.required)]
    missing = [target for target in wanted if target not in found]
    if missing:
        target = missing[0]
        near = _nearest_column(target, [column.name for column in columns if column.kind == "extra"])
        raise ConfigError(
            f"No column is the {' nor the '.join(missing)} of stream {stream.name}. "
            f'Say which: --map "{near}={target}". Columns: {_listed(names)}.'
        )
    if not has_device:
        field = stream.device_id_field or "device_id"
        raise ConfigError(
            f"No column names the device. Say which device all rows are of, --device meter1, or which column "
            f'it is, --map "COLUMN={field}". Columns: {_listed(names)}.'
        )


def _nearest_column(target: str, names: Sequence[str]) -> str:
    plain = {name.lower(): name for name in reversed(names)}
    words = TIME_WORDS if target == "timestamp" else ()
    for word in words:
        if word in plain:
            return plain[word]
    close = difflib.get_close_matches(target, plain, n=1, cutoff=0.4)
    return plain[close[0]] if close else "COLUMN"


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}There are: {_listed(names)}."


def _listed(names: Sequence[str]) -> str:
    # What a file holds must not move the cursor of a terminal, nor fill it.
    text = ", ".join(names)
    shown = "".join(character if character.isprintable() else "�" for character in text[:MAX_LISTED_CHARS])
    return shown if len(text) <= MAX_LISTED_CHARS else f"{shown}…"
