"""The declaration of a new stream, as a person would begin it."""

import re
from typing import NamedTuple, get_args

from hl_platform.core.errors import ConfigError
from hl_platform.core.streams import FieldKind, FieldType

FIELD = re.compile(r"(?P<name>[a-z][a-z0-9_]*):(?P<kind>[a-z]+)(?::(?P<unit>[^:]*))?(?::(?P<type>[a-z]+))?")
HOW = "Write it as NAME:KIND, NAME:KIND:UNIT or NAME:KIND:UNIT:TYPE, such as power_kw:gauge:kW."
TYPES = {"gauge": "float", "counter": "float", "state": "text", "label": "text"}

HEAD = """\
# A stream of your own. Everything follows from this file: MQTT filter, Kafka topic, table, aggregates, API.
# All keys are in docs/streams.md.
name = "{name}"
title = "{title}"
mqtt_filter = "homelab/{name}/#"
kafka_topic = "homelab.{name}"
table = "{name}_readings"
# For how long a value holds when no further reading comes, in seconds; what is longer is a gap.
max_gap_s = 900
# Payload field that names the device; without it, the last level of the MQTT topic does.
# device_id_field = "serial"
"""
# A field of each kind, to keep or to delete.
EXAMPLE = """
# A counter only rises; the aggregates give what it moved, with resets found.
[fields.total_kwh]
type = "float"
kind = "counter"
unit = "kWh"
required = true
minimum = 0
max_rate_per_hour = 30
description = "Energy since it was installed"

# A gauge goes up and down; the aggregates give mean, minimum, maximum, first and last.
[fields.power_kw]
type = "float"
kind = "gauge"
unit = "kW"
required = true
minimum = 0
maximum = 30
description = "Power right now"

# A state is one of a few words, or true or false; the aggregates give the time in each.
[fields.status]
type = "text"
kind = "state"
description = "producing, standby or fault"

# A label is carried along.
[fields.firmware]
type = "text"
kind = "label"
description = "Version it runs"
"""


class NewField(NamedTuple):
    """A field as `--field` says it."""

    name: str
    kind: str
    unit: str
    type: str


def parse_field(text: str) -> NewField:
    """The field that `--field power_kw:gauge:kW` means.

    Raises:
        ConfigError: it is not written so, or has no such kind or type.
    """
    match = FIELD.fullmatch(text)
    if match is None:
        raise ConfigError(f"--field {text!r} cannot be read. {HOW}")
    kind, type_ = match["kind"], match["type"] or TYPES.get(match["kind"], "")
    for what, value, allowed in (("kind", kind, get_args(FieldKind)), ("type", type_, get_args(FieldType))):
        if value not in allowed:
            raise ConfigError(f"--field {text!r}: {value!r} is no {what}; allowed: {', '.join(allowed)}.")
    return NewField(match["name"], kind, match["unit"] or "", type_)


def stream_text(name: str, fields: list[NewField]) -> str:
    """The TOML of a stream with those fields; without any, with one of each kind as an example to edit."""
    head = HEAD.format(name=name, title=name.replace("_", " ").capitalize())
    return head + ("".join(_field_text(field) for field in fields) or EXAMPLE)


def _field_text(field: NewField) -> str:
    lines = [f"\n[fields.{field.name}]", f'type = "{field.type}"', f'kind = "{field.kind}"']
    if field.unit:
        lines.append(f"unit = {_quoted(field.unit)}")
    lines.append("# required = true")
    if field.type not in ("text", "boolean"):
        lines += ["# minimum = 0", "# maximum = 100"]
    if field.kind == "counter":
        lines.append("# max_rate_per_hour = 50")
    return "\n".join((*lines, '# description = ""')) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
