"""Streams of Arrow batches between two nodes, or within one: credit-bounded, closed by either side.

Enter batches with one schema, leave the same batches in the same order. The sender may have ``limits.STREAM_CREDITS``
batches on the way; each batch the receiver takes gives one back, so a slow reader stops its sender instead of filling
memory. Own room because neither end knows whether a socket is between them: the two ends are tied together by four small
functions, which a connection or the other end provides.

On the wire a batch is its Arrow IPC message; the schema goes ahead once, and again when it changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.errors import CrateError, PeerUnavailable, error_from_wire
from cratepy.protocols.node.frames import FrameError

#: A batch, or its IPC message with the schema it was written with.
Batch: TypeAlias = "pa.RecordBatch | tuple[pa.Schema, pa.Buffer]"


class StreamSender:
    """The sending end. One task uses it; ``finish`` must be called, also after an error."""

    def __init__(
        self, *, push: Callable[[pa.RecordBatch], None], end: Callable[[tuple[str, str] | None], None]
    ) -> None:
        self._push = push
        self._end = end
        self._credits = limits.STREAM_CREDITS
        self._has_credit = trio.Event()
        self._is_finished = False
        self._failure: Exception | None = None

    async def send(self, batch: pa.RecordBatch) -> None:
        """Send a batch when the receiver has room for it.

        Raises trio.BrokenResourceError if the receiver wants no more, PeerUnavailable if its node is gone.
        """
        assert not self._is_finished
        while self._credits == 0 and self._failure is None:
            await self._has_credit.wait()
        if self._failure is not None:
            raise self._failure
        self._credits -= 1
        if self._credits == 0:
            self._has_credit = trio.Event()
        self._push(batch)

    async def finish(self, error: tuple[str, str] | None = None) -> None:
        """End the stream, with (class name, message) of an error if it could not be completed. Never blocks or fails."""
        self.finish_nowait(error)

    def finish_nowait(self, error: tuple[str, str] | None = None) -> None:
        """The same for clean-up code that cannot await."""
        if not self._is_finished:
            self._is_finished = True
            if self._failure is None:
                self._end(error)

    @property
    def is_finished(self) -> bool:
        return self._is_finished

    def on_credit(self, count: int) -> None:
        """The receiver took batches."""
        self._credits += count
        self._has_credit.set()

    def on_close(self) -> None:
        """The receiver wants no more."""
        self._fail(trio.BrokenResourceError("the receiver closed the stream"))

    def on_lost(self, node_id: str) -> None:
        """The connection broke."""
        self._fail(PeerUnavailable(node_id, sent=True))

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            self._has_credit.set()


class StreamReceiver:
    """The receiving end. One task uses it; ``close`` must be called when it is done with, also after the end."""

    def __init__(self, key: str, *, on_closed: Callable[[str], None]) -> None:
        self.key = key
        #: Whether somebody asked for this stream; until then it may expire.
        self.is_claimed = False
        self.opened_at = 0.0
        self._on_closed = on_closed
        self._give_credit: Callable[[int], None] | None = None
        self._refuse: Callable[[], None] | None = None
        self._batches: deque[Batch] = deque()
        self._is_ended = False
        self._is_closed = False
        self._failure: CrateError | PeerUnavailable | None = None
        self._changed = trio.Event()

    async def receive(self) -> pa.RecordBatch | None:
        """The next batch; None after the last.

        Raises the sender's CrateError, or PeerUnavailable if its node is gone before the end was sent.
        """
        while not self._batches and not self._is_ended and self._failure is None:
            self._changed = trio.Event()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        if not self._batches:
            return None
        item = self._batches.popleft()
        if self._give_credit is not None and not self._is_ended:
            self._give_credit(1)
        if isinstance(item, tuple):
            schema, message = item
            return pa.ipc.read_record_batch(message, schema)
        return item

    def close(self) -> None:
        """Want no more: the sender's next send fails. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        self._batches.clear()
        self._on_closed(self.key)
        if self._refuse is not None and not self._is_ended:
            self._refuse()

    @property
    def is_open(self) -> bool:
        """Whether a sender is attached."""
        return self._give_credit is not None

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def attach(self, *, give_credit: Callable[[int], None], refuse: Callable[[], None]) -> None:
        """A sender opened the stream."""
        assert not self.is_open, f"stream {self.key} was opened twice"
        self._give_credit, self._refuse = give_credit, refuse

    def on_batch(self, batch: Batch) -> None:
        """Take a batch. Raises FrameError if the sender had no credit for it."""
        if not self._is_closed:
            if len(self._batches) >= limits.STREAM_CREDITS:
                raise FrameError(f"stream {self.key}: a batch without credit")
            self._batches.append(batch)
            self._changed.set()

    def on_end(self, error: tuple[str, str] | None) -> None:
        """The sender has finished. An error is raised at once, ahead of batches that were not taken yet."""
        self._is_ended = True
        if error is not None:
            self._failure = error_from_wire(*error)
        self._changed.set()

    def on_lost(self, node_id: str) -> None:
        """The connection broke; a stream that had ended is not harmed."""
        if not self._is_ended:
            self._is_ended = True
            self._failure = PeerUnavailable(node_id, sent=True)
            self._changed.set()


class StreamRegistry:
    """The receivers of a node by key: who asks first and who opens first may come in either order.

    Streams nobody asks for expire; keys of closed streams are remembered so that a late opener is refused at once.
    """

    def __init__(self) -> None:
        self._receivers: dict[str, StreamReceiver] = {}
        self._tombstones: dict[str, None] = {}

    def claim(self, key: str) -> StreamReceiver:
        receiver = self._receivers.get(key)
        if receiver is None:
            receiver = self._receivers[key] = StreamReceiver(key, on_closed=self._forget)
        assert not receiver.is_claimed, f"stream {key} was accepted twice"
        receiver.is_claimed = True
        return receiver

    def open(self, key: str, *, now: float) -> StreamReceiver | None:
        """The receiver for a sender that opens the key; None if it must be refused."""
        receiver = self._receivers.get(key)
        if receiver is None:
            if key in self._tombstones or len(self._receivers) >= limits.TRANSPORT_STREAMS_MAX:
                return None
            receiver = self._receivers[key] = StreamReceiver(key, on_closed=self._forget)
        elif receiver.is_open:
            return None
        receiver.opened_at = now
        return receiver

    def expire(self, *, now: float) -> None:
        """Close streams that were opened long ago and claimed by nobody."""
        for receiver in list(self._receivers.values()):
            if not receiver.is_claimed and now - receiver.opened_at > limits.STREAM_UNCLAIMED_S:
                receiver.close()

    def _forget(self, key: str) -> None:
        self._receivers.pop(key, None)
        self._tombstones[key] = None
        if len(self._tombstones) > limits.STREAM_TOMBSTONES_MAX:
            del self._tombstones[next(iter(self._tombstones))]


def local_stream(receiver: StreamReceiver) -> StreamSender:
    """A sender on the same node as its receiver: batches are handed over as they are."""
    sender = StreamSender(push=receiver.on_batch, end=receiver.on_end)
    receiver.attach(give_credit=sender.on_credit, refuse=sender.on_close)
    return sender


def refused_stream() -> StreamSender:
    """A sender whose receiver is gone already: the first send says so."""
    sender = StreamSender(push=lambda _: None, end=lambda _: None)
    sender.on_close()
    return sender
