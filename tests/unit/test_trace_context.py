"""The trace context that others send us."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_platform.core.trace_context import Parent, parse_traceparent, write_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-" + "x" * 100,
    ],
)
def test_what_is_no_context_is_none(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_context_is_read_as_it_was_written(trace_id: int, span_id: int, sampled: bool) -> None:  # noqa: FBT001
    parent = Parent(trace_id, span_id, sampled)
    assert parse_traceparent(write_traceparent(parent)) == parent


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys, hl_live.app, hl_live.server, hl_platform.pipeline.run_service;"
        "from hl_platform.adapters.tracing import open_tracing; assert open_tracing(None, 'x') is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
