"""The PostgreSQL listener of a node.

In: listening sockets. Out: sessions. Each connection is one task that owns its socket; none of them can hold up another.
Cancel requests reach connections of this node by the pid and secret of their BackendKeyData; a client that hangs up
while its statement runs is cancelled at once (``sockets.ClientPoll``).
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Sequence
from dataclasses import field

import trio

from cratepy import limits
from cratepy.errors import CrateError, TooManyRequests
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.protocols.postgres.messages import CancelRequest
from cratepy.records import dataclass
from cratepy.server.authentication import Authenticate, trust
from cratepy.server.postgres_connection import PostgresConnection
from cratepy.server.postgres_startup import BackendKey, greet, open_session, read_startup, refuse
from cratepy.server.session import SessionServices
from cratepy.server.sockets import ClientGone, ClientPoll, ClientSocket, accept_from

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ConnectionCounts:
    """What sys.nodes shows of a protocol: connections that are open and that ever were."""

    open: int = 0
    total: int = 0


@dataclass(slots=True)
class _Registry:
    next_process_id: int = 0
    connections: dict[BackendKey, PostgresConnection] = field(default_factory=dict)


class PostgresServer:
    """``await nursery.start(server.serve, sockets)`` runs it until cancelled."""

    def __init__(
        self,
        services: SessionServices,
        *,
        authenticate: Authenticate = trust,
        connections_max: int = limits.CONNECTIONS_MAX,
    ) -> None:
        self.counts = ConnectionCounts()
        self._services = services
        self._authenticate = authenticate
        self._connections_max = connections_max
        self._registry = _Registry()
        self._poll = ClientPoll()

    async def serve(
        self, listeners: Sequence[socket.socket], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept clients on the listening sockets, which are closed at the end."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._poll.run)
                for listener in listeners:
                    nursery.start_soon(self._accept, listener, nursery)
                task_status.started()
        finally:
            for listener in listeners:
                listener.close()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(self._run_client, await accept_from(listener))

    async def _run_client(self, raw: socket.socket) -> None:
        """One connection, whatever happens to it."""
        client = ClientSocket(raw, self._poll)
        self.counts.open += 1
        self.counts.total += 1
        try:
            await self._serve_client(client)
        except ClientGone:
            pass
        except Exception:  # the session edge: a bug ends its connection, not the server
            _log.exception("connection ended unexpectedly")
        finally:
            self.counts.open -= 1
            client.close()

    async def _serve_client(self, client: ClientSocket) -> None:
        decoder = FrontendDecoder()
        started: tuple[PostgresConnection, BackendKey] | None = None
        with trio.move_on_after(limits.PG_STARTUP_TIMEOUT_S):
            try:
                started = await self._start(client, decoder)
            except CrateError as error:
                await refuse(client, error)
        if started is not None:
            await self._converse(client, *started)

    async def _start(
        self, client: ClientSocket, decoder: FrontendDecoder
    ) -> tuple[PostgresConnection, BackendKey] | None:
        message = await read_startup(client, decoder)
        if isinstance(message, CancelRequest):
            self._cancel(message)
            return None
        if self.counts.open > self._connections_max:
            raise TooManyRequests("sorry, too many clients already")
        session = open_session(message, self._services, self._authenticate, client_address=client.peer_address)
        key = self._new_key()
        greet(client, message, session, key)
        await client.flush()
        return PostgresConnection(client, decoder, session), key

    async def _converse(self, client: ClientSocket, connection: PostgresConnection, key: BackendKey) -> None:
        self._registry.connections[key] = connection
        try:
            with trio.CancelScope() as scope:

                def hang_up() -> None:
                    connection.is_gone = True
                    if connection.is_running:
                        scope.cancel()

                client.when_hung_up(hang_up)
                try:
                    await connection.run()
                finally:
                    client.when_hung_up(None)
        finally:
            del self._registry.connections[key]
            with trio.CancelScope(shield=True, deadline=trio.current_time() + limits.CONNECTION_CLOSE_TIMEOUT_S):
                await connection.aclose()

    def _new_key(self) -> BackendKey:
        """The secret is chance that protects, so it is the operating system's, not the clock's."""
        registry = self._registry
        registry.next_process_id = registry.next_process_id % (2**31 - 2) + 1
        return BackendKey(process_id=registry.next_process_id, secret=secrets.randbits(32) - 2**31)

    def _cancel(self, request: CancelRequest) -> None:
        """As in PostgreSQL nothing is answered, whether the key is right or not."""
        key = BackendKey(process_id=request.process_id, secret=request.secret)
        connection = self._registry.connections.get(key)
        if connection is not None:
            connection.session.cancel()
