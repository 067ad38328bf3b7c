"""Rates and spot prices in the database."""

from collections.abc import Mapping, Sequence

import msgspec
import psycopg
from psycopg.rows import class_row

from hl_platform.adapters.postgres.connection import connect
from hl_platform.adapters.postgres.errors import translate, translated
from hl_platform.core.errors import ConfigError, PoisonRecordError
from hl_platform.core.tariffs import SpotPrice, Tariff

LIST_TARIFFS = """
-- list_tariffs: all rates, in the order in which they count for a device
select name, stream, device_id, valid_from, valid_to, kind, price_per_kwh, currency, weekdays,
       to_char(local_from, 'HH24:MI') as local_from, to_char(local_to, 'HH24:MI') as local_to, area,
       standing_charge_per_day
from hl.tariffs order by stream, device_id nulls last, valid_from desc, kind = 'time_of_use' desc, weekdays, local_from
"""
SET_TARIFF = """
-- set_tariff: a rate, in place of one for the same meter, begin, kind and time of use
insert into hl.tariffs (name, stream, device_id, valid_from, valid_to, kind, price_per_kwh, currency, weekdays,
                        local_from, local_to, area, standing_charge_per_day)
values (%(name)s, %(stream)s, %(device_id)s, %(valid_from)s, %(valid_to)s, %(kind)s, %(price_per_kwh)s, %(currency)s,
        %(weekdays)s, %(local_from)s, %(local_to)s, %(area)s, %(standing_charge_per_day)s)
on conflict (stream, coalesce(device_id, ''), valid_from, kind, weekdays, local_from) do update
set name = excluded.name, valid_to = excluded.valid_to, price_per_kwh = excluded.price_per_kwh,
    currency = excluded.currency, local_to = excluded.local_to, area = excluded.area,
    standing_charge_per_day = excluded.standing_charge_per_day
"""
PUT_PRICES = """
-- put_prices: of the spot market; those that begin at the same time are replaced
insert into hl.spot_prices (area, start_at, end_at, price_per_kwh)
select %(area)s, p.* from unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[], %(prices)s::float8[]) as p
on conflict (area, start_at) do update set end_at = excluded.end_at, price_per_kwh = excluded.price_per_kwh
"""


class TariffStore:
    """The tables of rates and spot prices.

    Args:
        url: of the owner of hl's tables.
        application_name: shown in pg_stat_activity.

    Raises from every method:
        TransientError: the database is away.
        ConfigError: a value is not allowed, or the tables are missing.
    """

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._name = application_name

    def list(self) -> Sequence[Tariff]:
        """All rates, in the order in which they count for a device."""
        with connect(self._url, application_name=self._name) as conn, translated():
            return conn.cursor(row_factory=class_row(Tariff)).execute(LIST_TARIFFS).fetchall()

    def set(self, tariff: Tariff) -> None:
        """Puts a rate in place of one for the same meter, begin, kind and time of use."""
        self._write(SET_TARIFF, msgspec.structs.asdict(tariff))

    def put_prices(self, area: str, prices: Sequence[SpotPrice]) -> None:
        """Puts prices of the spot market; those that begin at the same time are replaced."""
        values = {
            "area": area,
            "starts": [price.start_at for price in prices],
            "ends": [price.end_at for price in prices],
            "prices": [price.price_per_kwh for price in prices],
        }
        self._write(PUT_PRICES, values)

    def _write(self, query: str, values: Mapping[str, object]) -> None:
        with connect(self._url, application_name=self._name) as conn:
            try:
                conn.execute(query.encode(), values)
            except psycopg.Error as exc:
                error = translate(exc)
                if isinstance(error, PoisonRecordError):
                    raise ConfigError(f"The database refuses it: {error}") from exc
                raise error from exc
