"""From the bytes of a JSON object to a dict that every later stage can hold."""

import json
import re
import sys
from itertools import count
from typing import Any

import msgspec

from hl_platform.core.errors import PoisonRecordError

# No device nests this deep, and encoders and PostgreSQL have limits of their own somewhere above.
MAX_DEPTH = 32
# An integer of more digits is beyond what a double can hold, and so beyond most that read JSON.
MAX_DOUBLE_DIGITS = 308
BEYOND_DOUBLE = re.compile(rb"\d{%d}" % (MAX_DOUBLE_DIGITS + 1))

BACKSLASH, BRACKET = b"\\["

_decoder = msgspec.json.Decoder()


def parse_object(payload: bytes) -> dict[str, Any]:
    """The object; nothing in it is lost, and PostgreSQL can store all of it.

    Raises:
        PoisonRecordError: with reason `not_json` or `invalid`.
    """
    try:
        raw = _decoder.decode(payload)
    # RecursionError is how msgspec refuses a document nested deeper than the stack.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise PoisonRecordError("not_json", str(exc)) from exc
    if type(raw) is not dict:
        raise PoisonRecordError("not_json", f"a {type(raw).__name__}, not an object")
    # Cheap tests on bytes spare nearly every payload the walk; the cheapest is for a single byte.
    if (
        (BACKSLASH in payload and b"\\u0000" in payload)
        or payload.count(b"{") + (payload.count(b"[") if BRACKET in payload else 0) > MAX_DEPTH
        or (len(payload) > MAX_DOUBLE_DIGITS and BEYOND_DOUBLE.search(payload))
    ):
        _check_storable(raw)
    # Every string has two quotes: more of them than the result explains are those of a key that came twice,
    # or harmless ones inside a text or an array.
    if payload.count(b'"') != _n_quotes(raw):
        _check_keys(payload)
    return raw


def _check_storable(raw: dict[str, Any]) -> None:
    # Level by level instead of recursively: a hostile payload must not exhaust the stack.
    level: list[Any] = [raw]
    for depth in count(1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str) and "\x00" in value:
                # PostgreSQL's text and jsonb cannot hold it.
                raise PoisonRecordError("invalid", "text with the character U+0000")
            if isinstance(value, int) and abs(value) > sys.float_info.max:
                raise PoisonRecordError("invalid", "a number beyond the range of a double")
            if isinstance(value, dict | list) and depth > MAX_DEPTH:
                raise PoisonRecordError("invalid", f"nested deeper than {MAX_DEPTH} levels")
            if isinstance(value, dict):
                below.extend((*value.keys(), *value.values()))
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return
        level = below


def _n_quotes(raw: dict[str, Any]) -> int:
    """How many quotes the JSON text of an object has if no string escapes one and no array holds a string."""
    types = list(map(type, raw.values()))
    n = 2 * (len(types) + types.count(str))
    if dict in types:
        for value in raw.values():
            if type(value) is dict:
                n += _n_quotes(value)
    return n


def _check_keys(payload: bytes) -> None:
    # Exact and slow. The last of two values would win, and the other be lost without a word.
    json.loads(payload, object_pairs_hook=_check_pairs, parse_int=len, parse_float=len)


def _check_pairs(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise PoisonRecordError("invalid", f"key {key!r:.80} twice in one object")
        seen.add(key)
