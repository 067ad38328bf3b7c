"""The time of a row in a person's file: ISO 8601, a Unix time, or a clock on a wall. Pure."""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple

from hl_platform.core.errors import PoisonRecordError

UNIX = datetime(1970, 1, 1, tzinfo=UTC)
NUMBER = re.compile(r"\d+(\.\d+)?")
# Microseconds of a unit, and below which value a number is of that unit: each covers 1973 to 5138, and no two meet.
UNITS = ((1e11, 1_000_000.0), (1e14, 1_000.0), (1e17, 1.0), (1e20, 0.001))
CALL_FOR_FORMAT = 'write its form, such as --time-format "%d.%m.%Y %H:%M"'


class _Step(NamedTuple):
    """Where the rows of one device have come to, and whether they go back in time."""

    at: datetime
    descends: bool


class TimeReader:
    """Reads times, those without an offset as of a time zone.

    Where the clock is set back, an hour comes twice. The order of a device's rows says which of the two is meant:
    whichever continues it. Where the clock is set forward, an hour never was: such a time is an error.

    Args:
        zone: of times without an offset.
        form: of the times, as `strptime` has it; None for ISO 8601 and Unix times.
    """

    def __init__(self, zone: tzinfo, form: str | None = None) -> None:
        self._zone = zone
        self._form = form
        self._steps: dict[str, _Step] = {}
        self.n_ambiguous = 0

    def read(self, value: object, device_id: str) -> datetime:
        """The moment that a cell means, in UTC.

        Args:
            value: text, a number or a time.
            device_id: whose row it is; a device's rows are given in the order of the file.

        Raises:
            PoisonRecordError: reason `not_a_time` or `no_such_local_time`.
        """
        moment = self._parse(value)
        try:
            return self._localize(moment, device_id) if moment.tzinfo is None else moment.astimezone(UTC)
        except OverflowError as exc:
            raise PoisonRecordError("not_a_time", f"{moment.isoformat()} is out of range") from exc

    def _parse(self, value: object) -> datetime:
        if isinstance(value, str):
            return self._parse_text(value.strip())
        if isinstance(value, datetime):
            return value
        if isinstance(value, date):
            return datetime.combine(value, time())
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _of_number(value)
        raise PoisonRecordError("not_a_time", "the time is missing" if value is None else f"{value!r:.80}")

    def _parse_text(self, text: str) -> datetime:
        try:
            if self._form is not None:
                return datetime.strptime(text, self._form)  # noqa: DTZ007 - the zone is given afterwards
            if NUMBER.fullmatch(text):
                return _of_number(float(text))
            return datetime.fromisoformat(text)
        except ValueError as exc:
            if not text:
                raise PoisonRecordError("not_a_time", "the time is missing") from exc
            hint = f"is not of the form {self._form}" if self._form else f"is no time; {CALL_FOR_FORMAT}"
            raise PoisonRecordError("not_a_time", f"{text!r:.80} {hint}") from exc

    def _localize(self, clock: datetime, device_id: str) -> datetime:
        first = clock.replace(tzinfo=self._zone)
        second = first.replace(fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        moment = first.astimezone(UTC)
        step = self._steps.get(device_id)
        if before != after and before is not None and after is not None:
            if before < after:
                raise PoisonRecordError(
                    "no_such_local_time", f"{clock.isoformat(' ')} never was: clocks were set forward"
                )
            self.n_ambiguous += 1
            moment = _choose(moment, second.astimezone(UTC), step)
        if step is None:
            self._steps[device_id] = _Step(moment, descends=False)
        elif moment != step.at:
            self._steps[device_id] = _Step(moment, moment < step.at)
        return moment


def _choose(first: datetime, second: datetime, step: _Step | None) -> datetime:
    if step is None:
        return first
    # Rows that come from behind both moments go back in time, even if the row before could not tell yet.
    if step.descends or step.at > second:
        return second if second < step.at else first
    return first if first > step.at else second


def _of_number(value: float) -> datetime:
    for below, microseconds in UNITS:
        if 0 <= value < below:
            return UNIX + timedelta(microseconds=round(value * microseconds))
    raise PoisonRecordError("not_a_time", f"{value!r} is no Unix time")
