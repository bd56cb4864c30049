"""The HTTP listener of a node: ``/_sql``, the page that says who answers, health checks.

In: listening sockets. Out: sessions, one per connection. Built as ``postgres`` is: one task per connection that owns its
socket, and cancellation of what runs when the client hangs up. A client that half-closes its connection while its
statement runs counts as gone.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence

import trio

from cratepy import limits
from cratepy.protocols.http import replies
from cratepy.server.authentication import Authenticate, trust
from cratepy.server.http_connection import ExtraPages, HttpConnection, HttpSettings
from cratepy.server.postgres import ConnectionCounts
from cratepy.server.session import SessionServices
from cratepy.server.sockets import ClientGone, ClientPoll, ClientSocket, accept_from

_log = logging.getLogger(__name__)


class HttpServer:
    """``await nursery.start(server.serve, sockets)`` runs it until cancelled.

    ``is_ready`` answers ``/health/ready`` (default: the node has joined); ``pages`` serves further GET paths.
    """

    def __init__(
        self,
        services: SessionServices,
        *,
        node_name: str,
        is_ready: Callable[[], bool] | None = None,
        pages: ExtraPages | None = None,
        authenticate: Authenticate = trust,
        connections_max: int = limits.CONNECTIONS_MAX,
    ) -> None:
        self.counts = ConnectionCounts()
        self._services = services
        self._settings = HttpSettings(
            node_name=node_name, is_ready=is_ready or (lambda: services.cluster.is_joined), pages=pages
        )
        self._authenticate = authenticate
        self._connections_max = connections_max
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
            if self.counts.open > self._connections_max:
                client.write(
                    replies.reply(503, b"too many connections", content_type=None, extra="connection: close\r\n")
                )
                await client.flush()
            else:
                await self._converse(client)
        except ClientGone:
            pass
        except Exception:  # the session edge: a bug ends its connection, not the server
            _log.exception("connection ended unexpectedly")
        finally:
            self.counts.open -= 1
            client.close()

    async def _converse(self, client: ClientSocket) -> None:
        connection = HttpConnection(client, self._services, self._settings, self._authenticate)
        try:
            with trio.CancelScope() as scope:

                def hang_up() -> None:
                    if connection.is_running:
                        scope.cancel()

                client.when_hung_up(hang_up)
                try:
                    await connection.run()
                finally:
                    client.when_hung_up(None)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + limits.CONNECTION_CLOSE_TIMEOUT_S):
                await connection.aclose()
