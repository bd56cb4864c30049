"""Client sockets: listening, non-blocking reads and writes, and one epoll set that tells what becomes of all of them.

trio's SocketStream costs more than a small statement, so a connection reads and writes its socket itself and waits only
when it would block; what is written is gathered and sent once per reply. A protocol's sockets are in one epoll set, edge-triggered, so nothing
is registered per wait, and one task waits for that set (:class:`ClientPoll`). It wakes the tasks whose bytes came, or lets a connection answer at
once, without its task (:attr:`ClientSocket.take`); and it notices a client that goes away while its statement runs (EPOLLRDHUP).
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
_HANGUP: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


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

    def __init__(self, client: socket.socket, poll: ClientPoll) -> None:
        self.peer_address = _peer_address(client)
        self.pending_bytes = 0
        #: :meth:`send_now` could not send all: :meth:`flush` is due.
        self.is_behind = False
        #: The last receive took as much as it may at once: nobody will tell of bytes that are there already.
        self.may_have_more = False
        #: Called when bytes came and :meth:`receive` waits. True: it has dealt with them; else the waiting task is woken.
        self.take: Callable[[], bool] | None = None
        self._socket = client
        self._poll = poll
        self._parts: list[bytes | memoryview] = []
        self._waiting: trio.lowlevel.Task | None = None
        self._on_hangup: Callable[[], None] | None = None
        self._is_hung_up = False
        self._is_called = False
        poll.add(client.fileno(), self)

    def when_hung_up(self, callback: Callable[[], None] | None) -> None:
        """Call back once when the client closes its side of the connection; at once if it has."""
        self._on_hangup = callback
        if self._is_hung_up and callback is not None:
            callback()

    def on_events(self, events: int) -> None:
        """From the poll: bytes came, or the end of them."""
        if events & _HANGUP and not self._is_hung_up:
            self._is_hung_up = True
            if self._on_hangup is not None:
                self._on_hangup()
        if self._waiting is None:
            return
        if self.take is None:
            self._reschedule()
        elif not self.take():
            self.wake()

    def wake(self) -> None:
        """Let :meth:`receive` return without bytes, if it waits."""
        self._is_called = self._waiting is not None
        self._reschedule()

    def _reschedule(self) -> None:
        task, self._waiting = self._waiting, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def receive(self) -> bytes:
        """Some bytes; none after :meth:`wake` and if :attr:`take` left something to do. Raises ClientGone at the end of the stream."""
        while (data := self.receive_now()) is None:
            self._waiting = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
            if self._is_called:
                self._is_called = False
                return b""
        return data

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED

    def receive_now(self) -> bytes | None:
        """The bytes that are there, or None; raises ClientGone."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ClientGone from error
        if not data:
            raise ClientGone
        self.may_have_more = len(data) == _RECEIVE_BYTES
        return data

    def write(self, data: bytes | memoryview) -> None:
        self._parts.append(data)
        self.pending_bytes += len(data)

    def send_now(self) -> bool:
        """Send what was written as far as the socket takes it; False: :meth:`flush` has to send the rest. Raises ClientGone."""
        parts = self._parts
        data: bytes | memoryview = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self.pending_bytes = 0
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone from error
        self.is_behind = sent < len(data)
        if self.is_behind:
            self.write(memoryview(data)[sent:])
        return not self.is_behind

    async def flush(self) -> None:
        """Send everything written; waits for a client that does not read. Raises ClientGone."""
        if not self._parts:
            return
        while not self.send_now():
            await trio.lowlevel.wait_writable(self._socket)

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
        self._poll.remove(self._socket.fileno())
        self._socket.close()


class ClientPoll:
    """The clients of one protocol, and the task that waits for all of them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._clients: dict[int, ClientSocket] = {}

    def add(self, descriptor: int, client: ClientSocket) -> None:
        if self._epoll.closed:
            return  # the server ends, and its tasks with it
        self._clients[descriptor] = client
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET | _HANGUP)

    def remove(self, descriptor: int) -> None:
        """Before the socket is closed."""
        if self._clients.pop(descriptor, None) is not None and not self._epoll.closed:
            self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, events in self._epoll.poll(0, limits.CLIENT_EVENTS_PER_TURN):
                    client = self._clients.get(descriptor)
                    if client is not None:
                        client.on_events(events)
        finally:
            self._epoll.close()
