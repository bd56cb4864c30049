"""Client sockets: listening, non-blocking reads and writes, and news of clients that hang up.

trio's SocketStream costs more than a small statement, so a connection reads and writes its socket itself and waits only
when it would block; what is written is gathered and sent once per reply. A client that goes away
while its statement runs is noticed at once and without a task per statement: one epoll set of the process watches all
client sockets for the peer's FIN (EPOLLRDHUP, edge-triggered), and one task waits for that set.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Iterable
from typing import Final

import trio

from cratepy import limits

_RECEIVE_BYTES: Final = 64 * limits.KIB
_BACKLOG: Final = 512


def listen_on(host: str, ports: Iterable[int]) -> socket.socket:
    """A listening socket on the first free port; raises OSError if none is."""
    failure: OSError | None = None
    for port in ports:
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            failure = error
    raise OSError(errno.EADDRINUSE, f"no free port on {host}") from failure


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


async def accept_from(listener: socket.socket) -> socket.socket:
    """The next client, its socket ready for non-blocking use. Errors of single clients are not ours; a full table of
    file descriptors is waited out."""
    while True:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            await trio.lowlevel.wait_readable(listener)
            continue
        except ConnectionError:
            continue
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            await trio.sleep(limits.ACCEPT_RETRY_S)
            continue
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return client


class ClientGone(Exception):
    """The client closed its connection: an expected end, caught by the connection's loop."""


def _peer_address(client: socket.socket) -> str:
    """The client's address; empty if it is gone already."""
    try:
        name = client.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


class ClientSocket:
    """One client's socket. Writes are gathered until :meth:`flush`; :attr:`pending_bytes` says how much waits."""

    def __init__(self, client: socket.socket) -> None:
        self._socket = client
        self.peer_address = _peer_address(client)
        self._parts: list[bytes | memoryview] = []
        self.pending_bytes = 0

    async def receive(self) -> bytes:
        """Some bytes; raises ClientGone at the end of the stream."""
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                continue
            except OSError as error:
                raise ClientGone from error
            if not data:
                raise ClientGone
            return data

    def write(self, data: bytes | memoryview) -> None:
        self._parts.append(data)
        self.pending_bytes += len(data)

    async def flush(self) -> None:
        """Send everything written; waits for a client that does not read. Raises ClientGone."""
        if not self._parts:
            return
        parts = self._parts
        data: bytes | memoryview = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self.pending_bytes = 0
        try:
            sent = self._socket.send(data)
            if sent == len(data):
                return
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone from error
        rest = memoryview(data)[sent:]
        while rest:
            await trio.lowlevel.wait_writable(self._socket)
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ClientGone from error

    async def linger(self) -> None:
        """End our side after a last reply, and drop what the client still sends: closing at once would reset the
        connection, and with it the reply."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ClientGone from error
        with trio.move_on_after(limits.CONNECTION_LINGER_S):
            while True:
                await self.receive()
                await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._socket.close()


class HangupWatch:
    """Calls back once when a watched client closes its side of the connection."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def add(self, client: socket.socket, callback: Callable[[], None]) -> None:
        self._callbacks[client.fileno()] = callback
        self._epoll.register(client.fileno(), select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLET)

    def remove(self, client: socket.socket) -> None:
        """Before the socket is closed."""
        if self._callbacks.pop(client.fileno(), None) is not None and not self._epoll.closed:
            self._epoll.unregister(client.fileno())

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, _ in self._epoll.poll(0):
                    callback = self._callbacks.get(descriptor)
                    if callback is not None:
                        callback()
        finally:
            self._epoll.close()
