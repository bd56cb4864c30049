"""Bind/Execute pairs of one write statement, gathered into one bulk.

executemany of asyncpg, psycopg and pgjdbc sends thousands of ``Bind [Describe] Execute`` of one INSERT, UPDATE or DELETE
before its Sync. They are gathered here as bytes, decoded column-wise and run by ``execute_bulk``; the replies are those
of single executions. Unlike in PostgreSQL the items behind a failed one have been run (there are no transactions); the
first error is reported in its place and the rest is skipped until Sync. A key that finds nothing is an error in a bulk
request of HTTP, as in CrateDB; here it is what it is for a single statement: no row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import trio

from cratepy import limits
from cratepy.errors import CrateError, DocumentMissing
from cratepy.execution.results import BulkItem, runs_of
from cratepy.model.parameter_columns import ParameterColumn, ParameterColumns, joined_columns
from cratepy.model.plan import CompiledStatement
from cratepy.protocols.postgres import encoder
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.protocols.postgres.messages import Bind
from cratepy.protocols.postgres.repeats import RepeatedColumn, Repeats
from cratepy.server.portals import PreparedStatement, decoded
from cratepy.server.session import BULK_PLANS, Session, command_tag
from cratepy.server.sockets import ClientSocket


def is_batchable(compiled: CompiledStatement | None) -> bool:
    """A write that returns no rows."""
    return compiled is not None and compiled.columns is None and isinstance(compiled.plan, BULK_PLANS)


class ExecuteBatch:
    """Executions of one statement through one portal, all in the same formats."""

    def __init__(self, statement: PreparedStatement, compiled: CompiledStatement, bind: Bind) -> None:
        self.statement = statement
        self.compiled = compiled
        self.bind = bind
        #: Items that came as messages, and runs of items taken from the buffer, in their order.
        self._parts: list[list[list[bytes | None]] | Repeats] = [[bind.parameters]]
        #: The columns of the first so many parts, which were read while others were on their way.
        self._pieces: list[list[ParameterColumn]] = []
        self._is_readable = True
        self.count = 1
        self._bytes = len(bind.head)
        #: The last Bind has no Execute yet.
        self.is_open = True
        #: Whether the client asked to describe the portal of the first item; all items of a batch are alike in it.
        self.is_described = False
        self.is_item_described = False

    def accepts(self, bind: Bind) -> bool:
        """Whether this Bind is one more of the same."""
        return not self.is_open and bind.head == self.bind.head and bind.tail == self.bind.tail

    def add(self, bind: Bind) -> None:
        last = self._parts[-1]
        if isinstance(last, Repeats) or len(self._pieces) == len(self._parts):
            self._parts.append([bind.parameters])
        else:
            last.append(bind.parameters)
        self.count += 1
        self.is_open = True
        self.is_item_described = False

    def describe(self) -> None:
        """The portal of the open item is to be described."""
        self.is_item_described = True
        if self.count == 1:
            self.is_described = True

    @property
    def is_item_alike(self) -> bool:
        """The open item was described if the first one was."""
        return self.is_item_described == self.is_described

    @property
    def is_full(self) -> bool:
        return self.count >= limits.PG_BATCH_EXECUTES_MAX or self._bytes >= limits.PG_BATCH_BYTES_MAX

    def execute(self, decoder: FrontendDecoder) -> None:
        """The open item was executed; take the ones like it that stand next in the buffer."""
        self.is_open = False
        portal = self.bind.portal.encode() + b"\0"
        after = b"E" + struct.pack(">i", len(portal) + 8) + portal + b"\0\0\0\0"
        if self.is_described:
            after = b"D" + struct.pack(">i", len(portal) + 5) + b"P" + portal + after
        before = decoder.buffered_bytes
        taken = decoder.take_repeats(
            head=self.bind.head,
            tail=self.bind.tail,
            after=after,
            parameter_count=len(self.bind.parameters),
            rows_max=limits.PG_BATCH_EXECUTES_MAX - self.count,
        )
        if taken is not None:
            self._parts.append(taken)
            self.count += taken.count
            self._read_while_more_come(taken)
        self._bytes += before - decoder.buffered_bytes

    def close_item(self) -> Bind | None:
        """Take back an item that was bound and not executed: something else follows."""
        if not self.is_open:
            return None
        self.is_open = False
        last = self._parts[-1]
        assert not isinstance(last, Repeats), "an open item came as a message"
        self.count -= 1
        return Bind(
            self.bind.portal,
            self.bind.statement,
            self.bind.parameter_formats,
            last.pop(),
            self.bind.result_formats,
            self.bind.head,
            self.bind.tail,
        )

    async def run(self, session: Session, client: ClientSocket) -> None:
        """Run all items and write their replies; raises the error of the first that failed, after the replies before it."""
        assert not self.is_open
        if not self.count:
            return
        failure: CrateError | None = None
        values: Sequence[Sequence[Any]]
        try:
            if self._unread_values <= limits.BULK_INLINE_VALUES:
                values = self._decode()
            else:
                values = await trio.to_thread.run_sync(self._decode)
        except CrateError:
            values, failure = self._decode_until_error()
        if len(values) == 1:
            try:
                result = await session.execute(self.compiled, values[0])
            except CrateError:
                client.write(self._before)
                raise
            session.finish()
            items = [BulkItem(result.rowcount)]
        elif values:
            items = await session.execute_bulk(self.compiled, values)
            assert len(items) == len(values), "a bulk write answered another number of items"
        else:
            items = []
        self._reply(items, session, client)
        if failure is not None:
            raise failure

    def _decode(self) -> Sequence[Sequence[Any]]:
        if not self.bind.parameters:
            return ParameterColumns((), self.count)
        if self.count == 1:
            decoders = self.statement.decoders(self.bind.parameter_formats)
            (row,) = self._rows()
            return [decoded(decoders, row)]
        pieces = [*self._pieces, *self._columns_of(self._parts[len(self._pieces) :])]
        pieces = [piece for piece in pieces if piece]
        return ParameterColumns([joined_columns(parts) for parts in zip(*pieces, strict=True)], self.count)

    def _read_while_more_come(self, taken: Repeats) -> None:
        """Decode what is there, the client being busy with the next items, if that is quick; else a worker does it all later.

        Errors are found again, and told, when the batch is run.
        """
        count = taken.count * len(self.bind.parameters)
        if count > limits.BULK_INLINE_VALUES and (
            count > limits.PG_EAGER_VALUES
            or not self.statement.are_read_at_once(self.bind.parameter_formats, taken.columns)
        ):
            self._is_readable = False
        if self._is_readable:
            try:
                self._pieces += self._columns_of(self._parts[len(self._pieces) :])
            except CrateError:
                self._is_readable = False

    def _columns_of(self, parts: Sequence[list[list[bytes | None]] | Repeats]) -> list[list[ParameterColumn]]:
        """The columns of each of these parts; none of a part without items."""
        decoders = self.statement.column_decoders(self.bind.parameter_formats)
        pieces: list[list[ParameterColumn]] = []
        for part in parts:
            columns: Sequence[Sequence[bytes | None] | RepeatedColumn]
            columns = part.columns if isinstance(part, Repeats) else tuple(zip(*part, strict=True))
            read = [decode(column) for decode, column in zip(decoders, columns, strict=True)] if columns else []
            pieces.append(read)
        return pieces

    @property
    def _unread_values(self) -> int:
        """Values of the parts that are still to be decoded."""
        unread = self._parts[len(self._pieces) :]
        return sum(part.count if isinstance(part, Repeats) else len(part) for part in unread) * len(
            self.bind.parameters
        )

    def _rows(self) -> Iterator[list[bytes | None]]:
        for part in self._parts:
            yield from part.rows() if isinstance(part, Repeats) else part

    def _decode_until_error(self) -> tuple[list[Any], CrateError]:
        decoders = self.statement.decoders(self.bind.parameter_formats)
        values: list[Any] = []
        for row in self._rows():
            try:
                values.append(decoded(decoders, row))
            except CrateError as error:
                return values, error
        raise AssertionError("decoding failed as a whole and worked row by row")

    @property
    def _before(self) -> bytes:
        """What comes before an item's outcome."""
        return encoder.BIND_COMPLETE + (encoder.NO_DATA if self.is_described else b"")

    def _reply(self, items: list[BulkItem], session: Session, client: ClientSocket) -> None:
        before = self._before
        replies: dict[int, bytes] = {}
        for item, count in runs_of(items):
            if item.error is not None and not isinstance(item.error, DocumentMissing):
                client.write(before)
                raise item.error
            reply = replies.get(item.rowcount)
            if reply is None:
                tag = command_tag(self.compiled, item.rowcount, session.transaction_status)
                reply = replies[item.rowcount] = before + encoder.command_complete(tag)
            client.write(reply * count)
