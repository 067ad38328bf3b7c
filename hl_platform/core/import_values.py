"""Cells of a person's file as the values a device would have sent. Pure."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hl_platform.core.streams import FieldType

# What programs write where a number is missing.
MISSING = frozenset(("", "null", "none", "nan", "na", "n/a", "unavailable", "unknown"))
TRUE = frozenset(("true", "t", "yes", "on", "1", "1.0"))
FALSE = frozenset(("false", "f", "no", "off", "0", "0.0"))
DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
# A comma that may as well separate thousands, where it separates no columns.
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
# As JSON writes a number: a number with leading zeros is a name.
JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
# More digits than a double or bigint keeps: a serial number, which stays a text.
MAX_NUMBER_CHARS = 18

Convert = Callable[[Any], Any]


def uses_decimal_comma(cells: Iterable[str], delimiter: str) -> bool:
    """Whether numbers are written 12,45.

    Args:
        cells: of columns that hold numbers, some of them.
        delimiter: between columns.
    """
    with_comma = []
    for cell in cells:
        text = cell.strip()
        if DECIMAL_POINT.fullmatch(text):
            return False
        if DECIMAL_COMMA.fullmatch(text):
            with_comma.append(text)
    only_thousands = delimiter == "," and all(THOUSANDS.fullmatch(text) for text in with_comma)
    return bool(with_comma) and not only_thousands


def converter_of(type_: FieldType, *, decimal_comma: bool) -> Convert:
    """What makes a value of a cell, None where it is missing.

    What it returns need not be valid: that is for the decoder to say. It raises a ValueError with a text for a
    person where the cell is none.

    Args:
        type_: of the field.
        decimal_comma: whether numbers are written 12,45.
    """
    if type_ == "text":
        return _text
    if type_ == "boolean":
        return _boolean
    read = _comma_float if decimal_comma else _float
    if type_ != "float":
        return lambda value: _integer(value, read)
    return (lambda value: _number(value, read)) if decimal_comma else _plain_number


def guess(value: Any, *, decimal_comma: bool) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a cell that no field declares: a number or a boolean where it looks like one."""
    if not isinstance(value, str):
        return value
    text = value.replace(",", ".") if decimal_comma and DECIMAL_COMMA.fullmatch(value) else value
    if len(text) <= MAX_NUMBER_CHARS and (found := JSON_NUMBER.fullmatch(text)):
        number = float(text) if found[2] or found[3] else int(text)
        return number if math.isfinite(number) else value
    return {"": None, "true": True, "false": False}.get(value.lower(), value)


def numeric_cells(rows: Iterable[Sequence[Any]], indexes: Sequence[int]) -> Iterable[str]:
    """The texts of some columns."""
    for cells in rows:
        for index in indexes:
            if index < len(cells) and isinstance(cells[index], str):
                yield cells[index]


def _text(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return value or None
    return str(value) if type(value) is int else value


def _boolean(value: Any) -> Any:  # noqa: ANN401
    word = value.strip().lower() if isinstance(value, str) else value
    if word is None or isinstance(word, bool):
        return word
    word = str(word)
    if word in MISSING:
        return None
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError(f"{value!r:.80} is neither true nor false")


def _number(value: Any, read: Callable[[str], float]) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        try:
            value = read(value)
        except ValueError:
            if value.strip().lower() in MISSING:
                return None
            raise
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise ValueError("infinity is no measured value")
    return value


def _plain_number(value: Any) -> Any:  # noqa: ANN401
    # Nearly every cell is this simple, and there are many.
    try:
        if type(value) is str and "_" not in value and -math.inf < (number := float(value)) < math.inf:
            return number
    except ValueError:
        pass
    return _number(value, _float)


def _integer(value: Any, read: Callable[[str], float]) -> Any:  # noqa: ANN401
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        # Not by way of a double, which has 53 bits.
        return int(value)
    number = _number(value, read)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _float(text: str) -> float:
    try:
        # Python's own separator of digits is nobody else's.
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    hint = ' (with a decimal comma? write --decimal ",")' if DECIMAL_COMMA.fullmatch(text.strip()) else ""
    raise ValueError(f"{text!r:.80} is no number{hint}")


def _comma_float(text: str) -> float:
    stripped = text.strip()
    if DECIMAL_COMMA.fullmatch(stripped):
        return float(stripped.replace(".", "").replace(",", "."))
    if "." in stripped:
        # 12.450 may be twelve or twelve thousand: never guess by a factor of a thousand.
        raise ValueError(f"{text!r:.80} has a point where the file has decimal commas")
    return _float(text)
