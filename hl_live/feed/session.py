"""One client's side of the protocol, whatever carries it."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
import structlog

from hl_live.feed.fanout import Fanout
from hl_live.feed.frames import Batch, Fields
from hl_live.feed.messages import (
    ErrorMessage,
    Ping,
    PongMessage,
    Subscribe,
    SubscribedMessage,
    Unsubscribe,
    UnsubscribedMessage,
    decode_request,
    encode_message,
)
from hl_live.feed.past import Past
from hl_live.feed.resume import Resume
from hl_live.feed.subscription import Choice, Outgoing, Subscription
from hl_live.feed.wire import Write
from hl_platform.core.access import EVERYTHING, Grant, stream_scope
from hl_platform.core.readings import DEVICE_ID
from hl_platform.core.streams import Stream

log = structlog.get_logger()

# What a transport takes at once; what it holds is no longer in a queue, so this adds to the queues' bounds.
TAKE_AT_ONCE = 100
# Answers that wait for a client. One that goes on asking without reading them is not listened to meanwhile.
MAX_ANSWERS = 100


class Limits(NamedTuple):
    """What one client may hold.

    Args:
        max_messages: live readings that may wait for a subscription before it is conflated.
        max_resume: records of a Kafka partition that are read again for it.
    """

    max_messages: int = 1_000
    max_resume: int = 100_000


class BadRequestError(Exception):
    """A request cannot be met; the client is told and may ask again."""

    def __init__(self, message: ErrorMessage) -> None:
        super().__init__(message.detail)
        self.message = message


class SessionFailedError(Exception):
    """A fault of ours has ended a subscription; the client is to connect again, and goes on where it was."""


class Session:
    """The subscriptions of one client.

    Args:
        streams: what there is to subscribe.
        fanout, past: where readings come from.
        limits: of this client.
        clock: steady seconds.
        grant: what the client may read.

    Guarantee: an answer comes before all that follows from it: `subscribed` before the stream's first message,
    `unsubscribed` after its last one. A client that does not read costs a bounded amount of memory.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        fanout: Fanout,
        past: Past,
        limits: Limits,
        clock: Callable[[], float],
        *,
        grant: Grant = EVERYTHING,
    ) -> None:
        self._streams = streams
        self._fanout = fanout
        self._past = past
        self._limits = limits
        self._clock = clock
        self._grant = grant
        # Messages that its client has been sent, and bytes that were pushed to it.
        self.n_sent = self.n_bytes_pushed = 0
        self._write: Write | None = None
        self._is_sending = self._has_failed = False
        self._n_missed_before = 0
        self._answers: deque[Outgoing] = deque()
        self._subscriptions: dict[str, Subscription] = {}
        self._resumes: dict[str, tuple[Resume, asyncio.Task[None]]] = {}
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def n_waiting(self) -> int:
        """How many messages wait."""
        return len(self._answers) + sum(one.n_waiting for one in self._subscriptions.values())

    @property
    def n_missed(self) -> int:
        """How many readings this client was too slow for, in the subscriptions that it has now."""
        return sum(one.n_missed for one in self._subscriptions.values())

    @property
    def n_missed_ever(self) -> int:
        """How many readings this client was too slow for, in all subscriptions that it had."""
        return self._n_missed_before + self.n_missed

    def push_to(self, write: Write | None) -> None:
        """Has live readings written at once where nothing waits, instead of waking who takes them.

        Args:
            write: to the client's socket; None where it has none that takes frames.
        """
        self._write = write

    async def room(self) -> None:
        """Waits until the client has read enough to be listened to again."""
        await self._room.wait()

    def receive(self, text: str | bytes) -> None:
        """Does what a client's message asks for, or answers what is wrong with it."""
        try:
            request = decode_request(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            self._answer(ErrorMessage("bad_message", str(exc)))
            return
        except RecursionError:
            self._answer(ErrorMessage("bad_message", "It is nested too deeply."))
            return
        try:
            match request:
                case Subscribe():
                    self.subscribe(request)
                case Unsubscribe():
                    self._unsubscribe(request)
                case Ping():
                    self._answer(PongMessage())
        except BadRequestError as exc:
            self._answer(exc.message)

    def subscribe(self, request: Subscribe) -> None:
        """Begins subscriptions: all of the request's, or none.

        Raises:
            BadRequestError: a stream, field or device cannot be, or may not be read.
        """
        for choice in plan_choices(plan_granted(request, self._grant), self._streams):
            self._end(choice.stream.name)
            positions = (request.positions or {}).get(choice.stream.name)
            self._begin(choice, positions, request)

    def take(self) -> list[Outgoing]:
        """What can be sent now, answers first; whoever takes it settles it."""
        taken = list(self._answers)
        self._answers.clear()
        self._room.set()
        now = self._clock()
        for name, subscription in self._subscriptions.items():
            taken += subscription.take(TAKE_AT_ONCE, now)
            if name in self._resumes and not subscription.n_past:
                self._resumes[name][0].read_on()
        self._is_sending = bool(taken)
        return taken

    async def next(self, patience_s: float | None = None) -> list[Outgoing]:
        """Waits for something to send; nothing when that took longer than `patience_s`.

        Raises:
            SessionFailedError: a subscription cannot go on. The connection must end, or its client would wait for ever.
        """
        give_up_at = None if patience_s is None else self._clock() + patience_s
        while True:
            self._ready.clear()
            if self._has_failed:
                raise SessionFailedError
            if taken := self.take():
                return taken
            times = [at for one in self._subscriptions.values() if (at := one.due_at()) is not None]
            until = min([*times, *([] if give_up_at is None else [give_up_at])], default=None)
            try:
                async with asyncio.timeout(None if until is None else max(0.0, until - self._clock())):
                    await self._ready.wait()
            except TimeoutError:
                if give_up_at is not None and self._clock() >= give_up_at:
                    return self.take()

    def settle(self, sent: list[Outgoing], unsent: list[Outgoing]) -> None:
        """Notes what became of what was taken."""
        self._is_sending = False
        self.n_sent += len(sent)
        self._fanout.settle([one.frame for one in sent if one.frame is not None], sent=True)
        self._fanout.settle([one.frame for one in unsent if one.frame is not None], sent=False)

    def close(self) -> None:
        """Leaves nothing behind. Harmless when it is closed already."""
        for name in list(self._subscriptions):
            self._end(name)
        self._answers.clear()
        self._write = None

    def _push(self, batch: Batch, fields: Fields) -> bool:
        # An answer comes before what follows from it, and what is on its way before what is newer.
        if self._write is None or self._is_sending or self._answers:
            return False
        wire = batch.wire(fields)
        if not self._write(wire):
            return False
        self.n_sent += len(batch.frames)
        self.n_bytes_pushed += len(wire)
        return True

    def _begin(self, choice: Choice, positions: Mapping[int, int] | None, request: Subscribe) -> None:
        name = choice.stream.name
        subscription = Subscription(
            choice,
            self._limits.max_messages,
            self._ready.set,
            self._fanout.drop,
            self._push,
            # Who resumes gets each reading as itself.
            snapshots=request.snapshot and not positions,
        )
        self._subscriptions[name] = subscription
        told = positions or self._fanout.positions(name)
        self._answer(
            SubscribedMessage(
                stream=name,
                device_id=None if choice.device_ids is None else sorted(choice.device_ids),
                fields=None
                if choice.fields is None
                else [choice.stream.fields[i].name for i in choice.fields],
                mode=choice.mode,
                max_hz=choice.max_hz,
                resumed=bool(positions),
                complete=name in self._fanout.complete,
                positions=told,
            ),
            name,
            tuple(told.items()),
        )
        if positions:
            resume = Resume(subscription, positions, self._fanout, self._past, self._limits.max_resume)
            task = asyncio.ensure_future(resume.run())
            self._resumes[name] = resume, task
            task.add_done_callback(lambda done: self._resumed(name, done))
            return
        if subscription.snapshots:
            subscription.show(self._fanout.latest[name].list(choice.device_ids))
        self._fanout.join(subscription)

    def _resumed(self, name: str, task: "asyncio.Task[None]") -> None:
        if name not in self._resumes or self._resumes[name][1] is not task:
            return
        del self._resumes[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("feed_resume_failed", stream=name, exc_info=error)
            self._has_failed = True
            self._ready.set()

    def _end(self, name: str) -> None:
        if name in self._resumes:
            self._resumes.pop(name)[1].cancel()
        subscription = self._subscriptions.pop(name, None)
        if subscription is not None:
            self._fanout.n_missed += subscription.n_missed
            self._n_missed_before += subscription.n_missed
            self._fanout.leave(subscription)

    def _unsubscribe(self, request: Unsubscribe) -> None:
        for name in request.streams:
            if name not in self._subscriptions:
                raise BadRequestError(
                    ErrorMessage("not_subscribed", f"{name!r:.100} is not subscribed.", name)
                )
        for name in dict.fromkeys(request.streams):
            self._end(name)
            self._answer(UnsubscribedMessage(name))

    def _answer(
        self, message: msgspec.Struct, stream: str = "", reached: tuple[tuple[int, int], ...] = ()
    ) -> None:
        self._answers.append(Outgoing(encode_message(message), stream, reached))
        if len(self._answers) >= MAX_ANSWERS:
            self._room.clear()
        self._ready.set()


def plan_granted(request: Subscribe, grant: Grant) -> Subscribe:
    """What a request asks for, for the devices only that the client may see.

    Raises:
        BadRequestError: it names a stream or a device that the client may not read.
    """
    asked = frozenset(request.device_id) if request.device_id is not None else None
    for name in request.streams:
        seen = grant.devices(name)
        if not grant.may_read(name):
            detail = f"This needs the scope {stream_scope(name):.100}, which the token does not have."
            raise BadRequestError(ErrorMessage("forbidden", detail, name))
        if seen is not None and asked is not None and not asked <= seen:
            detail = f"The scope {stream_scope(name):.100} of this token covers other devices only."
            raise BadRequestError(ErrorMessage("forbidden", detail, name))
    if grant.device_ids is None or asked is not None:
        return request
    return msgspec.structs.replace(request, device_id=sorted(grant.device_ids))


def plan_choices(request: Subscribe, streams: Mapping[str, Stream]) -> list[Choice]:
    """What a request asks for of each stream.

    Raises:
        BadRequestError: a stream is not declared, a field is declared by none of them, or a device cannot be.
    """
    for name in request.streams:
        if name not in streams:
            detail = f"There is no stream {name!r:.100}. Streams: {', '.join(streams)}."
            raise BadRequestError(ErrorMessage("unknown_stream", detail, name))
    asked = [streams[name] for name in dict.fromkeys(request.streams)]
    only = request.streams[0] if len(asked) == 1 else None
    for device_id in request.device_id or ():
        if not DEVICE_ID.fullmatch(device_id):
            detail = f"{device_id!r:.150} cannot be a device id."
            raise BadRequestError(ErrorMessage("bad_parameter", detail, only))
    declared = {field.name for stream in asked for field in stream.fields}
    for name in request.fields or ():
        if name not in declared:
            detail = (
                f"None of these streams has a field {name!r:.100}. Fields: {', '.join(sorted(declared))}."
            )
            raise BadRequestError(ErrorMessage("bad_parameter", detail, only))
    return [_choice_of(request, stream) for stream in asked]


def _choice_of(request: Subscribe, stream: Stream) -> Choice:
    fields = request.fields
    indices = (
        None if fields is None else tuple(i for i, one in enumerate(stream.fields) if one.name in fields)
    )
    device_ids = None if request.device_id is None else frozenset(request.device_id)
    return Choice(stream, device_ids, indices, request.mode, request.max_hz)
