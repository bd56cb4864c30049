"""Bytes of an HTTP client → requests. Sans-io, around httptools (llhttp).

In: chunks of bytes, cut anywhere, pipelined or not. Out: :class:`Request` in order, :class:`ContinueWanted` where a client
waits for ``100 Continue``, and at most one :class:`Refusal`, after which the connection is done. Header and body sizes
are checked while they arrive. Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import httptools

from cratepy import limits
from cratepy.records import dataclass

_INFLATE_AUTO: Final = 47
_INFLATE_RAW: Final = -15


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A complete request. Header names are lower case; of repeated headers the last counts."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    is_kept_alive: bool
    is_http_1_0: bool


@dataclass(frozen=True, slots=True)
class ContinueWanted:
    """The client sends the body only after ``HTTP/1.1 100 Continue``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was sent is no request that can be answered otherwise."""

    status: int
    text: str


class BodyRefused(Exception):
    """A compressed body that is broken (400) or too large (413): an expected condition of the request's handler."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


Event = Request | ContinueWanted


class RequestParser:
    """One connection's requests."""

    def __init__(
        self, *, body_bytes_max: int = limits.HTTP_BODY_BYTES_MAX, header_bytes_max: int = limits.HTTP_HEADER_BYTES_MAX
    ) -> None:
        self.refusal: Refusal | None = None
        self._body_bytes_max = body_bytes_max
        self._header_bytes_max = header_bytes_max
        self._parser: Any = httptools.HttpRequestParser(self)
        self._events: list[Event] = []
        self._is_in_headers = True
        self._header_bytes = 0
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    def feed(self, data: bytes) -> list[Event]:
        """What is complete now; look at :attr:`refusal` after handling it."""
        if self.refusal is not None:
            return []
        if self._is_in_headers:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # An offer the server does not take up; the request itself was complete.
            self._parser = httptools.HttpRequestParser(self)
            self._is_in_headers = True
        except httptools.HttpParserError:
            if self.refusal is None:
                self.refusal = Refusal(400, "Bad Request")
        if self._is_in_headers and self._header_bytes > self._header_bytes_max and self.refusal is None:
            self.refusal = Refusal(431, "Request Header Fields Too Large")
        events, self._events = self._events, []
        return events

    # --- callbacks of httptools; an exception in one ends the parsing -------------------------------------------------

    def on_message_begin(self) -> None:
        self._is_in_headers = True
        self._reset()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        size = len(self._url) + sum(len(name) + len(value) for name, value in self._headers.items())
        if size > self._header_bytes_max:
            self._refuse(431, "Request Header Fields Too Large")
        self._header_bytes = 0
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._body_bytes_max:
            self._refuse(413, "Request Entity Too Large")
        expected = self._headers.get("expect")
        if expected is not None:
            if expected.lower() != "100-continue":
                self._refuse(417, "Expectation Failed")
            self._events.append(ContinueWanted())

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self._body_bytes_max:
            self._refuse(413, "Request Entity Too Large")
        self._body.append(data)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        self._events.append(
            Request(
                method=self._parser.get_method().decode("latin-1"),
                path=path,
                query=query,
                headers=self._headers,
                body=b"".join(self._body),
                is_kept_alive=self._parser.should_keep_alive(),
                is_http_1_0=self._parser.get_http_version() == "1.0",
            )
        )
        self._is_in_headers = True
        self._header_bytes = 0
        self._reset()

    def _refuse(self, status: int, text: str) -> None:
        self.refusal = Refusal(status, text)
        raise ValueError(text)


def inflate(body: bytes, encoding: str, *, bytes_max: int = limits.HTTP_BODY_BYTES_MAX) -> bytes:
    """The body without its Content-Encoding. Raises BodyRefused; unknown encodings are left as they are, as in CrateDB."""
    if encoding not in ("gzip", "x-gzip", "deflate", "x-deflate"):
        return body
    try:
        return _inflate(body, _INFLATE_AUTO, bytes_max)
    except zlib.error:
        # Some clients send raw deflate and call it deflate.
        if encoding.endswith("deflate"):
            try:
                return _inflate(body, _INFLATE_RAW, bytes_max)
            except zlib.error:
                pass
        raise BodyRefused(Refusal(400, f"The body is not {encoding}")) from None


def _inflate(body: bytes, window_bits: int, bytes_max: int) -> bytes:
    decompressor = zlib.decompressobj(wbits=window_bits)
    data = decompressor.decompress(body, bytes_max + 1)
    if len(data) > bytes_max:
        raise BodyRefused(Refusal(413, "Request Entity Too Large"))
    if not decompressor.eof:
        raise zlib.error("incomplete")
    return data
