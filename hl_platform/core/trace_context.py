"""The W3C trace context that a message, a record or a request may carry.

Source: W3C Trace Context, Level 1, 3.2.
"""

import re
from typing import NamedTuple

# Name of the user property of a PUBLISH, of the header of a Kafka record and of an HTTP request.
TRACEPARENT = "traceparent"
FORM = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
# Nothing that somebody sends us is kept unless it is as short as this.
MAX_CHARS = 55
SAMPLED = 1


class Parent(NamedTuple):
    """What is known of the span that something follows from."""

    trace_id: int
    span_id: int
    sampled: bool


def parse_traceparent(text: str) -> Parent | None:
    """The context in a `traceparent`; None where it is none."""
    found = FORM.fullmatch(text) if len(text) <= MAX_CHARS else None
    if found is None or not int(found[1], 16) or not int(found[2], 16):
        return None
    return Parent(int(found[1], 16), int(found[2], 16), sampled=bool(int(found[3], 16) & SAMPLED))


def write_traceparent(parent: Parent) -> str:
    """A context as it is carried."""
    return f"00-{parent.trace_id:032x}-{parent.span_id:016x}-{int(parent.sampled):02x}"
