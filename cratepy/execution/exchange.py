"""Rows from phase to phase: who sends what to whom, and what waits for a phase to start.

In: partitioned batches of a phase's fragment on one side, credit-bounded streams of the transport on the other. Out: the
same rows at the nodes of the receiving phase::

    Gather          every batch to the one receiver
    HashPartition   partition i to the i-th node of the receiving phase (nodes are sorted)
    Broadcast       every batch to each receiver

A phase that computes over its inputs starts when they are complete, so inputs are collected in a :class:`BatchBuffer`
(memory, then a file) and a sender never waits for a later stage; only the rows that the last phase passes on to the client
unchanged are read as they come, and a client that reads slowly stops their senders through the credits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar, assert_never

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.execution.batches import batch_bytes, compact, slices
from cratepy.execution.cpu import Workers
from cratepy.execution.spill import BatchBuffer
from cratepy.model.plan import Broadcast, Gather, HashPartition, Output

ErrorPair = tuple[str, str]
_T = TypeVar("_T")


class Sender(Protocol):
    """``cluster.streams.StreamSender``."""

    async def send(self, batch: pa.RecordBatch) -> None: ...

    def finish_nowait(self, error: ErrorPair | None = None) -> None: ...


class Receiver(Protocol):
    """``cluster.streams.StreamReceiver``."""

    async def receive(self) -> pa.RecordBatch | None: ...

    def close(self) -> None: ...


class Streams(Protocol):
    """The part of the transport that carries rows."""

    async def open_stream(self, node_id: str, key: str) -> Sender: ...

    def accept_stream(self, key: str) -> Receiver: ...


class NobodyListens(Exception):
    """All receivers have closed: the phase may stop, its rows are not wanted any more."""


def stream_key(run_id: str, *, phase: int, sender: str) -> str:
    """The name of the stream in which a node sends the rows of a phase (each phase has one output)."""
    return f"{run_id}/{phase}/{sender}"


class Outbox:
    """The open streams of one phase on one node. Made by :func:`outbox`."""

    def __init__(self, output: Output, senders: Sequence[Sender], are_local: Sequence[bool], workers: Workers) -> None:
        assert not isinstance(output, Gather) or len(senders) == 1, "a gather has one receiver"
        self._output = output
        self._senders: list[Sender | None] = list(senders)
        self._are_local = are_local
        self._workers = workers

    async def send(self, partition: int, batch: pa.RecordBatch) -> None:
        """Send the rows where they belong, when there is room. Raises NobodyListens, PeerUnavailable."""
        match self._output:
            case Gather():
                targets = [0]
            case HashPartition():
                targets = [partition]
            case Broadcast():
                targets = list(range(len(self._senders)))
            case _:
                assert_never(self._output)
        for piece in slices(batch):
            compacted: pa.RecordBatch | None = None
            for target in targets:
                if self._are_local[target]:
                    await self._send(target, piece)
                else:
                    compacted = await self._compacted(piece) if compacted is None else compacted
                    await self._send(target, compacted)

    async def _compacted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch_bytes(batch) <= limits.COMPACT_INLINE_BYTES_MAX:
            return compact(batch)
        return await self._workers.compute(compact, batch)

    async def _send(self, target: int, batch: pa.RecordBatch) -> None:
        sender = self._senders[target]
        if sender is None:
            return
        try:
            await sender.send(batch)
        except trio.BrokenResourceError:
            self._senders[target] = None
            if all(other is None for other in self._senders):
                raise NobodyListens from None

    def end(self, error: ErrorPair | None) -> None:
        for sender in self._senders:
            if sender is not None:
                sender.finish_nowait(error)


@asynccontextmanager
async def outbox(
    streams: Streams,
    output: Output,
    workers: Workers,
    *,
    node_id: str,
    receivers: Sequence[str],
    key: str,
    error_of: Callable[[BaseException], ErrorPair],
) -> AsyncIterator[Outbox]:
    """Streams to all receivers for as long as the block; left by an exception, they end with ``error_of`` it.

    Raises PeerUnavailable if a receiver cannot be reached. NobodyListens raised inside ends the block quietly.
    """
    senders: list[Sender] = []
    box: Outbox | None = None
    try:
        for receiver in receivers:
            senders.append(await streams.open_stream(receiver, key))  # noqa: PERF401 - each must be ended if the next fails
        box = Outbox(output, senders, [receiver == node_id for receiver in receivers], workers)
        yield box
    except NobodyListens:
        return
    except BaseException as raised:
        pair = error_of(raised)
        for sender in senders:
            sender.finish_nowait(pair)
        raise
    box.end(None)


async def collect_all(pairs: Sequence[tuple[Receiver, BatchBuffer]]) -> None:
    """Read all streams to their ends, each into its buffer. Raises what a sender failed with."""
    locks = {id(buffer): trio.Lock() for _, buffer in pairs}

    async def drain(pair: tuple[Receiver, BatchBuffer]) -> None:
        receiver, buffer = pair
        while (batch := await receiver.receive()) is not None:
            async with locks[id(buffer)]:
                await buffer.add(batch)

    await _each(pairs, drain)


async def pass_on(receivers: Sequence[Receiver], deliver: Callable[[pa.RecordBatch], Awaitable[bool]]) -> bool:
    """Give each batch to ``deliver`` as it comes, one at a time, until it returns False.

    A slow ``deliver`` holds the senders up. True if all streams were read to their ends.
    """
    lock = trio.Lock()

    async def drain(receiver: Receiver) -> None:
        while (batch := await receiver.receive()) is not None:
            async with lock:
                if not await deliver(batch):
                    raise _EnoughError

    try:
        await _each(receivers, drain)
    except _EnoughError:
        return False
    return True


class _EnoughError(Exception):
    """Control flow of :func:`pass_on`: no more rows are wanted."""


async def _each(items: Sequence[_T], drain: Callable[[_T], Awaitable[None]]) -> None:
    """Drain all at the same time; the first failure stops the others and is the one raised."""
    if len(items) == 1:
        await drain(items[0])
        return
    failures: list[Exception] = []

    async def guarded(item: _T) -> None:
        try:
            await drain(item)
        except Exception as failure:
            failures.append(failure)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(guarded, item)
    if failures:
        raise failures[0]
