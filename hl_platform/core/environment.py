"""Environment variables into typed values, and the words for what a setting allows.

Knows nothing of the settings themselves: it works on any tree of msgspec structs whose leaves are annotated
with a description.
"""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, inspect

from hl_platform.core.errors import ConfigError

DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class SettingDoc(NamedTuple):
    """One setting, as the configuration table shows it.

    Args:
        variable: its environment variable.
        default: its default as one would write it, empty where it is unset.
        description: what it does.
        allowed: the values it takes, in words.
        path: where it is in the tree of settings.
        hint: its annotated type.
    """

    variable: str
    default: str
    description: str
    allowed: str
    path: tuple[str, ...]
    hint: Any


def walk_settings(
    section: type[msgspec.Struct], prefix: str, path: tuple[str, ...] = ()
) -> Iterator[SettingDoc]:
    """Every leaf below a section, in the order of declaration.

    Args:
        section: the struct to walk.
        prefix: what its variables begin with.
        path: where the section is in the tree.
    """
    hints = get_type_hints(section, include_extras=True)
    for field in msgspec.structs.fields(section):
        hint, here = hints[field.name], (*path, field.name)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from walk_settings(hint, prefix, here)
        else:
            variable = prefix + "__".join(here).upper()
            default, description = _show(field.default), _description(hint)
            yield SettingDoc(variable, default, description, _allowed(inspect.type_info(hint)), here, hint)


def parse_value(doc: SettingDoc, text: str) -> Any:  # noqa: ANN401 - whatever the setting's type is
    """The value of a setting that a variable's text stands for.

    Raises:
        ConfigError: names the variable, its value and what is allowed; a secret's value is not repeated.
    """
    try:
        if _holds_datetime(doc.hint):
            return msgspec.convert(_parse_datetime(text), doc.hint)
        return _check_finite(msgspec.convert(text, doc.hint, strict=False))
    except (msgspec.ValidationError, ValueError):
        shown = "(hidden)" if is_secret(doc) else repr(text)
        # Not chained: the cause may quote the value.
        raise ConfigError(f"{doc.variable}={shown} is not allowed; allowed: {doc.allowed}.") from None


def is_secret(doc: SettingDoc) -> bool:
    """Whether the value may hold a password and must never be shown."""
    return "password" in doc.path[-1] or doc.path[-1].endswith(("url", "token"))


def _parse_datetime(text: str) -> datetime:
    # datetime.fromisoformat would take "20150101" as well, and msgspec the number of seconds "2015".
    if DATE.match(text) is None:
        raise ValueError(text)
    if DATE.fullmatch(text):
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    return datetime.fromisoformat(text)


def _check_finite(value: object) -> object:
    # Text such as "inf" is a float to msgspec, and passes where there is no upper limit.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    return value


def _holds_datetime(hint: object) -> bool:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint is datetime


def _description(hint: object) -> str:
    if get_origin(hint) is Annotated:
        for meta in get_args(hint)[1:]:
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    return ""


def _show(default: object) -> str:
    if default is None or default == "":
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return default.isoformat() if isinstance(default, datetime) else str(default)


def _allowed(info: inspect.Type) -> str:
    if isinstance(info, inspect.Metadata):
        return str((info.extra or {}).get("allowed") or _allowed(info.type))
    if isinstance(info, inspect.UnionType):
        # The only union is "or unset", and leaving the variable out says that.
        return next(_allowed(member) for member in info.types if not isinstance(member, inspect.NoneType))
    if isinstance(info, inspect.LiteralType):
        return ", ".join(str(value) for value in info.values)
    if isinstance(info, inspect.IntType | inspect.FloatType):
        return ("a whole number" if isinstance(info, inspect.IntType) else "a number") + _limits(info)
    if isinstance(info, inspect.StrType):
        return "any text but the empty one" if info.min_length else "any text"
    return {
        inspect.BoolType: "true, false",
        inspect.DateTimeType: "a date like 2015-01-31, or a time with an offset like 2015-01-31T08:00:00Z",
    }[type(info)]


def _limits(info: inspect.IntType | inspect.FloatType) -> str:
    if info.gt is not None:
        return f" above {info.gt:g}"
    if info.ge is not None and info.le is not None:
        return f" from {info.ge} to {info.le}"
    return "" if info.ge is None else f" of at least {info.ge}"
