"""One PostgreSQL client after its start-up: messages in, replies out.

The loop takes messages from the sans-io decoder, runs them in order, and sends what was written at Sync, at Flush, at the
end of a simple query, or when much has gathered. After an error in the extended protocol everything up to Sync is
skipped and then answered with ReadyForQuery (CrateDB can hang here). Portals live until the end of their transaction,
which outside of BEGIN … COMMIT is the next Sync.

What needs no waiting (a read by key, the beginning of an insert) is done as soon as its bytes come, without waking the
connection's task (``postgres_at_once``).
"""

from __future__ import annotations

import logging
from typing import assert_never

import trio

from cratepy import limits
from cratepy.errors import (
    CrateError,
    InternalError,
    InvalidCursorName,
    InvalidStatementName,
    ProtocolViolation,
    SQLParseError,
    TooManyRequests,
    UnsupportedFeature,
)
from cratepy.model.plan import CompiledStatement, GetPlan, ResetPlan, SetPlan
from cratepy.protocols.postgres import encoder
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.protocols.postgres.messages import (
    Bind,
    Close,
    CopyMessage,
    Describe,
    Execute,
    Flush,
    FrontendMessage,
    FunctionCall,
    Parse,
    PasswordMessage,
    Query,
    Sync,
    Terminate,
)
from cratepy.protocols.postgres.rows import RowEncoder
from cratepy.server.portals import Portal, PreparedStatement, check_result_formats, decoded
from cratepy.server.postgres_at_once import AtOnce
from cratepy.server.postgres_batches import ExecuteBatch, is_batchable
from cratepy.server.postgres_results import send_all, send_some, write_notices
from cratepy.server.session import Session, check_parameter_count, command_tag
from cratepy.server.sockets import ClientGone, ClientSocket

_log = logging.getLogger(__name__)
#: The reply to nearly every read by key.
_SELECT_1 = encoder.command_complete("SELECT 1")


class PostgresConnection:
    """See the module. The caller made the start-up, owns the socket, and closes the session with :meth:`aclose`."""

    def __init__(self, client: ClientSocket, decoder: FrontendDecoder, session: Session) -> None:
        self.session = session
        self.is_gone = False
        self._is_handling = False
        self._client = client
        self._decoder = decoder
        self._statements: dict[str, PreparedStatement] = {}
        self._portals: dict[str, Portal] = {}
        self._batch: ExecuteBatch | None = None
        self._skips_until_sync = False
        self._is_ended = False
        self._at_once = AtOnce(
            client,
            decoder,
            session,
            statements=self._statements,
            portals=self._portals,
            is_free=lambda: not (self._skips_until_sync or self._batch is not None or self.is_gone),
        )
        session.on_deallocate(self._deallocate)

    @property
    def is_running(self) -> bool:
        """A statement may be running: a hang-up of the client is worth a cancellation."""
        return self._is_handling or self._at_once.awaits_disk

    async def run(self) -> None:
        """Until the client ends the connection or breaks the protocol."""
        turns = 0
        try:
            while not self._is_ended:
                message = self._at_once.next_message()
                if message is None:
                    self._is_handling = False
                    if self._client.is_behind:
                        await self._client.flush()
                    data = await self._client.receive()
                    self._decoder.feed(data)
                    continue
                self._is_handling = True
                await self._at_once.wait_for_disk()
                if self.is_gone:
                    return
                turns += 1
                if turns % limits.CONNECTION_TURN_MAX == 0:
                    await trio.lowlevel.checkpoint()
                await self._handle(message)
        except ProtocolViolation as error:
            # The stream cannot be trusted any more: say so and hang up.
            self._client.write(encoder.error_response(error, severity="FATAL"))
            await self._client.flush()
            self._is_handling = False
            await self._client.linger()

    async def aclose(self) -> None:
        """Give up portals and everything that runs."""
        await self._close_portals()
        await self.session.aclose()

    async def _handle(self, message: FrontendMessage) -> None:
        if self._skips_until_sync and not isinstance(message, Sync | Terminate):
            return
        try:
            self._at_once.raise_failure()
            # Bind and Execute first: they are nearly all there is.
            kind = type(message)
            if kind is Bind:
                await self._bind(message)  # type: ignore[arg-type]
            elif kind is Execute:
                await self._execute(message)  # type: ignore[arg-type]
            else:
                await self._dispatch(message)
        except ClientGone:
            raise
        except CrateError as error:
            await self._fail(error, message)
        except Exception:  # the session edge: a bug ends its statement, not the server
            job = self.session.running_job_id or "none"
            _log.exception("statement failed unexpectedly, job %s", job)
            await self._fail(InternalError(f"internal error, job {job}"), message)

    async def _fail(self, error: CrateError, message: FrontendMessage) -> None:
        self._batch = None
        self.session.fail()
        self._client.write(encoder.error_response(error))
        if isinstance(message, Query | FunctionCall):
            await self._ready()
        elif isinstance(message, Sync):
            # The batch that this Sync ended failed.
            await self._sync()
        else:
            self._skips_until_sync = True
            await self._client.flush()

    async def _dispatch(self, message: FrontendMessage) -> None:
        if isinstance(message, Describe) and self._describes_batch(message):
            return
        if self._batch is not None:
            await self._run_batch()
        match message:
            case Sync():
                await self._sync()
            case Parse():
                await self._parse(message)
            case Bind():
                await self._bind(message)
            case Execute():
                await self._execute(message)
            case Describe():
                await self._describe(message)
            case Query():
                await self._query(message)
            case Close():
                await self._close(message)
            case Flush():
                await self._client.flush()
            case Terminate():
                self._is_ended = True
            case CopyMessage():
                pass
            case FunctionCall():
                raise UnsupportedFeature("Function calls by the fast-path protocol are not supported")
            case PasswordMessage():
                raise ProtocolViolation("unexpected password message")
            case _:
                assert_never(message)

    # --- simple query ------------------------------------------------------------------------------------------------

    async def _query(self, message: Query) -> None:
        session = self.session
        self._statements.pop("", None)
        pieces = await session.split(message.text)
        if not pieces:
            self._client.write(encoder.EMPTY_QUERY_RESPONSE)
        for offset, text in pieces:
            compiled = await session.compile(text, origin=(message.text, offset))
            check_parameter_count(0, len(compiled.parameter_types))
            await self._run_simple(compiled)
        await self._ready()

    async def _run_simple(self, compiled: CompiledStatement) -> None:
        session = self.session
        status = session.transaction_status
        result = await session.execute(compiled)
        try:
            count = result.rowcount
            if result.columns is not None:
                self._client.write(encoder.row_description(result.columns))
                count = await send_all(self._client, result, RowEncoder(result.columns))
        finally:
            if result.rows is None:
                await result.aclose()
        self._complete(compiled, count, status, result.notices)

    def _complete(self, compiled: CompiledStatement, count: int, status: str, notices: tuple[str, ...]) -> None:
        self.session.finish()
        if notices:
            write_notices(self._client, notices, self.session.settings)
        plan_type = type(compiled.plan)
        if plan_type is SetPlan or plan_type is ResetPlan:
            name = self.session.settings.show("application_name") or ""
            self._client.write(encoder.parameter_status("application_name", name))
        if plan_type is GetPlan and count == 1:
            self._client.write(_SELECT_1)
        else:
            self._client.write(encoder.command_complete(command_tag(compiled, count, status)))

    async def _ready(self) -> None:
        self._client.write(encoder.READY_FOR_QUERY[self.session.transaction_status])
        await self._client.flush()

    # --- extended query ----------------------------------------------------------------------------------------------

    async def _parse(self, message: Parse) -> None:
        if len(self._statements) >= limits.PG_STATEMENTS_MAX and message.name not in self._statements:
            raise TooManyRequests(f"A session has at most {limits.PG_STATEMENTS_MAX} prepared statements")
        pieces = await self.session.split(message.text)
        if len(pieces) > 1:
            raise SQLParseError("cannot insert multiple commands into a prepared statement")
        text = pieces[0][1] if pieces else ""
        statement = PreparedStatement(message.name, text, message.type_oids)
        if pieces:
            await statement.prepare(self.session)
        self._statements[message.name] = statement
        self._client.write(encoder.PARSE_COMPLETE)

    def _statement(self, name: str) -> PreparedStatement:
        found = self._statements.get(name)
        if found is None:
            raise InvalidStatementName(f"No statement found with name: {name}")
        return found

    async def _bind(self, message: Bind) -> None:
        batch = self._batch
        if batch is not None:
            if batch.accepts(message):
                batch.add(message)
                return
            await self._run_batch()
        if self._at_once.answer(message):
            if not self._at_once.awaits_disk:
                await self._client.flush()
            return
        statement = self._statement(message.statement)
        compiled: CompiledStatement | None = None
        if statement.text:
            compiled = await statement.prepare(self.session)
            statement.check_bind(message)
            if is_batchable(compiled) and not message.result_formats[1:]:
                self._batch = ExecuteBatch(statement, compiled, message)
                return
            check_result_formats(message.result_formats, self.session.columns_of(compiled))
        await self._make_portal(message, statement, compiled)

    async def _make_portal(
        self, message: Bind, statement: PreparedStatement, compiled: CompiledStatement | None
    ) -> None:
        parameters: list[object] = []
        if message.parameters and compiled is not None:
            parameters = decoded(statement.decoders(message.parameter_formats), message.parameters)
        replaced = self._portals.get(message.portal)
        if replaced is not None:
            await replaced.aclose()
        elif len(self._portals) >= limits.PG_PORTALS_MAX:
            raise TooManyRequests(f"A session has at most {limits.PG_PORTALS_MAX} portals")
        self._portals[message.portal] = Portal(statement, compiled, parameters, message.result_formats)
        self._client.write(encoder.BIND_COMPLETE)

    def _portal(self, name: str) -> Portal:
        found = self._portals.get(name)
        if found is None:
            raise InvalidCursorName(f"Cannot find portal: {name}")
        return found

    def _describes_batch(self, message: Describe) -> bool:
        """A Describe of the portal that was just bound is part of its item: the answer, NoData, comes with the others."""
        batch = self._batch
        if batch is None or message.kind != "P" or not batch.is_open or message.name != batch.bind.portal:
            return False
        batch.describe()
        return True

    async def _describe(self, message: Describe) -> None:
        if message.kind == "S":
            statement = self._statement(message.name)
            compiled = await statement.prepare(self.session) if statement.text else None
            self._client.write(encoder.parameter_description(statement.parameter_oids() if compiled else ()))
            formats: tuple[int, ...] = ()
        elif message.name in self.session.cursors and message.name not in self._portals:
            # A SQL cursor is a portal in PostgreSQL; psycopg describes its cursors that way.
            self._client.write(encoder.row_description(self.session.cursors[message.name].columns))
            return
        else:
            portal = self._portal(message.name)
            compiled, formats = portal.compiled, portal.result_formats
        columns = self.session.columns_of(compiled) if compiled is not None else None
        if columns is None:
            self._client.write(encoder.NO_DATA)
        else:
            self._client.write(encoder.row_description(columns, formats))

    async def _execute(self, message: Execute) -> None:
        batch = self._batch
        if batch is not None:
            if batch.is_open and batch.is_item_alike and batch.bind.portal == message.portal and not message.row_limit:
                batch.execute(self._decoder)
                if batch.is_full:
                    await self._run_batch()
                return
            await self._run_batch()
        portal = self._portal(message.portal)
        compiled = portal.compiled
        if compiled is None:
            self._client.write(encoder.EMPTY_QUERY_RESPONSE)
            return
        session = self.session
        if portal.is_complete:
            if portal.result is None or portal.result.columns is None:
                raise UnsupportedFeature(f'portal "{message.portal}" cannot be run')
            self._complete(compiled, 0, portal.status_before, ())
            return
        if portal.result is None:
            portal.status_before = session.transaction_status
            portal.statement.mark_used()
            portal.result = await session.execute(compiled, portal.parameters)
        await self._send_portal(portal, compiled, message.row_limit)

    async def _send_portal(self, portal: Portal, compiled: CompiledStatement, row_limit: int) -> None:
        result = portal.result
        assert result is not None
        count = result.rowcount
        if result.columns is not None:
            rows = portal.statement.encoder(result.columns, portal.result_formats)
            if row_limit or portal.rows or portal.batch is not None:
                limit = row_limit or 2**62
                count, is_suspended = await send_some(self._client, portal, rows, limit)
                if is_suspended:
                    self._client.write(encoder.PORTAL_SUSPENDED)
                    return
            else:
                count = await send_all(self._client, result, rows)
        portal.is_complete = True
        self._complete(compiled, count, portal.status_before, result.notices)

    async def _run_batch(self) -> None:
        batch = self._batch
        assert batch is not None
        self._batch = None
        unfinished = batch.close_item()
        await batch.run(self.session, self._client)
        if self._client.pending_bytes >= limits.RESULT_CHUNK_BYTES:
            await self._client.flush()
        if unfinished is not None:
            await self._make_portal(unfinished, batch.statement, batch.compiled)
            if batch.is_item_described:
                self._client.write(encoder.NO_DATA)

    async def _close(self, message: Close) -> None:
        if message.kind == "S":
            self._statements.pop(message.name, None)
        else:
            portal = self._portals.pop(message.name, None) or self.session.cursors.pop(message.name, None)
            if portal is not None:
                await portal.aclose()
        self._client.write(encoder.CLOSE_COMPLETE)

    async def _sync(self) -> None:
        self._skips_until_sync = False
        if self._portals and self.session.transaction_status != "T":
            await self._close_portals()
        await self._ready()

    async def _close_portals(self) -> None:
        portals = list(self._portals.values())
        self._portals.clear()
        for portal in portals:
            await portal.aclose()

    def _deallocate(self, name: str | None) -> bool:
        if name is None:
            self._statements.clear()
            return True
        return self._statements.pop(name, None) is not None
