"""The error tree. A driver's exception never leaves `adapters/`; it becomes one of these.

HlError
  ConfigError          stop at start-up, exit code 2, never retried
  TransientError       an outage: back off with jitter and wait; never a dead letter
    DatabaseAwayError  PostgreSQL cannot be reached, or cannot write now
    BackpressureError  the other side asks us to slow down
    TookTooLongError   more was asked for than can be read in time
    DeployedOtherwiseError  the models in the database are not those of this process
  PoisonRecordError    a record's own fault: dead letter, then advance
  FencedError          a newer instance holds the lease: stop quietly
  InvariantError       a promise of ours is broken: stop loudly
"""


class HlError(Exception):
    """Base of every error that hl raises on purpose."""


class ConfigError(HlError):
    """A setting or declaration is wrong. The message names the key, its value and what is allowed."""


class TransientError(HlError):
    """An outage of an outside system. Wait and try again; the data is not at fault."""


class DatabaseAwayError(TransientError):
    """PostgreSQL cannot be reached, or cannot do now what it is asked. Its data is not at fault, nor ours."""


class BackpressureError(TransientError):
    """The other side cannot take more now.

    Args:
        message: what is full.
        retry_after_s: seconds to wait before the next try.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TookTooLongError(TransientError):
    """What was asked for could not be read in the time that there was; less of it can be."""


class DeployedOtherwiseError(TransientError):
    """The models in the database are not those that this process has loaded. Nothing is lost; it must start anew."""


class PoisonRecordError(HlError):
    """A record can never be processed as it is; it belongs in the dead letters.

    Args:
        reason: constant snake_case code that groups alike failures.
        detail: what exactly is wrong, for a person.
        sqlstate: the database's code, where it was the database that rejected it.
        column: the database's column or constraint, as far as it says.
    """

    def __init__(
        self, reason: str, detail: str, *, sqlstate: str | None = None, column: str | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.sqlstate = sqlstate
        self.column = column


class FencedError(HlError):
    """A newer instance has taken over. Stop without writing anything more."""


class InvariantError(HlError):
    """Something that can never happen has happened. Stop loudly and lose nothing."""
