"""One HTTP client: requests in, replies out, in order; one session for all of them, as in CrateDB.

Small results are one reply with a Content-Length; a result beyond ``limits.HTTP_STREAM_BYTES`` is sent in chunks while
it is received (a client that does not read stops it being received). An error after the first chunk breaks the
connection off, since the status is out already. Replies of pipelined requests are gathered into one send.
"""

from __future__ import annotations

import base64
import binascii
import logging
import traceback
from collections.abc import Callable
from typing import assert_never
from urllib.parse import parse_qsl

import msgspec
import pyarrow as pa
import trio

from cratepy import limits
from cratepy.errors import CrateError, InternalError, ParsingError, Unauthorized, UnsupportedFeature
from cratepy.execution.results import BulkItem, Result, runs_of
from cratepy.model.names import SUPERUSER
from cratepy.protocols.http import replies
from cratepy.protocols.http.requests import BodyRefused, ContinueWanted, Refusal, Request, RequestParser, inflate
from cratepy.protocols.http.service_info import root_body
from cratepy.protocols.http.statements import SqlRequest, flag, parse_body
from cratepy.records import dataclass
from cratepy.server.authentication import Authenticate
from cratepy.server.http_arguments import BulkArguments, argument_types, fitted
from cratepy.server.readiness import LEVELS, unready_reason
from cratepy.server.session import BULK_PLANS, Session, SessionServices
from cratepy.server.slices import rows_per_slice
from cratepy.server.sockets import ClientGone, ClientSocket

_log = logging.getLogger(__name__)

#: What a page answers: content type and body; None: there is no such page.
ExtraPages = Callable[[str], tuple[str, bytes] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """``is_ready`` tells whether the node should get requests; ``pages`` serves other GET paths (an admin page)."""

    node_name: str
    is_ready: Callable[[], bool]
    pages: ExtraPages | None = None


class _BrokenOff(Exception):
    """A streamed reply failed half way: nothing right can be said on this connection any more."""


class HttpConnection:
    """See the module. The caller owns the socket and closes the session with :meth:`aclose`."""

    def __init__(
        self,
        client: ClientSocket,
        services: SessionServices,
        settings: HttpSettings,
        authenticate: Authenticate,
    ) -> None:
        self.is_running = False
        self._client = client
        self._services = services
        self._settings = settings
        self._authenticate = authenticate
        self._session: Session | None = None

    async def run(self) -> None:
        """Until the client or the rules of HTTP end the connection."""
        parser = RequestParser()
        turns = 0
        try:
            while True:
                self.is_running = False
                await self._client.flush()
                events = parser.feed(await self._client.receive())
                self.is_running = True
                for event in events:
                    match event:
                        case ContinueWanted():
                            self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                        case Request():
                            turns += 1
                            if turns % limits.CONNECTION_TURN_MAX == 0:
                                await trio.lowlevel.checkpoint()
                            if not await self._answer(event):
                                await self._client.flush()
                                self.is_running = False
                                await self._client.linger()
                                return
                        case _:
                            assert_never(event)
                if parser.refusal is not None:
                    self._refuse(parser.refusal)
                    await self._client.flush()
                    self.is_running = False
                    await self._client.linger()
                    return
        except _BrokenOff:
            return

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.aclose()

    def _refuse(self, refusal: Refusal) -> None:
        body = refusal.text.encode()
        self._client.write(
            replies.reply(refusal.status, body, content_type="text/plain", extra="connection: close\r\n")
        )

    async def _answer(self, request: Request) -> bool:
        """Answer one request; False: the connection ends with it."""
        extra = ""
        if request.is_http_1_0 and request.is_kept_alive:
            extra = "connection: Keep-Alive\r\n"
        elif not request.is_kept_alive:
            extra = "connection: close\r\n"
        try:
            user = self._user(request)
        except Unauthorized as error:
            self._client.write(
                replies.reply(
                    401,
                    error.message.encode() + b"\n",
                    content_type=None,
                    extra='www-authenticate: Basic realm="CrateDB Authenticator"\r\nconnection: close\r\n',
                )
            )
            return False
        if request.path.startswith("/_sql"):
            return await self._answer_sql(request, user, extra)
        self._answer_page(request, extra)
        return request.is_kept_alive

    def _user(self, request: Request) -> str:
        header = request.headers.get("authorization")
        if header is None:
            return self._authenticate(SUPERUSER, None)
        scheme, _, credentials = header.partition(" ")
        if scheme.lower() != "basic":
            raise Unauthorized("Only basic HTTP Authentication is supported")
        try:
            user, _, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unauthorized("Malformed credentials") from error
        return self._authenticate(user, password)

    # --- pages -------------------------------------------------------------------------------------------------------

    def _answer_page(self, request: Request, extra: str) -> None:
        is_head = request.method == "HEAD"
        status, content_type, body = self._page(request)
        extra += state_header(self._services)
        self._client.write(replies.reply(status, body, content_type=content_type, extra=extra, is_head=is_head))

    def _page(self, request: Request) -> tuple[int, str | None, bytes]:
        settings = self._settings
        path = request.path
        if path == "/":
            cluster = self._services.cluster
            is_ok = cluster.is_joined
            body = root_body(node_name=settings.node_name, cluster_name=cluster.state.cluster_name, is_ok=is_ok)
            return (200 if is_ok else 503), "application/json", body
        if request.method not in ("GET", "HEAD"):
            return 405, None, f"{request.method} method is not allowed for [{path}]".encode()
        if path == "/health/live":
            return 200, "application/json", b'{"status":"live"}'
        if path == "/health/ready":
            return self._readiness(request.query)
        page = settings.pages(path) if settings.pages is not None else None
        if page is not None:
            return 200, page[0], page[1]
        return 404, None, f"Requested file [{path.lstrip('/')}] was not found".encode()

    def _readiness(self, query: str) -> tuple[int, str | None, bytes]:
        level = dict(parse_qsl(query)).get("level", LEVELS[0])
        if level not in LEVELS:
            return 400, None, f"level must be one of {', '.join(LEVELS)}".encode()
        reason = unready_reason(self._services.cluster, level)
        if reason is None and not self._settings.is_ready():
            reason = "the node is starting"
        if reason is None:
            return 200, "application/json", msgspec.json.encode({"status": "ready", "level": level})
        body = msgspec.json.encode({"status": "not ready", "level": level, "reason": reason})
        return 503, "application/json", body

    # --- /_sql -------------------------------------------------------------------------------------------------------

    def _session_of(self, request: Request, user: str) -> Session:
        if self._session is None or self._session.user != user:
            if self._session is not None:
                self._services.sessions.remove(self._session.id)
            self._session = Session(
                self._services,
                user=user,
                aborts_transactions=False,
                protocol="http",
                client_address=self._client.peer_address,
            )
            schema = request.headers.get("default-schema")
            if schema:
                # latin-1 on the wire as RFC 9110 has it, UTF-8 in what clients send.
                name = schema.encode("latin-1").decode("utf-8", "replace").replace('"', '""')
                self._session.settings.set("search_path", [f'"{name}"'])
        return self._session

    async def _answer_sql(self, request: Request, user: str, extra: str) -> bool:
        started = self._services.clock.monotonic()
        session = self._session_of(request, user)
        reply = _SqlReply(
            client=self._client,
            session=session,
            extra=extra,
            with_types=flag(request.query, "types"),
            is_head=request.method == "HEAD",
            is_chunked=not request.is_http_1_0,
            started=started,
        )
        try:
            body = await _plain_body(request)
            if len(body) <= limits.HTTP_INLINE_BODY_BYTES:
                read = _read(body)
            else:
                read = await trio.to_thread.run_sync(_read, body)
            return await reply.answer(*read) and request.is_kept_alive
        except BodyRefused as refused:
            self._refuse(refused.refusal)
            return False
        except (ClientGone, _BrokenOff):
            raise
        except CrateError as error:
            session.fail()
            self._fail(error, request, reply)
        except Exception as error:  # the session edge: a bug ends its statement, not the server
            job = session.running_job_id or "none"
            _log.exception("statement failed unexpectedly, job %s", job)
            session.fail()
            self._fail(InternalError(f"internal error, job {job}").with_traceback(error.__traceback__), request, reply)
        return request.is_kept_alive

    def _fail(self, error: CrateError, request: Request, reply: _SqlReply) -> None:
        if reply.is_streaming:
            raise _BrokenOff from error
        trace = "".join(traceback.format_exception(error)) if flag(request.query, "error_trace") else None
        body = replies.error_body(error, trace)
        extra = reply.extra + state_header(self._services)
        self._client.write(replies.reply(error.http_status, body, extra=extra, is_head=reply.is_head))


def state_header(services: SessionServices) -> str:
    """The cluster state this reply was made under: a client that saw it may ask another node to wait for it."""
    return f"X-Cratepy-State-Version: {services.cluster.state.version}\r\n"


def _read(body: bytes) -> tuple[SqlRequest, BulkArguments | None]:
    """The request in a body, and the rows of its bulk as columns. Raises CrateError."""
    request = parse_body(body)
    return request, BulkArguments(request.bulk_rows) if request.bulk_rows else None


async def _plain_body(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if not encoding or encoding == "identity":
        return request.body
    if len(request.body) > limits.RESULT_CHUNK_BYTES:
        return await trio.to_thread.run_sync(inflate, request.body, encoding)
    return inflate(request.body, encoding)


@dataclass(slots=True, kw_only=True)
class _SqlReply:
    """One statement's way from request to reply."""

    client: ClientSocket
    session: Session
    extra: str
    with_types: bool
    is_head: bool
    is_chunked: bool
    started: float
    is_streaming: bool = False

    async def answer(self, request: SqlRequest, bulk: BulkArguments | None) -> bool:
        """Run and reply; ``bulk`` are the rows of its bulk, if there are. False: the reply's end is that of the connection."""
        session = self.session
        pieces = await session.split(request.text)
        if not pieces:
            self._reply(replies.count_body(0, self._duration_ms(), with_types=self.with_types, is_blank=True))
            return True
        if len(pieces) > 1:
            line, column = _place(request.text, pieces[1][0])
            word = pieces[1][1].split(None, 1)[0]
            raise ParsingError(f"line {line}:{column}: mismatched input '{word}' expecting <EOF>")
        if request.bulk_rows is not None:
            await self._answer_bulk(pieces[0][1], bulk)
            return True
        types = argument_types(request.arguments)
        compiled = await session.compile(pieces[0][1], types)
        result = await session.execute(compiled, fitted(request.arguments, types, compiled.parameter_types))
        try:
            is_kept = await self._reply_result(result)
        finally:
            if result.rows is None:
                await result.aclose()
        session.finish()
        return is_kept

    async def _answer_bulk(self, text: str, arguments: BulkArguments | None) -> None:
        if arguments is None:
            self._reply(replies.bulk_body((), self._duration_ms()))
            return
        session = self.session
        compiled = await session.compile(text, arguments.types)
        if compiled.columns is not None:
            raise UnsupportedFeature("Bulk operations for statements that return result sets is not supported")
        if not isinstance(compiled.plan, BULK_PLANS):
            raise UnsupportedFeature(f"Bulk operation not supported for {type(compiled.plan).__name__}")
        inferred = compiled.parameter_types
        if arguments.value_count <= limits.BULK_INLINE_VALUES or arguments.are_right(inferred):
            values = arguments.values(inferred)
        else:
            values = await trio.to_thread.run_sync(arguments.values, inferred)
        items: list[BulkItem] = await session.execute_bulk(compiled, values)
        runs = ((item.rowcount, item.error, times) for item, times in runs_of(items))
        self._reply(replies.bulk_body(runs, self._duration_ms()))

    def _duration_ms(self) -> float:
        return (self.session.services.clock.monotonic() - self.started) * 1000

    def _reply(self, body: bytes) -> None:
        extra = self.extra + state_header(self.session.services)
        self.client.write(replies.reply(200, body, extra=extra, is_head=self.is_head))

    async def _reply_result(self, result: Result) -> bool:
        columns = result.columns
        if columns is None:
            self._reply(replies.count_body(result.rowcount, self._duration_ms(), with_types=self.with_types))
            return True
        encoder = replies.JsonRows(columns)
        parts = [replies.rows_head(columns, with_types=self.with_types)]
        if result.rows is not None:
            parts.append(encoder.encode(result.rows))
            parts.append(replies.rows_tail(len(result.rows), self._duration_ms()))
            self._reply(b"".join(parts))
            return True
        count = size = 0
        while (batch := await result.receive()) is not None:
            step = rows_per_slice(batch, limits.TRANSPORT_FRAME_BYTES_MAX)
            for start in range(0, batch.num_rows, step):
                rows = await _encode(encoder, batch.slice(start, step))
                parts.append(b"," + rows if count or start else rows)
                size += len(rows)
                if size >= limits.HTTP_STREAM_BYTES or self.is_streaming:
                    await self._stream(b"".join(parts))
                    parts.clear()
            count += batch.num_rows
        parts.append(replies.rows_tail(count, self._duration_ms()))
        if not self.is_streaming:
            self._reply(b"".join(parts))
            return True
        await self._stream(b"".join(parts))
        if self.is_chunked and not self.is_head:
            self.client.write(replies.LAST_CHUNK)
        return self.is_chunked

    async def _stream(self, data: bytes) -> None:
        if not self.is_streaming:
            self.is_streaming = True
            extra = (self.extra if self.is_chunked else "connection: close\r\n") + state_header(self.session.services)
            self.client.write(replies.stream_head(extra=extra, is_chunked=self.is_chunked))
        if not self.is_head:
            self.client.write(replies.chunk(data) if self.is_chunked else data)
        await self.client.flush()


async def _encode(encoder: replies.JsonRows, batch: pa.RecordBatch) -> bytes:
    if batch.num_rows <= limits.ENCODE_INLINE_ROWS and batch.nbytes <= limits.RESULT_CHUNK_BYTES:
        return encoder.encode_batch(batch)
    return await trio.to_thread.run_sync(encoder.encode_batch, batch)


def _place(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
