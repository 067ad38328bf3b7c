"""Times on the command line."""

from datetime import UTC, datetime

import click


class MomentType(click.ParamType[datetime]):
    """A date, or a time with an offset, in ISO 8601."""

    name = "ISO 8601"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The moment; a date alone is its midnight in UTC."""
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time. Write 2026-01-31 or 2026-01-31T08:00:00+01:00.", param, ctx)
        if moment.tzinfo is None and moment.time() != datetime.min.time():
            self.fail(
                f"{value!r} has no offset. Write {value}Z for UTC, or +01:00 in place of Z.", param, ctx
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
