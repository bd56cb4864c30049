"""The two ends of a connection between nodes: requests and streams go from who opened it to who accepted it.

:class:`Outgoing` numbers requests and streams, waits for answers and credits, and fails everything in flight the moment
the connection breaks. :class:`Incoming` runs handlers, answers, and receives streams. Neither knows who the peers are or
when to connect; that is :mod:`cratepy.cluster.transport`.

A handler may be a plain function: then its answer is sent before the next frame is read, without a task. A coroutine
function gets a task, bounded by ``limits.TRANSPORT_HANDLERS_MAX`` per connection; it is cancelled when the deadline of
the request passes, when the requester waits no longer, or when the connection breaks.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import outcome
import pyarrow as pa
import trio

from cratepy import limits
from cratepy.cluster.streams import StreamReceiver, StreamRegistry, StreamSender
from cratepy.cluster.wire import Wire, WireBroken
from cratepy.errors import (
    Condition,
    CrateError,
    InternalError,
    NodeUnavailable,
    PeerUnavailable,
    RequestTimeout,
    StaleRouting,
    error_from_wire,
    error_to_wire,
)
from cratepy.protocols.node.frames import Frame, FrameError, Kind
from cratepy.protocols.node.messages import (
    StreamEnd,
    StreamOpen,
    WireError,
    decode_body,
    decode_request,
    encode_request,
)
from cratepy.records import dataclass

logger = logging.getLogger(__name__)

#: Conditions that a handler may raise for its caller to act on.
_TRAVELLING_CONDITIONS: Final[dict[str, type[Condition]]] = {
    "StaleRouting": StaleRouting,
    "RequestTimeout": RequestTimeout,
}
_encode = msgspec.msgpack.Encoder().encode
Handler = Callable[[str, Any], Awaitable[Any] | Any]


@dataclass(frozen=True, slots=True)
class Action:
    """A registered action: how its request is decoded and who answers it."""

    name: str
    decoder: msgspec.msgpack.Decoder[Any]
    handler: Handler


def error_body(error: CrateError | Condition) -> bytes:
    """An error for the wire; a peer this node could not reach is told as what it is to the requester."""
    if isinstance(error, CrateError):
        return _encode(WireError(*error_to_wire(error)))
    if isinstance(error, PeerUnavailable):
        return _encode(WireError(NodeUnavailable.__name__, str(error)))
    return _encode(WireError(type(error).__name__, str(error)))


def error_of(body: bytes) -> CrateError | Condition:
    """The error another node answered with."""
    wire_error = decode_body(body, WireError)
    condition = _TRAVELLING_CONDITIONS.get(wire_error.name)
    return condition(wire_error.message) if condition else error_from_wire(wire_error.name, wire_error.message)


def report_bug(action: str, error: Exception) -> InternalError:
    """Log what no handler should raise, and what to answer instead."""
    logger.error("handler of %s failed", action, exc_info=error)
    return InternalError(f"internal error in {action}; see the log of the node")


class Outgoing:
    """My end of a connection I opened."""

    def __init__(self, wire: Wire, *, peer_id: str, ephemeral_id: str) -> None:
        self.peer_id = peer_id
        self.ephemeral_id = ephemeral_id
        self.wire = wire
        self._next_number = 0
        self._waiting: dict[int, trio.lowlevel.Task] = {}
        self._streams: dict[int, StreamSender] = {}

    async def request(self, action: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Send and wait for the answer.

        Raises PeerUnavailable, RequestTimeout, or the error the handler raised. Cancelling it cancels the handler.
        """
        if len(self._waiting) >= limits.TRANSPORT_IN_FLIGHT_MAX:
            raise PeerUnavailable(self.peer_id, sent=False)
        if self.wire.is_congested:
            with trio.move_on_after(timeout_s):
                await self._drained()
        self._next_number += 1
        number = self._next_number
        try:
            self.wire.send(Kind.REQUEST, number, encode_request(action, round(timeout_s * 1000), payload))
        except WireBroken as error:
            raise PeerUnavailable(self.peer_id, sent=True) from error
        with trio.move_on_after(timeout_s):
            return await self._answer(number)
        raise RequestTimeout(f"{action} was not answered by node {self.peer_id} within {timeout_s:g} s")

    async def _answer(self, number: int) -> bytes:
        def abort(_: Callable[[], None]) -> trio.lowlevel.Abort:
            del self._waiting[number]
            self._send_quietly(Kind.CANCEL, number)
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting[number] = trio.lowlevel.current_task()
        answer: bytes = await trio.lowlevel.wait_task_rescheduled(abort)
        return answer

    async def _drained(self) -> None:
        try:
            await self.wire.drained()
        except WireBroken as error:
            raise PeerUnavailable(self.peer_id, sent=False) from error

    def notify(self, action: str, payload: bytes) -> bool:
        """Send a request that is not answered; whether it went out."""
        return self._send_quietly(Kind.NOTICE, 0, encode_request(action, 0, payload))

    def open_stream(self, key: str) -> StreamSender:
        """A stream to the peer; it accepts or refuses later."""
        self._next_number += 1
        number = self._next_number
        schema: pa.Schema | None = None

        def push(batch: pa.RecordBatch) -> None:
            nonlocal schema
            if schema is None or (batch.schema is not schema and batch.schema != schema):
                self._send_quietly(Kind.STREAM_SCHEMA, number, batch.schema.serialize())
            schema = batch.schema
            self._send_quietly(Kind.STREAM_DATA, number, batch.serialize())

        def end(error: tuple[str, str] | None) -> None:
            self._streams.pop(number, None)
            self._send_quietly(Kind.STREAM_END, number, _encode(StreamEnd(WireError(*error) if error else None)))

        sender = StreamSender(push=push, end=end)
        if len(self._streams) >= limits.TRANSPORT_STREAMS_MAX or not self._send_quietly(
            Kind.STREAM_OPEN, number, _encode(StreamOpen(key))
        ):
            raise PeerUnavailable(self.peer_id, sent=False)
        self._streams[number] = sender
        return sender

    def _send_quietly(self, kind: Kind, number: int, body: bytes | pa.Buffer = b"") -> bool:
        """Send; a broken connection is noticed by its reader, which fails everything that waits."""
        try:
            self.wire.send(kind, number, body)
        except WireBroken:
            return False
        return True

    async def run(self) -> None:
        """Read answers until the connection breaks; then fail all that is in flight and return."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.wire.run_writer)
                await self.wire.run_reader(self._on_frame)
                nursery.cancel_scope.cancel()
        finally:
            self.wire.close("the node stops")
            for task in self._waiting.values():
                trio.lowlevel.reschedule(task, outcome.Error(PeerUnavailable(self.peer_id, sent=True)))
            self._waiting.clear()
            for sender in list(self._streams.values()):
                sender.on_lost(self.peer_id)
            self._streams.clear()

    def _on_frame(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.REPLY | Kind.ERROR:
                task = self._waiting.pop(frame.number, None)
                if task is not None:  # None: the requester has stopped waiting
                    answer = (
                        outcome.Value(frame.body) if frame.kind is Kind.REPLY else outcome.Error(error_of(frame.body))
                    )
                    trio.lowlevel.reschedule(task, answer)
            case Kind.STREAM_CREDIT:
                if (sender := self._streams.get(frame.number)) is not None:
                    sender.on_credit(1)
            case Kind.STREAM_CLOSE:
                if (sender := self._streams.pop(frame.number, None)) is not None:
                    sender.on_close()
            case Kind.PING:
                self._send_quietly(Kind.PONG, frame.number)
            case Kind.PONG:
                pass
            case _:
                raise FrameError(f"a frame of kind {frame.kind.name} from who accepted the connection")


class Incoming:
    """My end of a connection a peer opened."""

    def __init__(
        self, wire: Wire, *, peer_id: str, actions: dict[str, Action], streams: StreamRegistry, now: Callable[[], float]
    ) -> None:
        self.peer_id = peer_id
        self.wire = wire
        self._actions = actions
        self._registry = streams
        self._now = now
        self._running: dict[int, trio.CancelScope] = {}
        # Notices have no number of their own; negative ones name their running handlers.
        self._last_notice = 0
        self._handlers_free = trio.Event()
        self._streams: dict[int, StreamReceiver] = {}
        self._schemas: dict[int, pa.Schema] = {}

    async def run(self) -> None:
        """Serve the peer until the connection breaks."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.wire.run_writer)
                await self._serve(nursery)
                nursery.cancel_scope.cancel()
        finally:
            self.wire.close("the node stops")
            for receiver in self._streams.values():
                receiver.on_lost(self.peer_id)
            self._streams.clear()

    async def _serve(self, nursery: trio.Nursery) -> None:
        try:
            while True:
                for frame in await self.wire.read():
                    if frame.kind is Kind.REQUEST or frame.kind is Kind.NOTICE:
                        self._on_request(frame, nursery)
                        if len(self._running) >= limits.TRANSPORT_HANDLERS_MAX:
                            self._handlers_free = trio.Event()
                            await self._handlers_free.wait()
                    else:
                        self._on_frame(frame)
                if self.wire.is_congested:
                    await self.wire.drained()
        except FrameError as error:
            logger.warning("connection from node %s ends: %s", self.peer_id, error)
            self.wire.close(str(error))
        except WireBroken:
            return

    def _on_request(self, frame: Frame, nursery: trio.Nursery) -> None:
        name, timeout_ms, payload = decode_request(frame.body)
        is_notice = frame.kind is Kind.NOTICE
        number = frame.number
        if is_notice:
            self._last_notice -= 1
            number = self._last_notice
        action = self._actions.get(name)
        if action is None:
            self._reply_error(number, InternalError(f"node has no action {name}"))
            return
        try:
            request = action.decoder.decode(payload)
        except msgspec.MsgspecError as error:
            raise FrameError(f"request {name} cannot be read: {error}") from error
        try:
            answer = action.handler(self.peer_id, request)
        except Exception as error:  # the edge of a handler: its error is the answer
            self._reply_error(number, error, name)
            return
        if inspect.iscoroutine(answer):
            scope = trio.CancelScope()
            self._running[number] = scope
            nursery.start_soon(self._run_handler, number, name, answer, scope, timeout_ms / 1000)
        else:
            self._reply(number, answer)

    async def _run_handler(
        self, number: int, name: str, handler: Awaitable[Any], scope: trio.CancelScope, timeout_s: float
    ) -> None:
        try:
            with scope:
                scope.deadline = trio.current_time() + (timeout_s or limits.REQUEST_TIMEOUT_S)
                self._reply(number, await handler)
        except (CrateError, Condition) as error:
            self._reply_error(number, error, name)
        except Exception as error:  # the edge of a handler: a bug fails this request, not the connection
            self._reply_error(number, error, name)
        finally:
            del self._running[number]
            self._handlers_free.set()

    def _reply(self, number: int, answer: Any) -> None:
        if number > 0:
            self._send_quietly(Kind.REPLY, number, b"" if answer is None else _encode(answer))

    def _reply_error(self, number: int, error: BaseException, action: str = "") -> None:
        if isinstance(error, ExceptionGroup):
            error = first_cause(error)
        if not isinstance(error, (CrateError, Condition)):
            assert isinstance(error, Exception)
            error = report_bug(action, error)
        if number > 0:
            self._send_quietly(Kind.ERROR, number, error_body(error))

    def _send_quietly(self, kind: Kind, number: int, body: bytes | pa.Buffer = b"") -> None:
        """Send; if the connection is gone, its reader knows and nobody waits for this."""
        try:
            self.wire.send(kind, number, body)
        except WireBroken:
            return

    def _on_frame(self, frame: Frame) -> None:
        number = frame.number
        match frame.kind:
            case Kind.CANCEL:
                if (scope := self._running.get(number)) is not None:
                    scope.cancel()
            case Kind.STREAM_OPEN:
                self._open_stream(number, decode_body(frame.body, StreamOpen).key)
            case Kind.STREAM_SCHEMA:
                if number in self._streams:
                    self._schemas[number] = _read_schema(frame.body)
            case Kind.STREAM_DATA:
                if (receiver := self._streams.get(number)) is not None:
                    schema = self._schemas.get(number)
                    if schema is None:
                        raise FrameError("a batch without a schema before it")
                    receiver.on_batch((schema, pa.py_buffer(frame.body)))
            case Kind.STREAM_END:
                end = decode_body(frame.body, StreamEnd)
                self._schemas.pop(number, None)
                if (receiver := self._streams.pop(number, None)) is not None:
                    receiver.on_end((end.error.name, end.error.message) if end.error else None)
            case Kind.PING:
                self._send_quietly(Kind.PONG, number)
            case Kind.PONG:
                pass
            case _:
                raise FrameError(f"a frame of kind {frame.kind.name} from who opened the connection")

    def _open_stream(self, number: int, key: str) -> None:
        receiver = None
        if len(self._streams) < limits.TRANSPORT_STREAMS_MAX:
            receiver = self._registry.open(key, now=self._now())
        if receiver is None:
            self._send_quietly(Kind.STREAM_CLOSE, number)
            return

        def give_credit(_: int) -> None:
            self._send_quietly(Kind.STREAM_CREDIT, number)

        def refuse() -> None:
            self._schemas.pop(number, None)
            if self._streams.pop(number, None) is not None:
                self._send_quietly(Kind.STREAM_CLOSE, number)

        self._streams[number] = receiver
        receiver.attach(give_credit=give_credit, refuse=refuse)


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf of a group that is told to clients, else the first leaf."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending[:0] = error.exceptions
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, (CrateError, Condition))), leaves[0])


def _read_schema(body: bytes) -> pa.Schema:
    try:
        return pa.ipc.read_schema(pa.py_buffer(body))
    except pa.ArrowInvalid as error:
        raise FrameError(f"a stream's schema cannot be read: {error}") from error
