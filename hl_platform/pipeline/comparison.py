"""Compares the accounts of all streams and keeps what is found."""

import time
from collections.abc import Iterable

import structlog

from hl_platform.adapters.kafka.lag import read_ends
from hl_platform.adapters.postgres.balance_store import read_ledger, write_balances
from hl_platform.core.balance import Difference, Ends, Ledger, compare, confirmed
from hl_platform.core.errors import TransientError
from hl_platform.core.settings import Settings, require_address
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# Several heartbeats: what a service counts late, because it has just taken over, is counted by then.
LOOK_AGAIN_S = 3.0


def compare_accounts(settings: Settings, streams: Iterable[Stream]) -> list[Difference]:
    """Compares the accounts, a second time where they differ, and writes the findings to hl.balances.

    Raises:
        TransientError: the database cannot be reached now.
    """
    url = require_address(settings.database.url, "database", "url")
    streams = list(streams)
    found = _compare_once(settings, url, streams)
    if any(difference.n_records for difference in found):
        time.sleep(LOOK_AGAIN_S)
        found = confirmed(found, _compare_once(settings, url, streams))
    for difference in found:
        if difference.n_records:
            log.error("accounts_differ", **difference._asdict())
    write_balances(url, found)
    return found


def _compare_once(settings: Settings, url: str, streams: Iterable[Stream]) -> list[Difference]:
    ledger = read_ledger(url)
    ends = _ends_of(settings, ledger)
    return [difference for stream in streams for difference in compare(ledger, stream, ends)]


def _ends_of(settings: Settings, ledger: Ledger) -> Ends | None:
    places = {(row.kafka_topic, row.kafka_partition) for row in ledger.coverage if row.kafka_topic}
    try:
        return read_ends(settings.kafka, places)
    except TransientError as exc:
        log.info("ends_unknown", error=str(exc))
        return None
