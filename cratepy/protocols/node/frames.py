"""Frames of the node-to-node protocol: bytes in arbitrary pieces → frames, frames → bytes.

Own room because the layout is what two versions of cratepy must agree on, and because it must survive any bytes a
stranger sends. The layout is cratepy's own::

    ┌────────┬──────┬────────┬────────┬──────────┐
    │ length │ kind │ number │ crc32c │ body …   │     length: bytes of the body
    │ u32    │ u8   │ u64    │ u32    │          │     crc32c: of the first 13 bytes and the body
    └────────┴──────┴────────┴────────┴──────────┘     number: of the request or stream, chosen by who opened it

A length above the limit is refused before anything is allocated; the limit is 4 KiB until the handshake is done, so that
a stranger cannot make a node hold memory. An unknown kind or a wrong checksum ends the connection: after either nothing
on the stream can be trusted. Not yet: encryption of frames.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

import google_crc32c
import pyarrow as pa

from cratepy import limits
from cratepy.records import dataclass

PROTOCOL_VERSION: Final = 1
_HEADER: Final = struct.Struct(">IBQI")
_CHECKED: Final = struct.Struct(">IBQ")
HEADER_BYTES: Final = _HEADER.size
#: A body above this is gathered in pieces and joined once, instead of being moved through the small buffer.
_LARGE_BODY_BYTES: Final = 64 * limits.KIB


class FrameError(Exception):
    """Bytes that are no frame; the connection they came from cannot be used any more."""


class Kind(enum.IntEnum):
    """What a frame is. The number of a reply, error, credit or close is that of the request or stream it belongs to."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    REQUEST = 4
    REPLY = 5
    ERROR = 6
    #: The requester waits no longer; the handler may stop.
    CANCEL = 7
    #: A request that is never answered.
    NOTICE = 8
    STREAM_OPEN = 9
    STREAM_SCHEMA = 10
    STREAM_DATA = 11
    STREAM_CREDIT = 12
    STREAM_END = 13
    #: The receiver wants no more.
    STREAM_CLOSE = 14
    PING = 15
    PONG = 16


_KINDS: Final[dict[int, Kind]] = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    number: int
    body: bytes


def encode_header(kind: Kind, number: int, body: bytes | pa.Buffer) -> bytes:
    """The bytes that go before ``body``; body itself is sent as it is, without a copy."""
    length = len(body)
    assert length <= limits.TRANSPORT_FRAME_BYTES_MAX, f"a frame of {length} bytes must be split by whoever made it"
    checked = _CHECKED.pack(length, kind, number)
    checksum = google_crc32c.extend(google_crc32c.value(checked), body)
    return checked + checksum.to_bytes(4, "big")


def encode_frame(kind: Kind, number: int, body: bytes) -> bytes:
    """A whole frame in one piece."""
    return encode_header(kind, number, body) + body


class FrameDecoder:
    """Frames out of a byte stream that arrives in any pieces. After a :class:`FrameError` it must not be fed again."""

    def __init__(self, *, body_bytes_max: int) -> None:
        #: Raised by the owner after the handshake.
        self.body_bytes_max = body_bytes_max
        self._buffer = bytearray()
        # A large body on its way: its header, the pieces so far, and the bytes still missing.
        self._large: tuple[Kind, int, int, bytes] | None = None
        self._pieces: list[bytes] = []
        self._missing = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here without having lost half a frame."""
        return not self._buffer and self._large is None

    @property
    def missing_bytes(self) -> int:
        """Bytes still missing of a large body, so that the owner may read in larger pieces."""
        return self._missing

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by these bytes, in order. Raises FrameError."""
        frames: list[Frame] = []
        if self._large is not None:
            data = self._feed_large(data, frames)
            if not data:
                return frames
        self._buffer += data
        buffer, start, end = self._buffer, 0, len(self._buffer)
        while end - start >= HEADER_BYTES:
            length, kind_number, number, checksum = _HEADER.unpack_from(buffer, start)
            kind = self._check_header(length, kind_number)
            body_start = start + HEADER_BYTES
            if end - body_start < length:
                if length > _LARGE_BODY_BYTES:
                    self._begin_large(kind, number, checksum, start, length)
                    return frames
                break
            body = bytes(memoryview(buffer)[body_start : body_start + length])
            self._check_body(bytes(memoryview(buffer)[start : start + _CHECKED.size]), body, checksum)
            frames.append(Frame(kind, number, body))
            start = body_start + length
        if start:
            del buffer[:start]
        return frames

    def _begin_large(self, kind: Kind, number: int, checksum: int, start: int, length: int) -> None:
        checked = bytes(memoryview(self._buffer)[start : start + _CHECKED.size])
        self._pieces = [bytes(memoryview(self._buffer)[start + HEADER_BYTES :])]
        self._missing = length - len(self._pieces[0])
        self._large = (kind, number, checksum, checked)
        self._buffer.clear()

    def _feed_large(self, data: bytes, frames: list[Frame]) -> bytes:
        assert self._large is not None
        assert not self._buffer
        piece, rest = (data, b"") if len(data) <= self._missing else (data[: self._missing], data[self._missing :])
        self._pieces.append(piece)
        self._missing -= len(piece)
        if self._missing == 0:
            kind, number, checksum, checked = self._large
            body = b"".join(self._pieces)
            self._large, self._pieces = None, []
            self._check_body(checked, body, checksum)
            frames.append(Frame(kind, number, body))
        return rest

    def _check_header(self, length: int, kind_number: int) -> Kind:
        if length > self.body_bytes_max:
            raise FrameError(f"a frame of {length} bytes is longer than the {self.body_bytes_max} bytes allowed here")
        kind = _KINDS.get(kind_number)
        if kind is None:
            raise FrameError(f"unknown kind of frame: {kind_number}")
        return kind

    def _check_body(self, checked: bytes, body: bytes, checksum: int) -> None:
        found = google_crc32c.extend(google_crc32c.value(checked), body)
        if found != checksum:
            raise FrameError(f"wrong checksum of a frame of {len(body)} bytes: {found:08x} instead of {checksum:08x}")
