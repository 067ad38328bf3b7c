"""Who may read what, and who may ask for something to be done: scopes, grants and the form of tokens.

A scope is `read:<stream>`, `read:*` or `read:pipeline`. The last is for what is about no single reading: counts of
the stages, dead letters, health and metrics; `read:*` covers it as well. `replay:dead-letters` lets its holder ask for
dead letters to be replayed; no other scope covers that.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

READ = "read:"
READ_ALL = "read:*"
READ_PIPELINE = "read:pipeline"
REPLAY = "replay:dead-letters"
SCOPE = re.compile(r"read:(\*|[a-z][a-z0-9_]{0,39})|replay:dead-letters")
SCOPE_ALLOWED = "read:<stream>, read:*, read:pipeline or replay:dead-letters"
TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# As many as one request may name.
MAX_DEVICES = 200
# 256 bits cannot be guessed, so a fast hash keeps them (docs/decisions/0020).
SECRET_BYTES = 32
TOKEN = re.compile(r"hl_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may read.

    Args:
        subject: whose it is, for the log: a token's name or a JWT's subject.
        key: what it stands on; when that is revoked, the grant ends.
        scopes: as in the module's text; others are ignored.
        device_ids: the only devices it covers; None for all.
        expires_at: Unix seconds, exclusive; None for never.
    """

    subject: str
    key: str
    scopes: frozenset[str]
    device_ids: frozenset[str] | None = None
    expires_at: float | None = None

    def allows(self, scope: str) -> bool:
        """Whether a scope is among those given, or covered by `read:*`."""
        return scope in self.scopes or (READ_ALL in self.scopes and scope.startswith(READ))

    def may_read(self, stream: str) -> bool:
        """Whether any reading of this stream may be seen."""
        scope = stream_scope(stream)
        # A stream of that name would otherwise be opened by a scope that means something else.
        return self.allows(scope) and (scope != READ_PIPELINE or READ_ALL in self.scopes)

    def devices(self, stream: str) -> frozenset[str] | None:
        """The devices of this stream that may be seen; None for all of them."""
        return self.device_ids if self.may_read(stream) else frozenset()

    def is_over(self, now: float) -> bool:
        """Whether it has expired, at a time in Unix seconds."""
        return self.expires_at is not None and now >= self.expires_at


# Of a service on loopback that asks nobody.
EVERYTHING = Grant(subject="anyone", key="", scopes=frozenset((READ_ALL, REPLAY)))


class StoredToken(NamedTuple):
    """A token as it is kept: everything but the token."""

    token_id: str
    name: str
    digest: bytes
    scopes: list[str]
    device_ids: list[str] | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None

    def grant(self) -> Grant:
        """What it opens."""
        return Grant(
            subject=self.name,
            key=self.token_id,
            scopes=frozenset(self.scopes),
            device_ids=None if self.device_ids is None else frozenset(self.device_ids),
            expires_at=None if self.expires_at is None else self.expires_at.timestamp(),
        )


def stream_scope(stream: str) -> str:
    """The scope that opens a stream."""
    return READ + stream


def make_token() -> str:
    """A new token: its public id and 256 random bits."""
    return f"hl_{secrets.token_hex(4)}_{secrets.token_urlsafe(SECRET_BYTES)}"


def token_id_of(token: str) -> str | None:
    """The public part of a token; None if the text has not the form of one."""
    match = TOKEN.fullmatch(token)
    return match[1] if match else None


def digest_of(token: str) -> bytes:
    """What is stored of a token: 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def is_token(presented: str, digest: bytes) -> bool:
    """Whether a text is the token of this digest, in a time that does not tell how nearly."""
    return hmac.compare_digest(digest_of(presented), digest)


def unknown_scopes(scopes: Iterable[str]) -> list[str]:
    """Those that have not the form of a scope."""
    return [scope for scope in scopes if not SCOPE.fullmatch(scope)]
