"""The transport: requests and streams from this node to any other, by node id.

Enter: the addresses of peers, registered actions, requests. Leave: answers, or at once an error when the peer is gone.
Each node opens one connection to every other and accepts one from it; what a node asks goes over the connection it
opened, and the answers come back on it. So a node's requests never queue behind a peer's, and each side knows by its own
connection whether it can reach the other (CrateDB: TransportService, ConnectionManager).

A connection begins with a handshake (protocol version, cluster name, node ids); a refusal says why, on both sides' logs.
A peer that is wanted is connected again with bounded back-off. A request to the own node calls the handler directly.
With a :class:`TransportSecurity` TLS comes before the handshake, so that a stranger gets to say nothing but that.
"""

from __future__ import annotations

import errno
import inspect
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any

import msgspec
import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.cluster.connections import Action, Handler, Incoming, Outgoing, report_bug
from cratepy.cluster.security import SecureChannel, TransportSecurity
from cratepy.cluster.streams import StreamReceiver as StreamReceiver
from cratepy.cluster.streams import StreamRegistry, local_stream, refused_stream
from cratepy.cluster.streams import StreamSender as StreamSender
from cratepy.cluster.wire import Wire, WireBroken
from cratepy.errors import Condition, CrateError, PeerUnavailable, RequestTimeout
from cratepy.protocols.node.frames import FrameError, Kind
from cratepy.protocols.node.messages import Hello, Refused, Welcome, decode_body, refusal

logger = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
Address = tuple[str, int]
#: How often it is looked whether a peer is connected that is waited for.
_CONNECTED_POLL_S = 0.01
#: How often expired streams are looked for.
_SWEEP_S = 10.0


class HandshakeRefused(Condition):
    """The peer, or this node, does not want the connection; the message says why."""


class _Peer:
    """A node this one wants to be connected to."""

    def __init__(self, node_id: str, address: Address) -> None:
        self.node_id = node_id
        self.address = address
        self.connection: Outgoing | None = None
        self.scope = trio.CancelScope()
        self.retry_now = trio.Event()
        #: Set once the first attempt to connect has succeeded or failed: until then a request may wait for it.
        self.was_tried = trio.Event()
        #: Why it refused the last attempt, as it was logged.
        self.refusal = ""


class Transport:
    """See the module. Call ``run`` first; everything else from tasks of the same trio loop."""

    def __init__(
        self,
        *,
        node_id: str,
        cluster_name: str,
        clock: Clock,
        bind_host: str = "127.0.0.1",
        bind_ports: Sequence[int] = range(4300, 4400),
        ephemeral_id: str = "",
        security: TransportSecurity | None = None,
    ) -> None:
        self.node_id = node_id
        self.cluster_name = cluster_name
        self.ephemeral_id = ephemeral_id or clock.new_id()
        #: The port listened on, once ``run`` has started.
        self.port = 0
        self._bind_host = bind_host
        self._security = security
        #: Connections that have not finished their handshake.
        self._strangers = 0
        self._bind_ports = bind_ports
        self._clock = clock
        self._actions: dict[str, Action] = {}
        self._decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}
        self._peers: dict[str, _Peer] = {}
        self._streams = StreamRegistry()
        self._on_connect: list[Callable[[str], None]] = []
        self._on_disconnect: list[Callable[[str], None]] = []
        self._nursery: trio.Nursery | None = None

    # --- setting up --------------------------------------------------------------------------------------------------

    def register(self, action: str, request_type: type, handler: Handler) -> None:
        """Answer requests named ``action``: ``handler(source node id, request)`` gives a Struct or None.

        A plain function must return within microseconds; a coroutine function may block. A CrateError it raises, or
        StaleRouting, travels to the requester. Any other exception is a bug: logged, and answered as InternalError.
        """
        assert action not in self._actions, f"action {action} is registered twice"
        self._actions[action] = Action(action, msgspec.msgpack.Decoder(request_type), handler)

    def on_connect(self, callback: Callable[[str], None]) -> None:
        """Call with the node id after a connection to a peer was opened."""
        self._on_connect.append(callback)

    def on_disconnect(self, callback: Callable[[str], None]) -> None:
        """Call with the node id after my connection to a peer broke. What was in flight has failed already."""
        self._on_disconnect.append(callback)

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and keep connections until cancelled; reports the port it listens on."""
        listener = self._bind()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.port = listener.getsockname()[1]
                for peer in self._peers.values():
                    nursery.start_soon(self._keep_connected, peer)
                nursery.start_soon(self._sweep_streams)
                task_status.started(self.port)
                await self._accept(listener, nursery)
        finally:
            self._nursery = None
            listener.close()

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._bind_host else socket.AF_INET
        for port in self._bind_ports:
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((self._bind_host, port))
                listener.listen(512)
            except OSError as error:
                listener.close()
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return listener
        raise OSError(errno.EADDRINUSE, f"no free transport port on {self._bind_host} in {self._bind_ports}")

    # --- requests ----------------------------------------------------------------------------------------------------

    async def request(
        self,
        node_id: str,
        action: str,
        request: msgspec.Struct,
        *,
        reply_type: type = NoneType,
        timeout_s: float = limits.REQUEST_TIMEOUT_S,
    ) -> Any:
        """Ask a node and wait for its answer.

        Raises PeerUnavailable (at once when the connection breaks), RequestTimeout, or the handler's CrateError.
        """
        if node_id == self.node_id:
            return await self._request_local(action, request, timeout_s)
        peer = self._peers.get(node_id)
        connection = peer.connection if peer is not None else None
        if connection is None:
            connection = await self._first_connection(node_id)
        answer = await connection.request(action, _encode(request), timeout_s=timeout_s)
        if reply_type is NoneType:
            return None
        decoder = self._decoders.get(reply_type)
        if decoder is None:
            decoder = self._decoders[reply_type] = msgspec.msgpack.Decoder(reply_type)
        return decoder.decode(answer)

    async def _request_local(self, name: str, request: msgspec.Struct, timeout_s: float) -> Any:
        handler = self._actions[name].handler
        with trio.move_on_after(timeout_s):
            try:
                answer = handler(self.node_id, request)
                return await answer if inspect.iscoroutine(answer) else answer
            except (CrateError, Condition):
                raise
            except Exception as error:  # the edge of a handler, as on a remote node
                raise report_bug(name, error) from error
        raise RequestTimeout(f"{name} was not answered by this node within {timeout_s:g} s")

    def notify(self, node_id: str, action: str, request: msgspec.Struct) -> bool:
        """Send a request that nobody answers; False if the node is not connected. Never blocks.

        Notices to one node arrive in the order they were sent, or are lost together with the connection.
        """
        assert node_id != self.node_id
        peer = self._peers.get(node_id)
        if peer is None or peer.connection is None:
            return False
        return peer.connection.notify(action, _encode(request))

    async def _first_connection(self, node_id: str) -> Outgoing:
        """The connection to a peer that has just been named and is being connected to. Raises PeerUnavailable."""
        peer = self._peers.get(node_id)
        if peer is not None:
            with trio.move_on_after(limits.TRANSPORT_CONNECT_TIMEOUT_S):
                await peer.was_tried.wait()
        if peer is None or peer.connection is None:
            raise PeerUnavailable(node_id, sent=False)
        return peer.connection

    # --- streams -----------------------------------------------------------------------------------------------------

    async def open_stream(self, node_id: str, key: str) -> StreamSender:
        """A stream to the receiver that accepts ``key`` on that node. Raises PeerUnavailable."""
        if node_id == self.node_id:
            receiver = self._streams.open(key, now=self._clock.monotonic())
            return refused_stream() if receiver is None else local_stream(receiver)
        return (await self._first_connection(node_id)).open_stream(key)

    def accept_stream(self, key: str) -> StreamReceiver:
        """The receiving end of ``key``; before or after the sender opens it. Whoever accepts must close it."""
        return self._streams.claim(key)

    async def _sweep_streams(self) -> None:
        while True:
            await trio.sleep(_SWEEP_S)
            self._streams.expire(now=self._clock.monotonic())

    # --- peers -------------------------------------------------------------------------------------------------------

    def connected(self, node_id: str) -> bool:
        """Whether a request to the node could be sent now."""
        peer = self._peers.get(node_id)
        return node_id == self.node_id or (peer is not None and peer.connection is not None)

    async def wait_connected(self, node_id: str, *, timeout_s: float) -> bool:
        """Whether the node can be reached, now or soon: a node that has just come is connected to in a moment."""
        if self.connected(node_id):
            return True
        with trio.move_on_after(timeout_s):
            while not self.connected(node_id):
                self.retry_now()
                await trio.sleep(_CONNECTED_POLL_S)
        return self.connected(node_id)

    def peer_ephemeral_id(self, node_id: str) -> str | None:
        """The incarnation of the process this node is connected to under that id."""
        peer = self._peers.get(node_id)
        return peer.connection.ephemeral_id if peer is not None and peer.connection is not None else None

    @property
    def peers(self) -> dict[str, Address]:
        """The peers wanted and their addresses."""
        return {node_id: peer.address for node_id, peer in self._peers.items()}

    def keep_peers(self, addresses: Mapping[str, Address]) -> None:
        """Want connections to exactly these nodes: new ones are opened, others closed."""
        for node_id in [known for known in self._peers if known not in addresses]:
            self.forget_peer(node_id)
        for node_id, address in addresses.items():
            self.add_peer(node_id, address)

    def add_peer(self, node_id: str, address: Address) -> None:
        """Want a connection to the node and keep it; another address than before moves the connection there."""
        if node_id == self.node_id:
            return
        peer = self._peers.get(node_id)
        if peer is not None:
            if peer.address == address:
                return
            if peer.connection is not None:
                # The connection works; only the next one goes to the new address.
                peer.address = address
                return
            self.forget_peer(node_id)
        self._adopt(_Peer(node_id, address), None)

    def forget_peer(self, node_id: str) -> None:
        """Close the connection to a node that is wanted no more."""
        peer = self._peers.pop(node_id, None)
        if peer is not None:
            peer.scope.cancel()

    async def connect(self, address: Address) -> str:
        """Connect to whoever listens there and keep it as a peer; its node id. Raises HandshakeRefused, OSError."""
        for known in self._peers.values():
            if known.address == address and known.connection is not None:
                return known.node_id
        connection = await self._open(address, target_id="")
        peer_id = connection.peer_id
        peer = self._peers.get(peer_id)
        if peer is not None:
            if peer.connection is not None:
                connection.wire.close("already connected")
                return peer_id
            self.forget_peer(peer_id)
        self._adopt(_Peer(peer_id, address), connection)
        return peer_id

    def retry_now(self) -> None:
        """Try all missing connections at once instead of after their back-off."""
        for peer in self._peers.values():
            peer.retry_now.set()

    def _adopt(self, peer: _Peer, connection: Outgoing | None) -> None:
        self._peers[peer.node_id] = peer
        if self._nursery is not None:
            self._nursery.start_soon(self._keep_connected, peer, connection)

    async def _keep_connected(self, peer: _Peer, connection: Outgoing | None = None) -> None:
        """Connect, serve, and connect again until the peer is forgotten."""
        with peer.scope:
            backoff_s = limits.RECONNECT_FIRST_S
            while True:
                if connection is None:
                    connection = await self._try_open(peer)
                if connection is not None:
                    backoff_s = limits.RECONNECT_FIRST_S
                    await self._serve(peer, connection)
                    connection = None
                peer.retry_now = trio.Event()
                with trio.move_on_after(backoff_s * (0.5 + self._clock.random())):
                    await peer.retry_now.wait()
                backoff_s = min(backoff_s * 2, limits.RECONNECT_MAX_S)
        if connection is not None:
            connection.wire.close("the peer is forgotten")

    async def _serve(self, peer: _Peer, connection: Outgoing) -> None:
        if self._peers.get(peer.node_id) is not peer:
            # Forgotten while it connected, perhaps because another attempt succeeded at the same moment.
            connection.wire.close("the peer is forgotten")
            return
        peer.connection = connection
        peer.was_tried.set()
        self._tell(self._on_connect, peer.node_id)
        try:
            await connection.run()
        finally:
            peer.connection = None
            logger.info("connection to node %s ended: %s", peer.node_id, connection.wire.reason)
            self._tell(self._on_disconnect, peer.node_id)
            if self.connected(peer.node_id):
                # Another connection was opened before this one's end was told: the last word must be true.
                self._tell(self._on_connect, peer.node_id)

    @staticmethod
    def _tell(callbacks: Sequence[Callable[[str], None]], node_id: str) -> None:
        for callback in callbacks:
            callback(node_id)

    async def _try_open(self, peer: _Peer) -> Outgoing | None:
        try:
            connection = await self._open(peer.address, target_id=peer.node_id)
        except OSError:
            peer.was_tried.set()
            return None
        except HandshakeRefused as refused:
            if str(refused) != peer.refusal:  # it is tried again and again
                logger.warning("node %s at %s:%d: %s", peer.node_id, *peer.address, refused)
            peer.refusal = str(refused)
            peer.was_tried.set()
            return None
        peer.refusal = ""
        return connection

    # --- handshakes --------------------------------------------------------------------------------------------------

    async def _open(self, address: Address, *, target_id: str) -> Outgoing:
        """Connect and shake hands. Raises OSError, HandshakeRefused."""
        with trio.move_on_after(limits.TRANSPORT_CONNECT_TIMEOUT_S):
            try:
                stream = await trio.open_tcp_stream(*address)
            except UnicodeError as error:  # no name that could be looked up, such as a..b
                raise socket.gaierror(socket.EAI_NONAME, f"not a host name: {error}") from error
            wire = Wire(socket.socket(fileno=stream.socket.detach()))
            try:
                if self._security is not None:
                    await wire.secure(SecureChannel(self._security, is_server=False))
                welcome = await self._say_hello(wire, target_id)
            except (WireBroken, FrameError) as error:
                wire.close(str(error))
                raise HandshakeRefused(f"no cratepy transport answers there: {error}") from error
            except BaseException:
                wire.close("handshake failed")
                raise
            return Outgoing(wire, peer_id=welcome.node_id, ephemeral_id=welcome.ephemeral_id)
        raise TimeoutError(errno.ETIMEDOUT, f"no connection to {address[0]}:{address[1]} in time")

    async def _say_hello(self, wire: Wire, target_id: str) -> Welcome:
        hello = Hello(
            cluster_name=self.cluster_name, node_id=self.node_id, ephemeral_id=self.ephemeral_id, target_id=target_id
        )
        wire.send(Kind.HELLO, 0, _encode(hello))
        frames = await wire.read()
        if frames[0].kind is Kind.REFUSED:
            raise HandshakeRefused(f"refused: {decode_body(frames[0].body, Refused).reason}")
        if len(frames) != 1 or frames[0].kind is not Kind.WELCOME:
            raise FrameError(f"{frames[0].kind.name} is no answer to a hello")
        welcome = decode_body(frames[0].body, Welcome)
        wire.decoder.body_bytes_max = limits.TRANSPORT_FRAME_BYTES_MAX
        wire.detect_silence(limits.TRANSPORT_SILENCE_S)
        return welcome

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionError):
                continue
            except OSError as error:
                # Out of file descriptors: wait until some are free again instead of spinning.
                logger.warning("cannot accept a connection: %s", error)
                await trio.sleep(0.1)
                continue
            if self._strangers >= limits.TRANSPORT_STRANGERS_MAX:
                sock.close()
                continue
            self._strangers += 1
            nursery.start_soon(self._serve_incoming, Wire(sock))

    async def _serve_incoming(self, wire: Wire) -> None:
        hello: Hello | None = None
        try:
            with trio.move_on_after(limits.TRANSPORT_HANDSHAKE_TIMEOUT_S):
                if self._security is not None:
                    await wire.secure(SecureChannel(self._security, is_server=True))
                hello = await self._shake_hands(wire)
        except (WireBroken, FrameError) as error:
            logger.debug("a connection ended in the handshake: %s", error)
        finally:
            self._strangers -= 1
            if hello is None:
                wire.close("no handshake")
        if hello is not None:
            incoming = Incoming(
                wire, peer_id=hello.node_id, actions=self._actions, streams=self._streams, now=self._clock.monotonic
            )
            await incoming.run()

    async def _shake_hands(self, wire: Wire) -> Hello | None:
        """The hello of a peer that is welcome; None after a refusal. Raises WireBroken, FrameError."""
        frames = await wire.read()
        if len(frames) != 1 or frames[0].kind is not Kind.HELLO:
            raise FrameError(f"{frames[0].kind.name} instead of a hello")
        hello = decode_body(frames[0].body, Hello)
        reason = refusal(hello, cluster_name=self.cluster_name, node_id=self.node_id)
        if reason is not None:
            level = logging.DEBUG if hello.ephemeral_id == self.ephemeral_id else logging.WARNING
            logger.log(level, "refused a connection from node %s: %s", hello.node_id, reason)
            wire.send(Kind.REFUSED, 0, _encode(Refused(reason)))
            return None
        wire.decoder.body_bytes_max = limits.TRANSPORT_FRAME_BYTES_MAX
        wire.detect_silence(limits.TRANSPORT_SILENCE_S)
        welcome = Welcome(cluster_name=self.cluster_name, node_id=self.node_id, ephemeral_id=self.ephemeral_id)
        wire.send(Kind.WELCOME, 0, _encode(welcome))
        return hello
