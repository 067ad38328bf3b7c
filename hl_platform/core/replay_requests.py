"""A request to replay dead letters: asked for over the API, done by Dagster."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_args

import msgspec

from hl_platform.core.dead_letter_index import Selection

RequestState = Literal["asked", "running", "done", "failed"]
REQUEST_STATES: tuple[RequestState, ...] = get_args(RequestState)
# A dry run judges so many entries, the oldest: enough to decide by, and quick.
MAX_JUDGED = 500


class JudgedReason(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of which the same would become.

    Args:
        kind: `accepted`, `rejected`, or `impossible` to replay.
        reason: empty where they are accepted.
        n: how many.
        example_id, example_detail: of the first.
    """

    kind: Literal["accepted", "rejected", "impossible"]
    stream: str
    reason: str
    n: int
    example_id: int
    example_detail: str


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What a dry run found: of the oldest entries, 500 at most, how many would be stored.

    Args:
        n: entries that were judged.
        accepted, rejected, impossible: how many of them would be stored, fail again, or cannot be replayed.
        groups: by what would become of them, the most frequent first.
    """

    n: int
    accepted: int
    rejected: int
    impossible: int
    groups: list[JudgedReason]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did.

    Args:
        replay_id: of the entries that it took, in the index.
        n_selected: entries that it took.
        n_stored, n_failed_again: what became of them.
        impossible: how many cannot be replayed, by reason.
        complete: whether the sink has passed all of it; else `n_stored` may still fall.
    """

    replay_id: str
    n_selected: int
    n_stored: int
    n_failed_again: int
    impossible: Mapping[str, int]
    complete: bool


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, by whom, and how far it is.

    Args:
        requested_by: the token's name or the JWT's subject, and the address.
        dry_run: whether only to say what would succeed.
        stream, fingerprint, device_id: which entries; null does not restrict.
        until_id: the newest entry that is meant.
        n_selected: how many entries that were when it was asked for.
        run_id: of the run in Dagster.
        step, n_done, n_total: what the run does now, and how far it is.
        judged: of a dry run that is done.
        replayed: of a replay that is done.
        problem: why it failed.
    """

    request_id: int
    requested_at: datetime
    requested_by: str
    dry_run: bool
    stream: str | None
    fingerprint: str | None
    device_id: str | None
    until_id: int
    n_selected: int
    state: RequestState
    run_id: str | None
    step: str | None
    n_done: int | None
    n_total: int | None
    ended_at: datetime | None
    judged: Judged | None
    replayed: Replayed | None
    problem: str | None

    @property
    def selection(self) -> Selection:
        """The entries that are meant."""
        return Selection(
            stream=self.stream,
            fingerprint=self.fingerprint,
            device_id=self.device_id,
            until_id=self.until_id,
        )
