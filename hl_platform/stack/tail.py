"""`hl tail`: readings as they pass, at any stage."""

from contextlib import closing
from functools import partial
from itertools import islice

import click

from hl_platform.core.settings import load_settings
from hl_platform.stack.check import choose_streams, require_running
from hl_platform.stack.connection import command_environment
from hl_platform.stack.signals import stop_on_signals
from hl_platform.stack.tail_sources import SOURCES, Readings, feed_readings


@click.command()
@click.argument("stage", type=click.Choice(list(SOURCES)))
@click.argument("stream", required=False)
@click.option("--device", help="Only this device's.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many.")
def tail(*, stage: str, stream: str | None, device: str | None, count: int | None) -> None:
    """Show readings as they pass a STAGE, of one STREAM or of all; Ctrl-C ends it.

    A line has the reading's own time in UTC, its device, its values with their units, and its position. It takes
    nothing from anybody: it has clients of its own, in no consumer group and without an MQTT session.
    """
    settings = load_settings(command_environment())
    require_running(settings)
    streams = choose_streams(settings, () if stream is None else (stream,))
    # The feed sends only what is asked for, and a probe to nobody else.
    source = partial(feed_readings, device_id=device) if stage == "feed" else SOURCES[stage]
    # An event and no exception: Ctrl-C may come while a library is at work that would turn it into a fault of its own.
    with stop_on_signals() as stop, closing(_of_device(source(settings, streams, stop), device)) as chosen:
        for one in islice(chosen, count):
            click.echo(one.line)


def _of_device(seen: Readings, device: str | None) -> Readings:
    with closing(seen):
        for one in seen:
            if device is None or one.device_id in (device, ""):
                yield one
