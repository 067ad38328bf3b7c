"""What the index knows of a dead letter, and how entries are selected."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

import msgspec

from hl_platform.core.dead_letters import DeadLetter, entry_name

State = Literal["new", "replayed", "failed_again", "discarded"]
STATES: tuple[State, ...] = get_args(State)
# What still waits for somebody to deal with it.
OPEN_STATES: tuple[State, ...] = ("new", "failed_again")
# Enough to recognise a payload by, little enough for a million rows.
PREVIEW_CHARS = 200
# Of UTF-8; a character has at most four bytes.
PREVIEW_BYTES = 4 * PREVIEW_CHARS


class IndexedLetter(DeadLetter, frozen=True, kw_only=True):
    """A dead letter with its place in Kafka and a glance at its bytes.

    Args:
        dead_letter_topic, dead_letter_partition, dead_letter_offset: where it is.
        dead_lettered_at: Kafka's timestamp of it.
        n_bytes: length of the value that Kafka holds.
        preview: its beginning, see `preview_of`.
    """

    dead_letter_topic: str
    dead_letter_partition: int
    dead_letter_offset: int
    dead_lettered_at: datetime
    n_bytes: int
    preview: str

    @property
    def name(self) -> str:
        """Its place as `hl.replay_of` names it."""
        return entry_name(self.dead_letter_topic, self.dead_letter_partition, self.dead_letter_offset)


class Entry(IndexedLetter, frozen=True, kw_only=True):
    """A row of the index.

    Args:
        id: rises in the order of the dead-letter topic.
        state: what became of it.
        state_at, state_by, state_reason: when, through whom and why.
    """

    id: int
    state: State
    state_at: datetime
    state_by: str | None = None
    state_reason: str | None = None


class EntryGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Entries with one fingerprint.

    Args:
        n: how many.
        first_failed_at, last_failed_at: of all of them.
        example_id, example_detail, example_preview: of the newest.
    """

    fingerprint: str
    stream: str
    stage: str
    reason: str
    n: int
    first_failed_at: datetime
    last_failed_at: datetime
    example_id: int
    example_detail: str
    example_preview: str


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are meant; what is not given does not restrict.

    Args:
        stream: name.
        fingerprint: see `fingerprint_of`.
        device_id: name.
        since, until: of `last_failed_at`, half-open, aware.
        ids: of the index.
        states: of the entries; None for all.
        rejected_unlike: the present version of hl and digests of the declarations by stream: only entries that
            another version or another declaration rejected, and that are whole.
        replay_id: of the reprocessing that took them last.
        until_id: the highest id.
    """

    stream: str | None = None
    fingerprint: str | None = None
    device_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[int, ...] | None = None
    states: tuple[State, ...] | None = OPEN_STATES
    rejected_unlike: tuple[str, Mapping[str, str]] | None = None
    replay_id: UUID | None = None
    until_id: int | None = None


def preview_of(value: bytes) -> str:
    """The beginning of a value as text, at most 200 characters; what is no text is replaced, so nothing is certain."""
    text = value[:PREVIEW_BYTES].decode(errors="replace")[:PREVIEW_CHARS]
    # PostgreSQL's text cannot hold U+0000.
    return text.replace("\x00", "�")
