"""What the columns are that macros make: nobody needs to write it into a header."""

import re
from collections.abc import Iterator, Mapping

from hl_platform.core.levels import Grain
from hl_platform.core.streams import Field

# Those that make columns of a field.
FIELD_MACROS = "gauge|counter|state|running|label"
CALL = re.compile(rf"\{{\{{-?\s*(?:merged_)?(coverage|{FIELD_MACROS})\(([^)]*)\)\s*-?\}}\}}")
ARGUMENT = re.compile(r"(?:(\w+)\s*=\s*)?'([a-z0-9_]+)'")
WHAT: dict[Grain, str] = {
    "minute": "minute",
    "hour": "hour",
    "day": "local day",
    "month": "local month",
    "year": "local year",
}


def comments_of(
    select: str, fields: Mapping[str, Field], what: str, own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The comment of each column of buckets, with its unit in brackets at the end, in order.

    Args:
        select: of a model, with its macros.
        fields: of the stream whose readings it is made from in the end, by name.
        what: its buckets are called.
        own: what the model's header says of its columns, which wins.
    """
    comments = {"device_id": "Which device", "bucket": f"Begin of the {what}, inclusive"}
    for macro, name, names in _calls(select):
        if macro == "coverage":
            comments |= _coverage(what)
        # A field that is not there is named with its line where the model is rendered.
        elif name in fields:
            comments |= _of_field(macro, fields[name], names)
    comments |= own or {}
    comments.setdefault("bucket_end", f"End of the {what}, exclusive")
    comments.setdefault("refresh_id", "Which of hl.refreshes made the row; null: computed just now")
    return comments


def _calls(select: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(macro, field, names of columns by argument) of each call."""
    for macro, text in CALL.findall(select):
        arguments = dict(ARGUMENT.findall(text))
        yield macro, arguments.pop("", ""), arguments


def _coverage(what: str) -> dict[str, str]:
    return {
        "n_readings": f"Readings in the {what}",
        "first_at": "Time of the first reading",
        "last_at": "Time of the last reading",
        "covered_s": "For how long readings tell the values (s)",
    }


def _of_field(macro: str, field: Field, names: Mapping[str, str]) -> dict[str, str]:
    name, unit = field.name, f" ({field.unit})" if field.unit else ""
    about = field.description or name
    match macro:
        case "gauge":
            area = f" ({field.unit}·s)" if field.unit else " (s)"
            return {
                f"{name}_mean": f"{about}: mean, weighted by time{unit}",
                f"{name}_sample_mean": f"{about}: plain mean of the readings{unit}",
                f"{name}_min": f"{about}: least{unit}",
                f"{name}_max": f"{about}: greatest{unit}",
                f"{name}_first": f"{about}: at the first reading{unit}",
                f"{name}_last": f"{about}: at the last reading{unit}",
                f"{name}_count": f"{about}: readings that have it",
                f"{name}_sum": f"{about}: sum over the readings{unit}",
                f"{name}_area": f"{about}: value times seconds, over the time it is known{area}",
                f"{name}_weight_s": f"{about}: for how long it is known (s)",
            }
        case "counter":
            moved, gap = names.get("moved", ""), names.get("gap", "")
            return {
                moved: f"What {name} moved; a step across a border is shared out by time{unit}",
                gap: f"The part of {moved} that moved while no reading came{unit}",
                f"{name}_first": f"{name} at the first reading{unit}",
                f"{name}_last": f"{name} at the last reading{unit}",
                f"{name}_events": f"Resets and jumps of {name}, listed in hl.counter_events",
            }
        case "state":
            return {
                f"{name}_seconds": f"{about}: seconds in each, as a JSON object (s)",
                f"{name}_changes": f"{about}: how often it changed",
            }
        case "running":
            return {
                names.get("seconds", ""): f"{about}: for how long it was so (s)",
                names.get("starts", ""): f"{about}: how often it became so",
            }
        case _:
            return {name: f"{about}: as of the last reading"}
