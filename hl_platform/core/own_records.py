"""The quick way through JSON that looks just as it is declared: decoded and checked in one pass.

Whatever looks any other way (a field that is not declared, a key that comes twice, an invalid value) is left to the
decoder, which looks at everything by itself, and costs several times as much.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hl_platform.core.payloads import BACKSLASH
from hl_platform.core.streams import Stream

# What the device's own key is called here; no field has capitals.
ASIDE = "Aside"
AwareTime = Annotated[datetime, Meta(tz=True)]

# device_id, which is not checked yet; timestamp; the stream's fields, in declared order, None where an optional one is
# missing; received_at; the bridge that wrote it. A plain tuple: this is made for every reading there is.
OwnRecord = tuple[str, datetime, tuple[Any, ...], datetime, str]


class _Source(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    mqtt_topic: str
    qos: int
    retained: bool
    bridge: str


class _OnePass:
    """Objects with the timestamp, the fields of a stream and its device's key, and further ones.

    Args:
        stream: which.
        hints: type of each of its fields, in declared order, limits included.
        further: names and types of what else there must be, in order.
        n_further_strings: keys and strings in the values of these, their own keys left out.
    """

    def __init__(
        self, stream: Stream, hints: list[Any], further: list[tuple[str, Any]], n_further_strings: int
    ) -> None:
        aside = stream.device_id_field
        names = [field.name for field in stream.fields]
        # A device_id that the device says itself is among what is ours in a record, and cannot be added to the payload.
        own = None if aside is None or aside in (*names, "device_id") else aside
        self.has_aside = own is not None
        fields: list[Any] = [
            (field.name, hint) if field.required else (field.name, hint | None | UnsetType, UNSET)
            for field, hint in zip(stream.fields, hints, strict=True)
        ]
        if own is not None:
            fields.append((ASIDE, str | UnsetType, UNSET))
        # Looking for what is missing costs as much as decoding; a stream whose fields are all required need not.
        self.may_miss = self.has_aside or not all(field.required for field in stream.fields)
        # In the order in which the bridge writes them, which msgspec reads fastest.
        shape = msgspec.defstruct(
            f"{stream.name}_one_pass",
            [("timestamp", AwareTime), *fields, *further],
            # Any key may be the device's, also one that Python could not name.
            rename=None if own is None else {ASIDE: own},
            kw_only=True,
            forbid_unknown_fields=True,
            frozen=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(shape).decode
        # What may be missing, or null, takes quotes away with it.
        texts = [1 + index for index, field in enumerate(stream.fields) if field.type == "text"]
        self._texts = [*texts, 1 + len(names)] if self.has_aside else texts
        # Two quotes for each key and for each string; the timestamp is one.
        n_keys = 1 + len(fields) + len(further)
        self._n_quotes = 2 * (n_keys + 1 + len(self._texts) + n_further_strings)

    def read(self, value: bytes) -> tuple[Any, ...] | None:
        """The values in order, UNSET for what is missing; None where the decoder must look."""
        try:
            parts = msgspec.structs.astuple(self._decode(value))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        n_missing = parts.count(UNSET) if self.may_miss else 0
        for index in self._texts:
            if parts[index] is None or parts[index] is UNSET:
                n_missing += 1
        # More quotes than that are those of a key that came twice, or of a text that must be looked at.
        if value.count(b'"') != self._n_quotes - 2 * n_missing:
            return None
        # The cheapest test is for a single byte.
        return None if BACKSLASH in value and b"\\u0000" in value else parts


class PlainPayloads(_OnePass):
    """Reads the payloads of devices that send what is declared and nothing else.

    `aside` is the index of the device's own key in what `read` returns; None where the stream has none.
    """

    def __init__(self, stream: Stream, hints: list[Any]) -> None:
        super().__init__(stream, hints, [], 0)
        self.aside = 1 + len(stream.fields) if self.has_aside else None
        named = [field.name for field in stream.fields]
        if stream.device_id_field in named:
            self.aside = 1 + named.index(stream.device_id_field)


class OwnRecords(_OnePass):
    """Reads the Kafka records of a stream that are just as our bridges write them."""

    def __init__(self, stream: Stream, hints: list[Any]) -> None:
        further = [("device_id", str), ("received_at", AwareTime), ("source", _Source)]
        # The first two are strings, and the source has its keys and two strings.
        super().__init__(stream, hints, further, 2 + len(_Source.__struct_fields__) + 2)
        self._n_fields = len(stream.fields)

    def read_own(self, value: bytes) -> OwnRecord | None:
        """What a record says; None where the decoder must look."""
        parts = self.read(value)
        if parts is None:
            return None
        device_id, received_at, source = parts[-3:]
        if self.has_aside and parts[-4] is not UNSET and parts[-4] != device_id:
            return None
        values = parts[1 : 1 + self._n_fields]
        if self.may_miss and UNSET in values:
            values = tuple(None if one is UNSET else one for one in values)
        return device_id, parts[0], values, received_at, source.bridge
