"""A request's query made to name no device but those that its grant covers."""

from collections.abc import Set as AbstractSet
from urllib.parse import parse_qsl, urlencode

from hl_live.problems import BadParameterError, ForbiddenError

DEVICE, TICKET = "device_id", "ticket"
# Far more than the 200 devices that any route takes.
MAX_PAIRS = 500

Pairs = list[tuple[str, str]]


def read_query(query: bytes) -> Pairs:
    """Names and values of a query string, in order.

    Raises:
        BadParameterError: there are too many.
    """
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PAIRS)
    except ValueError as exc:
        raise BadParameterError("query", None, f"at most {MAX_PAIRS} parameters") from exc


def write_query(pairs: Pairs) -> bytes:
    """The query string of names and values: the only reading of it is the one that was checked."""
    return urlencode(pairs).encode()


def take_ticket(pairs: Pairs) -> tuple[Pairs, str | None]:
    """The query without its ticket, which nobody behind the door needs to see, and the ticket."""
    tickets = [value for name, value in pairs if name == TICKET]
    return [pair for pair in pairs if pair[0] != TICKET], tickets[0] if tickets else None


def narrow(pairs: Pairs, device_ids: AbstractSet[str], scope: str, *, one: bool = False) -> Pairs:
    """The query, for these devices only.

    Args:
        pairs: of the request; without a device it means all that may be seen.
        device_ids: those that may be seen.
        scope: for the message.
        one: whether the route takes one device only.

    Raises:
        ForbiddenError: it names another device, or none where only one can be named.
    """
    named = [value for name, value in pairs if name == DEVICE]
    if not set(named) <= device_ids:
        raise ForbiddenError(scope, f"The scope {scope} of this token covers other devices only.")
    if named:
        return pairs
    if one and len(device_ids) != 1:
        raise ForbiddenError(scope, f"Name a {DEVICE}: the token covers some devices only.")
    return [*pairs, *((DEVICE, device_id) for device_id in sorted(device_ids))]
