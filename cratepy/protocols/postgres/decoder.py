"""Bytes of a PostgreSQL client → messages, as they arrive.

In: chunks of bytes, cut anywhere. Out: messages of ``messages``. Lengths are checked before anything of that size is
kept. A frame that is no message raises ProtocolViolation: the stream cannot be trusted after it, the caller answers
08P01 and closes. Source: PostgreSQL docs, "Message Formats"; ``pq_getmessage``.

:meth:`FrontendDecoder.take_repeats` is the fast path of executemany: it takes Bind/Execute pairs that differ only in
the values of the parameters, without making messages of them.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol

from cratepy import limits
from cratepy.errors import ProtocolViolation, UnsupportedFeature
from cratepy.protocols.postgres.messages import (
    Bind,
    CancelRequest,
    Close,
    CopyMessage,
    Describe,
    Execute,
    Flush,
    FrontendMessage,
    FunctionCall,
    GSSENCRequest,
    Parse,
    PasswordMessage,
    Query,
    SSLRequest,
    StartupMessage,
    StartupPhaseMessage,
    Sync,
    Terminate,
)
from cratepy.protocols.postgres.repeats import Repeats, frames_between, parameters_of

_INT4 = struct.Struct(">i").unpack_from
_INT2 = struct.Struct(">h").unpack_from
_COUNT = struct.Struct(">H").unpack_from
_CANCEL_CODE: Final = 80_877_102
_SSL_CODE: Final = 80_877_103
_GSSENC_CODE: Final = 80_877_104
#: Types a client may send after start-up; anything else is not PostgreSQL.
_KNOWN_TYPES: Final = frozenset(b"QPBDEHSCpXFdcf")
_SYNC = Sync()
_FLUSH = Flush()
_TERMINATE = Terminate()
#: Execute of the unnamed portal without a row limit, which is nearly every Execute there is.
_EXECUTE = Execute("", 0)
_EXECUTE_ALL: Final = b"\0\0\0\0\0"


class FrontendDecoder:
    """One client's byte stream. First :meth:`next_startup` until a StartupMessage, then :meth:`next_message`."""

    def __init__(self, *, message_bytes_max: int = limits.PG_MESSAGE_BYTES_MAX) -> None:
        self._buffer = b""
        self._position = 0
        self._chunks: list[bytes] = []
        self._chunk_bytes = 0
        #: Bytes that must be there before the buffer is worth joining again: a big message arrives in many chunks.
        self._wanted_bytes = 0
        self._message_bytes_max = message_bytes_max
        self._last_bind: Bind | None = None

    def feed(self, data: bytes) -> None:
        """Add bytes from the socket."""
        if not self._chunks and self._position == len(self._buffer):
            self._buffer = data
            self._position = 0
            return
        self._chunks.append(data)
        self._chunk_bytes += len(data)
        if len(self._buffer) - self._position + self._chunk_bytes >= self._wanted_bytes:
            self._join()

    def _join(self) -> None:
        if self._chunks:
            self._buffer = b"".join((self._buffer[self._position :], *self._chunks))
            self._position = 0
            self._chunks = []
            self._chunk_bytes = 0
            self._wanted_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the rest of their message."""
        return len(self._buffer) - self._position + self._chunk_bytes

    def next_startup(self) -> StartupPhaseMessage | None:
        """The next message before start-up, or None if more bytes are needed."""
        available = len(self._buffer) - self._position
        if available < 4:
            return None
        length = _INT4(self._buffer, self._position)[0]
        if not 8 <= length <= limits.PG_STARTUP_BYTES_MAX:
            raise ProtocolViolation("invalid length of startup packet")
        if available < length:
            self._wanted_bytes = length
            return None
        payload = self._buffer[self._position + 4 : self._position + length]
        self._position += length
        return _decode_startup(payload)

    def next_message(self) -> FrontendMessage | None:
        """The next message, or None if more bytes are needed."""
        buffer, position = self._buffer, self._position
        available = len(buffer) - position
        if available < 5:
            return None
        kind = buffer[position]
        length = _INT4(buffer, position + 1)[0]
        if kind not in _KNOWN_TYPES:
            raise ProtocolViolation(f"invalid frontend message type {kind}")
        if not 4 <= length <= self._message_bytes_max:
            raise ProtocolViolation(f"invalid message length {length} (at most {self._message_bytes_max} allowed)")
        end = position + 1 + length
        if len(buffer) < end:
            self._wanted_bytes = 1 + length
            return None
        self._position = end
        if kind == 69 and length == 9 and buffer.startswith(_EXECUTE_ALL, position + 5):
            return _EXECUTE
        try:
            if kind == 66:
                self._last_bind = bind = self._repeated_bind(buffer, position + 5, end) or _bind(
                    buffer, position + 5, end
                )
                return bind
            return _decode_message(kind, buffer, position + 5, end)
        except (struct.error, ValueError, IndexError) as error:
            raise ProtocolViolation(f"invalid message format of message type {chr(kind)}") from error

    def _repeated_bind(self, buffer: bytes, start: int, end: int) -> Bind | None:
        """A Bind like the last one but for its values, at half the price; None if it is not."""
        last = self._last_bind
        if last is None or not buffer.startswith(last.head, start) or not buffer.endswith(last.tail, start, end):
            return None
        at = start + len(last.head)
        stop = end - len(last.tail)
        parameters: list[bytes | None] = []
        for _ in last.parameters:
            if at + 4 > stop:
                return None
            size = _INT4(buffer, at)[0]
            at += 4
            if size >= 0:
                parameters.append(buffer[at : at + size])
                at += size
            else:
                parameters.append(None)
                if size != -1:
                    return None
        if at != stop:
            return None
        return Bind(
            last.portal, last.statement, last.parameter_formats, parameters, last.result_formats, last.head, last.tail
        )

    def has_next(self, frames: bytes) -> bool:
        """Whether exactly these bytes stand next in the buffer."""
        return self._buffer.startswith(frames, self._position)

    def skip(self, size: int) -> None:
        """Leave out frames that :meth:`has_next` has seen."""
        self._position += size
        assert self._position <= len(self._buffer)

    def take_repeats(
        self, *, head: bytes, tail: bytes, after: bytes, parameter_count: int, rows_max: int
    ) -> Repeats | None:
        """Parameters of the Binds that stand next in the buffer, each complete and followed by ``after``; None: no such.

        ``after`` are the frames between one Bind and the next (``[Describe] Execute``). The first frame that differs
        in anything but values ends the run and is left for :meth:`next_message`.
        """
        buffer = self._buffer
        if not rows_max or not buffer.startswith(head, self._position + 5):
            return None
        found = frames_between(buffer, self._position, head=head, after=after, rows_max=rows_max)
        starts, ends = self._next_frames(head, after, rows_max) if found is None else found
        if not len(starts):
            return None
        taken = parameters_of(buffer, starts, ends, skipped=5 + len(head), tail=tail, parameter_count=parameter_count)
        if not taken.count:
            return None
        self._position = int(ends[taken.count - 1]) + len(after)
        return taken

    def _next_frames(self, head: bytes, after: bytes, rows_max: int) -> tuple[list[int], list[int]]:
        """As :func:`frames_between`, from one frame to the next."""
        buffer = self._buffer
        position = self._position
        available = len(buffer)
        starts: list[int] = []
        ends: list[int] = []
        while len(starts) < rows_max and position + 5 <= available and buffer[position] == 66:
            end = position + 1 + _INT4(buffer, position + 1)[0]
            if end > available or not buffer.startswith(head, position + 5) or not buffer.startswith(after, end):
                break
            starts.append(position)
            ends.append(end)
            position = end + len(after)
        return starts, ends


def _decode_startup(payload: bytes) -> StartupPhaseMessage:
    code = _INT4(payload, 0)[0]
    if code == _SSL_CODE:
        return SSLRequest()
    if code == _GSSENC_CODE:
        return GSSENCRequest()
    if code == _CANCEL_CODE:
        if len(payload) != 12:
            raise ProtocolViolation("invalid length of cancel request packet")
        process_id, secret = struct.unpack_from(">ii", payload, 4)
        return CancelRequest(process_id, secret)
    major, minor = code >> 16, code & 0xFFFF
    if major != 3:
        raise UnsupportedFeature(f"Unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0")
    fields = payload[4:].split(b"\0")
    # key NUL value NUL … NUL: the last two pieces are empty.
    if len(fields) < 2 or fields[-1] or fields[-2] or len(fields) % 2:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    words = [field.decode("utf-8", "replace") for field in fields[:-2]]
    parameters = dict(zip(words[::2], words[1::2], strict=True))
    unrecognized = tuple(name for name in parameters if name.startswith("_pq_."))
    return StartupMessage(minor, {k: v for k, v in parameters.items() if k not in unrecognized}, unrecognized)


def _decode_message(kind: int, buffer: bytes, start: int, end: int) -> FrontendMessage:
    decode = _DECODERS.get(kind)
    if decode is not None:
        return decode(buffer, start, end)
    if kind == 83:  # S
        return _SYNC
    if kind == 72:  # H
        return _FLUSH
    if kind == 88:  # X
        return _TERMINATE
    if kind == 112:  # p
        return PasswordMessage(buffer[start:end])
    if kind == 70:  # F
        return FunctionCall()
    return CopyMessage(chr(kind))


def _text(buffer: bytes, start: int, end: int) -> tuple[str, int]:
    stop = buffer.index(b"\0", start, end)
    return buffer[start:stop].decode(), stop + 1


def _query(buffer: bytes, start: int, end: int) -> Query:
    return Query(_text(buffer, start, end)[0])


def _parse(buffer: bytes, start: int, end: int) -> Parse:
    name, at = _text(buffer, start, end)
    text, at = _text(buffer, at, end)
    count = _COUNT(buffer, at)[0]
    if at + 2 + 4 * count != end:
        raise ValueError("length")
    return Parse(name, text, struct.unpack_from(f">{count}I", buffer, at + 2))


def _bind(buffer: bytes, start: int, end: int) -> Bind:
    portal, at = _text(buffer, start, end)
    statement, at = _text(buffer, at, end)
    parameter_formats, at = _formats(buffer, at, end)
    if at + 2 > end:
        raise ValueError("length")
    count = _COUNT(buffer, at)[0]
    at += 2
    head = buffer[start:at]
    parameters: list[bytes | None] = []
    for _ in range(count):
        if at + 4 > end:
            raise ValueError("length")
        size = _INT4(buffer, at)[0]
        at += 4
        if size == -1:
            parameters.append(None)
            continue
        if size < 0 or at + size > end:
            raise ValueError("length")
        parameters.append(buffer[at : at + size])
        at += size
    tail = buffer[at:end]
    result_formats, at = _formats(buffer, at, end)
    if at != end or len(parameter_formats) not in (0, 1, count):
        raise ValueError("length")
    return Bind(portal, statement, parameter_formats, parameters, result_formats, head, tail)


def _formats(buffer: bytes, at: int, end: int) -> tuple[tuple[int, ...], int]:
    if at + 2 > end:
        raise ValueError("length")
    count = _COUNT(buffer, at)[0]
    if count == 0:
        return (), at + 2
    if at + 2 + 2 * count > end:
        raise ValueError("length")
    formats = struct.unpack_from(f">{count}h", buffer, at + 2)
    if any(code not in (0, 1) for code in formats):
        raise ProtocolViolation(f"unsupported format code: {next(c for c in formats if c not in (0, 1))}")
    return formats, at + 2 + 2 * count


def _kind_and_name(buffer: bytes, start: int, end: int) -> tuple[str, str]:
    if start == end or buffer[start] not in b"SP":
        raise ProtocolViolation(f"invalid message subtype {buffer[start:end][:1]!r}, valid types are: [P, S]")
    return chr(buffer[start]), _text(buffer, start + 1, end)[0]


def _describe(buffer: bytes, start: int, end: int) -> Describe:
    return Describe(*_kind_and_name(buffer, start, end))


def _close(buffer: bytes, start: int, end: int) -> Close:
    return Close(*_kind_and_name(buffer, start, end))


def _execute(buffer: bytes, start: int, end: int) -> Execute:
    portal, at = _text(buffer, start, end)
    if at + 4 != end:
        raise ValueError("length")
    # PostgreSQL reads a negative limit as none.
    return Execute(portal, max(0, _INT4(buffer, at)[0]))


class _Decode(Protocol):
    def __call__(self, buffer: bytes, start: int, end: int, /) -> FrontendMessage: ...


_DECODERS: Final[dict[int, _Decode]] = {
    66: _bind,
    67: _close,
    68: _describe,
    69: _execute,
    80: _parse,
    81: _query,
}
