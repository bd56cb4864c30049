"""One connected socket as a pipe of frames: reads decode, writes go out at once or wait their turn.

A raw non-blocking socket and not a trio stream, because a frame is written where it is made, without a task switch:
``send`` tries the socket directly and only what the kernel does not take is queued; one writer task sends the queue,
many frames per call. That is what makes a request cost tens of microseconds (measured with trio streams: twice as much).

Backpressure: who makes many frames awaits :meth:`Wire.drained` between them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.cluster.security import SecureChannel
from cratepy.protocols.node.frames import Frame, FrameDecoder, FrameError, Kind, encode_header

#: Bodies below this are joined with their header: one small copy is cheaper than a second buffer in the system call.
_JOIN_BYTES_MAX: Final = 16 * limits.KIB
_READ_BYTES: Final = 256 * limits.KIB
#: Buffers handed to one system call (IOV_MAX is 1,024 on Linux).
_WRITE_BUFFERS_MAX: Final = 64


class WireBroken(Exception):
    """The connection is gone."""


class Wire:
    """Frames over one socket. ``send`` may be called by any task; ``read`` and ``run_writer`` by one task each."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self.decoder = FrameDecoder(body_bytes_max=limits.TRANSPORT_HANDSHAKE_BYTES_MAX)
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._writer_wakeup = trio.Event()
        self._drained = trio.Event()
        self._channel: SecureChannel | None = None
        #: Plaintext that came with the end of the TLS handshake.
        self._early = b""
        self.is_broken = False
        self.reason = ""

    async def secure(self, channel: SecureChannel) -> None:
        """Shake hands by TLS; all frames after it are encrypted. Raises WireBroken, saying why if it is known."""
        received = b""
        while True:
            try:
                answer, is_done = channel.handshake(received)
            except ssl.SSLError as error:
                self._say_last(channel.alert)
                self.close(f"TLS handshake failed: {error.reason or error}")
                raise WireBroken(self.reason) from error
            rest = self._write([memoryview(answer)]) if answer else []
            while rest:
                await trio.lowlevel.wait_writable(self._socket)
                rest = self._write(rest)
            if is_done:
                break
            received = await self._receive()
        self._channel = channel
        # The client's side is done before the server has seen its certificate; what was refused is told by the first read.
        self._early = self._decrypted(b"")

    def _say_last(self, data: bytes) -> None:
        if data:
            with contextlib.suppress(OSError):  # the alert is a courtesy
                self._socket.send(data)

    def detect_silence(self, timeout_s: float) -> None:
        """Let the kernel break the connection when sent bytes stay unacknowledged that long."""
        if self._socket.family in (socket.AF_INET, socket.AF_INET6):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, kind: Kind, number: int, body: bytes | pa.Buffer = b"") -> None:
        """Send a frame now, or queue it behind those that wait. Raises WireBroken; never blocks."""
        if self.is_broken:
            raise WireBroken(self.reason)
        header = encode_header(kind, number, body)
        if len(body) <= _JOIN_BYTES_MAX:
            buffers = [memoryview(header + bytes(body))]
        else:
            buffers = [memoryview(header), memoryview(body).cast("B")]
        if self._channel is not None:
            buffers = [memoryview(self._channel.encrypt(buffers))]
        if not self._queue:
            buffers = self._write(buffers)
        if buffers:
            self._queue.extend(buffers)
            self._queued_bytes += sum(len(buffer) for buffer in buffers)
            self._writer_wakeup.set()

    @property
    def is_congested(self) -> bool:
        return self._queued_bytes > limits.TRANSPORT_QUEUED_BYTES_MAX

    async def drained(self) -> None:
        """Return once the bytes waiting to be sent are below the bound. Raises WireBroken."""
        while self.is_congested and not self.is_broken:
            await self._drained.wait()
        if self.is_broken:
            raise WireBroken(self.reason)

    async def run_writer(self) -> None:
        """Send what is queued, until the connection breaks."""
        while not self.is_broken:
            await self._writer_wakeup.wait()
            self._writer_wakeup = trio.Event()
            while self._queue:
                try:
                    await trio.lowlevel.wait_writable(self._socket)
                    self._flush_once()
                except (WireBroken, trio.ClosedResourceError, ValueError):
                    # A closed socket is told as one of the three, depending on who noticed first.
                    assert self.is_broken
                    return

    def _flush_once(self) -> None:
        batch = [self._queue[i] for i in range(min(len(self._queue), _WRITE_BUFFERS_MAX))]
        rest = self._write(batch)
        for _ in batch:
            self._queued_bytes -= len(self._queue.popleft())
        self._queue.extendleft(reversed(rest))
        self._queued_bytes += sum(len(buffer) for buffer in rest)
        if not self.is_congested:
            self._drained.set()
            self._drained = trio.Event()

    def _write(self, buffers: list[memoryview]) -> list[memoryview]:
        """Write what the kernel takes; return the rest."""
        try:
            sent = self._socket.send(buffers[0]) if len(buffers) == 1 else self._socket.sendmsg(buffers)
        except BlockingIOError:
            return buffers
        except OSError as error:
            self.close(f"write failed: {error}")
            raise WireBroken(self.reason) from error
        for index, buffer in enumerate(buffers):
            if sent < len(buffer):
                return [buffer[sent:], *buffers[index + 1 :]]
            sent -= len(buffer)
        return []

    async def read(self) -> list[Frame]:
        """The next frames, at least one. Raises WireBroken when the connection ends, FrameError for bytes that are none."""
        while True:
            if self._early:
                data, self._early = self._early, b""
            else:
                data = await self._receive()
                if self._channel is not None:
                    data = self._decrypted(data)
            frames = self.decoder.feed(data) if data else []
            if frames:
                return frames

    async def _receive(self) -> bytes:
        """The next bytes of the socket, at least one. Raises WireBroken."""
        while True:
            if self.is_broken:
                raise WireBroken(self.reason)
            try:
                await trio.lowlevel.wait_readable(self._socket)
                # Encrypted bytes come in small reads, so that decrypting them does not hold the event loop.
                wanted = 0 if self._channel is not None else min(self.decoder.missing_bytes, 4 * limits.MIB)
                data = self._socket.recv(max(_READ_BYTES, wanted))
            except BlockingIOError:
                continue
            except (OSError, ValueError, trio.ClosedResourceError) as error:
                self.close(f"read failed: {error}")
                raise WireBroken(self.reason) from error
            if not data:
                half = "" if self.decoder.is_between_frames else " within a frame"
                self.close(f"closed by the peer{half}")
                raise WireBroken(self.reason)
            return data

    def _decrypted(self, data: bytes) -> bytes:
        assert self._channel is not None
        try:
            plain = self._channel.decrypt(data)
        except ssl.SSLError as error:
            self._say_last(self._channel.alert)
            self.close(f"TLS: {error.reason or error}")
            raise WireBroken(self.reason) from error
        owed = self._channel.owed()
        if owed:
            self._queue.append(memoryview(owed))
            self._queued_bytes += len(owed)
            self._writer_wakeup.set()
        return plain

    async def run_reader(self, on_frame: Callable[[Frame], None]) -> None:
        """Give every frame to ``on_frame`` until the connection ends; the reason stays in ``reason``."""
        try:
            while True:
                for frame in await self.read():
                    on_frame(frame)
        except FrameError as error:
            self.close(str(error))
        except WireBroken:
            return

    def close(self, reason: str) -> None:
        """Break the connection now; waiting readers and writers return. May be called again."""
        if self.is_broken:
            return
        self.is_broken, self.reason = True, reason
        self._queue.clear()
        self._queued_bytes = 0
        self._writer_wakeup.set()
        self._drained.set()
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
