"""Query parameters: one declaration each, from which both the check and the documentation follow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from litestar.openapi.spec import Operation, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from hl_live.problems import BadParameterError
from hl_platform.core.readings import DEVICE_ID, MAX_DEVICE_ID_CHARS

TIME_ALLOWED = "an ISO 8601 time with offset, such as 2026-01-03T16:00:00Z"
DEVICE_ALLOWED = f"a device id of 1 to {MAX_DEVICE_ID_CHARS} characters"
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1_000
# As many as a page would show; keeps the length of a query bounded.
MAX_DEVICES = 200


class Param(NamedTuple):
    """One query parameter.

    Args:
        parse: from the text of a request to its value; raises ValueError when it is not allowed.
        allowed: what may be given, for a person.
        many: may be given several times; its value is then a list.
        default: its value when it is not given.
    """

    name: str
    description: str
    schema: Schema
    parse: Callable[[str], Any]
    allowed: str
    required: bool = False
    many: bool = False
    default: Any = None


def parse_time(text: str) -> datetime:
    """An aware time, with room around it; raises ValueError where the text is none."""
    # A plus sign that was not escaped arrives as a space.
    moment = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
    if moment.tzinfo is None:
        raise ValueError(text)
    # Proves that it stays within what a datetime can hold in any zone.
    _ = moment - timedelta(days=400), moment + timedelta(days=400)
    return moment


def parse_device_id(text: str) -> str:
    """A device id as it stands; raises ValueError where it cannot be one."""
    if not DEVICE_ID.fullmatch(text):
        raise ValueError(text)
    return text


def _limit(text: str) -> int:
    limit = int(text)
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(text)
    return limit


_TIME_SCHEMA = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME)

DEVICES = Param(
    "device_id",
    "Only this device; may be given several times. Without it: all devices.",
    Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING, max_length=MAX_DEVICE_ID_CHARS)),
    parse_device_id,
    DEVICE_ALLOWED,
    many=True,
)
START = Param(
    "start", "Begin of the range, inclusive.", _TIME_SCHEMA, parse_time, TIME_ALLOWED, required=True
)
END = Param("end", "End of the range, exclusive.", _TIME_SCHEMA, parse_time, TIME_ALLOWED, required=True)
LIMIT = Param(
    "limit",
    f"At most this many readings, the oldest of the range; {DEFAULT_LIMIT} unless given.",
    Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT),
    _limit,
    f"a whole number from 1 to {MAX_LIMIT}",
    default=DEFAULT_LIMIT,
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


def operation_of(params: Sequence[Param]) -> type[Operation]:
    """How OpenAPI shows an operation with these parameters."""

    @dataclass
    class WithParams(Operation):
        def __post_init__(self) -> None:
            self.parameters = [
                Parameter(
                    name=param.name,
                    param_in="query",
                    description=param.description,
                    required=param.required,
                    schema=param.schema,
                )
                for param in params
            ]

    return WithParams


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
    return values if param.many else values[0]


def _parse(param: Param, text: str) -> Any:  # noqa: ANN401
    try:
        return param.parse(text)
    except (ValueError, OverflowError) as exc:
        raise BadParameterError(param.name, text, param.allowed) from exc
