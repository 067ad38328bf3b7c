"""`hl simulate`: a plausible home, a load, or a history, through real MQTT."""

import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from hl_platform.adapters.log_output import configure_logging
from hl_platform.adapters.mqtt.announcer import announced
from hl_platform.adapters.mqtt.publisher import MqttPublisher
from hl_platform.core.errors import ConfigError
from hl_platform.core.settings import load_settings
from hl_platform.simulator.home import SECOND_US, STREAMS, UNIX, home_devices, load_devices
from hl_platform.simulator.progress import show_progress
from hl_platform.simulator.runner import Limits, Pace, run_plan
from hl_platform.simulator.schedule import plan_home, plan_load, repeat_when_heard
from hl_platform.stack.connection import command_environment
from hl_platform.stack.moments import MomentType
from hl_platform.stack.signals import stop_on_signals

DEFAULT_LOAD_DEVICES = 50
# How long to wait for the last acknowledgements, in seconds: patiently at the end of a plan, shortly when
# somebody wants it to end, and perhaps the broker has been stopped as well.
DRAIN_S = 60.0
DRAIN_AFTER_STOP_S = 2.0


@dataclass(frozen=True)
class Options:
    """What was asked for, as `simulate` describes it."""

    rate: int | None
    devices: int | None
    prefix: str
    streams: tuple[str, ...]
    start: datetime | None
    speed: float | None
    duration: float | None
    count: int | None


def _streams_of(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in STREAMS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(STREAMS)}.")
    if not names:
        raise click.BadParameter(f"name at least one of {', '.join(STREAMS)}.")
    return names


@click.command()
@click.option("--rate", type=click.IntRange(1, 1_000_000), help="A load: readings per second in total.")
@click.option("--devices", type=click.IntRange(1, 1_000_000), help="Devices of a load.  [default: 50]")
@click.option(
    "--prefix", default="load-", show_default=True, help="What the names of a load's devices begin with."
)
@click.option(
    "--streams", default=",".join(STREAMS), show_default=True, callback=_streams_of, help="Which to publish."
)
@click.option("--start", type=MomentType(), help="A history: from this time to now, as fast as possible.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), help="Seconds that pass in one.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds of readings, then end.")
@click.option("--count", type=click.IntRange(1), help="Readings, then end.")
@click.option("--seed", type=int, help="Same seed, same readings.  [default: HL_SIMULATOR__SEED]")
def simulate(seed: int | None, **given: object) -> None:
    """Publish what a plausible home would: two meters, a heat pump and five rooms, until stopped.

    With --rate or --devices it is a load instead, with --start a history.
    """
    options = Options(**given)  # type: ignore[arg-type] # click gives what the options above declare
    if options.speed is not None and options.speed > 1 and options.start is None:
        raise click.UsageError("--speed above 1 needs --start: readings from the future are invalid.")
    if options.start is not None and options.start > datetime.now(UTC):
        raise click.UsageError(f"--start {options.start.isoformat()} is in the future.")
    try:
        settings = load_settings(command_environment())
        configure_logging(settings.log)
        seed = settings.simulator.seed if seed is None else seed
        with stop_on_signals() as stop, announced(settings.mqtt, _status_topics(options, seed)):
            publisher = MqttPublisher(settings.mqtt, "simulator", stop)
            publisher.start()
            try:
                _publish(options, seed, publisher, stop)
            finally:
                publisher.close()
    except ConfigError as exc:
        click.echo(str(exc), err=True)
        sys.exit(2)
    if publisher.unacknowledged or publisher.rejected:
        sys.exit(1)


def _status_topics(options: Options, seed: int) -> list[str]:
    """Of the home that lives now: a load is no device, and a history is over."""
    if (options.rate, options.devices, options.start) != (None, None, None):
        return []
    return [device.status_topic for device in home_devices(seed) if device.stream in options.streams]


def _publish(options: Options, seed: int, publisher: MqttPublisher, stop: threading.Event) -> None:
    start_us = now_us() if options.start is None else (options.start - UNIX) // timedelta(microseconds=1)
    if options.rate is None and options.devices is None:
        devices = [device for device in home_devices(seed) if device.stream in options.streams]
        plan = plan_home(devices, start_us)
        if options.start is None:
            plan = repeat_when_heard(
                plan, devices, lambda: (publisher.acknowledged - publisher.unheard, publisher.unheard)
            )
    else:
        n_devices = options.devices or DEFAULT_LOAD_DEVICES
        devices = load_devices(seed, n_devices, options.streams, options.prefix)
        plan = plan_load(devices, options.rate or n_devices, start_us)
    live = options.start is None
    speed = options.speed or (1.0 if live else None)
    length_us = None if options.duration is None else round(options.duration * SECOND_US)
    limits = Limits(options.count, length_us and start_us + length_us, until_now=not live)
    total_us = length_us or (None if live else now_us() - start_us)
    began_s = time.monotonic()
    with show_progress(publisher, (options.count, total_us), start_us) as report:
        pace = Pace(start_us, speed, now_us, stop)
        run_plan(plan, publisher, pace, limits, now_us=now_us, on_reading=report)
        _drain(publisher, stop)
    seconds = time.monotonic() - began_s
    click.echo(
        f"sent {publisher.sent}, acknowledged {publisher.acknowledged}, rejected {publisher.rejected}, "
        f"in {seconds:.1f} s ({publisher.acknowledged / seconds:.0f}/s)"
    )


def _drain(publisher: MqttPublisher, stop: threading.Event) -> None:
    until_s = time.monotonic() + DRAIN_S
    while not publisher.drain(0.1) and time.monotonic() < until_s:
        if stop.is_set():
            publisher.drain(DRAIN_AFTER_STOP_S)
            return


def now_us() -> int:
    """The time now, in Unix microseconds."""
    return time.time_ns() // 1_000
