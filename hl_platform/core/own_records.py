"""The quick way to read a Kafka record: one that looks just as our bridge writes it, decoded in one pass.

Whatever looks any other way (a field that is not declared, a key that comes twice, another program's record, an invalid
one) is left to the decoder, which looks at everything by itself, and costs four times as much.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hl_platform.core.streams import Stream

Moment = Annotated[datetime, Meta(tz=True)]


class _Source(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    mqtt_topic: str
    qos: int
    retained: bool
    bridge: str


# device_id, which is not checked yet; timestamp; the stream's fields, in declared order, None where an optional one is
# missing; received_at; the bridge that wrote it. A plain tuple: this is made for every reading there is.
OwnRecord = tuple[str, datetime, tuple[Any, ...], datetime, str]


class OwnRecords:
    """Reads the records of one stream.

    Args:
        stream: which.
        hints: type of each of its fields, in declared order, limits included.
    """

    def __init__(self, stream: Stream, hints: list[Any]) -> None:
        aside = stream.device_id_field
        names = [field.name for field in stream.fields]
        self._has_aside = aside is not None and aside not in names
        fields: list[Any] = [
            (field.name, hint) if field.required else (field.name, hint | None | UnsetType, UNSET)
            for field, hint in zip(stream.fields, hints, strict=True)
        ]
        if self._has_aside:
            fields.append((aside, str | UnsetType, UNSET))
        # In the order in which the bridge writes them, which msgspec reads fastest.
        shape = msgspec.defstruct(
            f"{stream.name}_own_record",
            [
                ("timestamp", Moment),
                *fields,
                ("device_id", str),
                ("received_at", Moment),
                ("source", _Source),
            ],
            kw_only=True,
            forbid_unknown_fields=True,
            frozen=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(shape).decode
        self._n_fields = len(names)
        # What may be missing, or null, takes quotes away with it.
        texts = [1 + index for index, field in enumerate(stream.fields) if field.type == "text"]
        self._texts = [*texts, 1 + len(names)] if self._has_aside else texts
        # Two quotes for each key, of the source as well, and for each string.
        n_keys = 4 + len(fields) + len(_Source.__struct_fields__)
        n_strings = 3 + len(self._texts) + 2
        self._n_quotes = 2 * (n_keys + n_strings)

    def read(self, value: bytes) -> OwnRecord | None:
        """What a record says; None where the decoder must look."""
        try:
            record = self._decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        parts = msgspec.structs.astuple(record)
        n_unset = n_missing = parts.count(UNSET)
        for index in self._texts:
            if parts[index] is None or parts[index] is UNSET:
                n_missing += 1
        # More quotes than that are those of a key that came twice, or of a text that must be looked at.
        if value.count(b'"') != self._n_quotes - 2 * n_missing or b"\\u0000" in value:
            return None
        device_id, received_at, source = parts[-3:]
        if self._has_aside and parts[-4] is not UNSET and parts[-4] != device_id:
            return None
        values = parts[1 : 1 + self._n_fields]
        if n_unset:
            values = tuple(None if one is UNSET else one for one in values)
        return device_id, parts[0], values, received_at, source.bridge
