"""Query parameters: one declaration each, from which both the check and the documentation follow."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from litestar.openapi.spec import Operation, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from hl_live.answer_docs import document
from hl_live.problems import BadParameterError
from hl_platform.core.access import MAX_DEVICES
from hl_platform.core.levels import local_midnight
from hl_platform.core.readings import DEVICE_ID, MAX_DEVICE_ID_CHARS

TIME_ALLOWED = "an ISO 8601 time with offset, such as 2026-01-03T16:00:00Z"
DEVICE_ALLOWED = f"a device id of 1 to {MAX_DEVICE_ID_CHARS} characters"
RANGE_ALLOWED = f"{TIME_ALLOWED}, or a local date such as 2026-01-31, which means its midnight"
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1_000
DEFAULT_POINTS = 500
WHOLE = re.compile("[0-9]{1,19}")
LOCAL_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Param(NamedTuple):
    """One query parameter.

    Args:
        parse: from the text of a request to its value; raises ValueError when it is not allowed.
        allowed: what may be given, for a person.
        many: may be given several times; its value is then a list.
        default: its value when it is not given.
        join: of the values of one that may be given several times, to its value.
        example: what may be given, for documentation and tests.
    """

    name: str
    description: str
    schema: Schema
    parse: Callable[[str], Any]
    allowed: str
    required: bool = False
    many: bool = False
    default: Any = None
    join: Callable[[list[Any]], Any] = list
    example: Any = None


def parse_time(text: str) -> datetime:
    """An aware time, with room around it; raises ValueError where the text is none."""
    # A plus sign that was not escaped arrives as a space.
    moment = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
    if moment.tzinfo is None:
        raise ValueError(text)
    # Proves that it stays within what a datetime can hold in any zone.
    _ = moment - timedelta(days=400), moment + timedelta(days=400)
    return moment


def parse_moment(text: str, zone: tzinfo) -> datetime:
    """An aware time, or the midnight of a local date; raises ValueError where the text is neither."""
    if not LOCAL_DATE.fullmatch(text.strip()):
        return parse_time(text)
    day = date.fromisoformat(text.strip())
    _ = day - timedelta(days=400), day + timedelta(days=400)
    return local_midnight(day, zone)


def parse_device_id(text: str) -> str:
    """A device id as it stands; raises ValueError where it cannot be one."""
    if not DEVICE_ID.fullmatch(text):
        raise ValueError(text)
    return text


def parse_zone(text: str) -> ZoneInfo:
    """A time zone by its name; raises ValueError where there is none of that name."""
    # Names only: ZoneInfo would look for a file of whatever it is given.
    if text not in _zone_names():
        raise ValueError(text)
    return ZoneInfo(text)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def write_cursor(device_id: str, start: datetime) -> str:
    """Where a page of buckets or readings ends."""
    moment = start.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{moment}Z/{device_id}"


def read_cursor(text: str) -> tuple[str, datetime]:
    """The device and the time of a page's last bucket or reading; raises ValueError where the text is no cursor."""
    moment, _, device_id = text.partition("/")
    return parse_device_id(device_id), parse_time(moment)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def parse_whole(text: str, highest: int) -> int:
    """A whole number from 1; raises ValueError where the text is none."""
    # int() takes more than digits: 1_0, and those of any script.
    if not WHOLE.fullmatch(text) or not 1 <= int(text) <= highest:
        raise ValueError(text)
    return int(text)


def _limit(text: str) -> int:
    return parse_whole(text, MAX_LIMIT)


def _limit_param(what: str, default: int) -> Param:
    return Param(
        "limit",
        f"At most this many {what}; {default} unless given. `next` leads to further ones.",
        Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_LIMIT, default=default),
        _limit,
        f"a whole number from 1 to {MAX_LIMIT}",
        default=default,
    )


_TIME_SCHEMA = Schema(
    any_of=[
        Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
        Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE),
    ]
)

DEVICE_SCHEMA = Schema(
    type=OpenAPIType.STRING, min_length=1, max_length=MAX_DEVICE_ID_CHARS, pattern=f"^{DEVICE_ID.pattern}$"
)
DEVICES = Param(
    "device_id",
    "Only this device; may be given several times. Without it: all devices.",
    Schema(type=OpenAPIType.ARRAY, items=DEVICE_SCHEMA, max_items=MAX_DEVICES),
    parse_device_id,
    DEVICE_ALLOWED,
    many=True,
    example=["meter1"],
)
LIMIT = _limit_param("readings, the oldest of the range", DEFAULT_LIMIT)
BUCKET_LIMIT = _limit_param("buckets, of all devices together", MAX_LIMIT)
AFTER = Param(
    "after",
    "Only what follows: `next` of the page before, all other parameters being the same.",
    Schema(type=OpenAPIType.STRING),
    read_cursor,
    "`next` of an answer",
)
LATEST_LIMIT = _limit_param("devices", MAX_LIMIT)
LATEST_AFTER = Param(
    "after",
    "Only devices behind this one: `next` of the page before, all other parameters being the same.",
    DEVICE_SCHEMA,
    parse_device_id,
    DEVICE_ALLOWED,
)
TZ = Param(
    "tz",
    "Time zone in which local dates are read and times are shown; the household's, and UTC, unless given.",
    Schema(type=OpenAPIType.STRING, max_length=64),
    parse_zone,
    "a name of the time zone database, such as Europe/Berlin",
    example="Europe/Berlin",
)
FILL = Param(
    "fill",
    "`true`: buckets of which nothing is known are there as well, with nulls and coverage 0. Needs `device_id`.",
    Schema(type=OpenAPIType.BOOLEAN, default=False),
    _truth,
    "true or false",
    default=False,
)
POINTS = Param(
    "points",
    f"How many buckets of one device a chart can show at most; {DEFAULT_POINTS} unless given.",
    Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_LIMIT, default=DEFAULT_POINTS),
    _limit,
    f"a whole number from 1 to {MAX_LIMIT}",
    default=DEFAULT_POINTS,
)


def range_params(zone: tzinfo) -> tuple[Param, Param]:
    """`start` and `end` of a half-open range, on the household's clock where a date is given."""

    def parse(text: str) -> datetime:
        return parse_moment(text, zone)

    start, end = "Begin of the range, inclusive: a time, or a local date.", "End of the range, exclusive."
    return (
        Param("start", start, _TIME_SCHEMA, parse, RANGE_ALLOWED, required=True, example="2026-01-03"),
        Param("end", end, _TIME_SCHEMA, parse, RANGE_ALLOWED, required=True, example="2026-01-04"),
    )


def fields_param(names: tuple[str, ...]) -> Param:
    """Which columns are answered; its value is None or the names in the order of `names`."""
    allowed = f"some of {', '.join(names)}"

    def parse(text: str) -> set[str]:
        chosen = {name.strip() for name in text.split(",")}
        if not chosen <= set(names):
            raise ValueError(text)
        return chosen

    return Param(
        "fields",
        "Only these columns; may be given several times, or with commas between. Without it: all.",
        Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING, enum=list(names))),
        parse,
        allowed,
        many=True,
        join=lambda sets: tuple(name for name in names if any(name in chosen for chosen in sets)),
        example=[names[0]],
    )


def read_params(given: Mapping[str, Sequence[str]], params: Sequence[Param]) -> dict[str, Any]:
    """The values of a request's query parameters, by name.

    Args:
        given: all values of each parameter of the request.
        params: what the route takes.

    Raises:
        BadParameterError: one is unknown, missing, given too often or not allowed.
    """
    known = {param.name for param in params}
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "no query parameters"
            raise BadParameterError(name, given[name][0], f"the parameters {names}" if known else names)
    return {param.name: _read(param, given.get(param.name, ())) for param in params}


def check_range(start: datetime, end: datetime, longest: timedelta | None = None) -> None:
    """Raises BadParameterError unless `start` is before `end`, and not by more than `longest`."""
    if end <= start:
        raise BadParameterError("end", end.isoformat(), "a time after start")
    if longest is not None and end - start > longest:
        raise BadParameterError("end", end.isoformat(), f"at most {longest.days} days after start")


def operation_of(params: Sequence[Param], *, tables: bool = False, tagged: bool = False) -> type[Operation]:
    """How OpenAPI shows an operation.

    Args:
        params: that it takes.
        tables: whether it answers in all formats.
        tagged: whether its answers have an entity tag.
    """

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            self.parameters = [
                Parameter(
                    name=param.name,
                    param_in="query",
                    description=param.description,
                    required=param.required,
                    schema=param.schema,
                    example=param.example,
                )
                for param in params
            ]
            document(self, tables=tables, tagged=tagged)

    return Documented


def _read(param: Param, texts: Sequence[str]) -> Any:  # noqa: ANN401 - what the parameter's parser makes
    if not texts:
        if param.required:
            raise BadParameterError(param.name, None, param.allowed)
        return param.default
    if not param.many and len(texts) > 1:
        raise BadParameterError(param.name, ", ".join(texts), "one value")
    if len(texts) > MAX_DEVICES:
        raise BadParameterError(param.name, f"{len(texts)} values", f"at most {MAX_DEVICES} values")
    values = [_parse(param, text) for text in texts]
    return param.join(values) if param.many else values[0]


def _parse(param: Param, text: str) -> Any:  # noqa: ANN401
    try:
        return param.parse(text)
    except (ValueError, OverflowError) as exc:
        raise BadParameterError(param.name, text, param.allowed) from exc
