"""Requests cut anywhere, and the refusals."""

from __future__ import annotations

import gzip

import pytest

from cratepy.protocols.http.requests import BodyRefused, ContinueWanted, Request, RequestParser, inflate

TWO = b"POST /_sql?types HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_requests_arrive_in_pieces_of_any_size(step: int) -> None:
    parser = RequestParser()
    events = [e for start in range(0, len(TWO), step) for e in parser.feed(TWO[start : start + step])]
    first, second = events
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert (first.method, first.path, first.query, first.body) == ("POST", "/_sql", "types", b"hello")
    assert (first.headers["x-a"], first.is_kept_alive, first.is_http_1_0) == ("1", True, False)
    assert (second.method, second.body, second.is_kept_alive, second.is_http_1_0) == ("GET", b"", False, True)
    assert parser.refusal is None


def test_what_came_before_a_refusal_is_answered() -> None:
    parser = RequestParser()
    events = parser.feed(b"GET / HTTP/1.1\r\n\r\nGARBAGE\r\n\r\n")
    assert len(events) == 1
    assert parser.refusal is not None
    assert parser.refusal.status == 400
    assert parser.feed(b"GET / HTTP/1.1\r\n\r\n") == []


@pytest.mark.parametrize("step", [1, 1000])
def test_limits_are_reached(step: int) -> None:
    for data, status in (
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 200 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 300, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 51\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n33\r\n" + b"x" * 51 + b"\r\n0\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nExpect: miracles\r\n\r\n", 417),
    ):
        parser = RequestParser(body_bytes_max=50, header_bytes_max=150)
        events = [e for start in range(0, len(data), step) for e in parser.feed(data[start : start + step])]
        assert not [e for e in events if isinstance(e, Request)]
        assert parser.refusal is not None
        assert parser.refusal.status == status


def test_a_client_that_waits_is_told_to_continue() -> None:
    parser = RequestParser()
    assert parser.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n") == [ContinueWanted()]
    (request,) = parser.feed(b"x")
    assert isinstance(request, Request)
    assert request.body == b"x"


def test_an_upgrade_is_not_taken_up() -> None:
    parser = RequestParser()
    (request,) = parser.feed(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert isinstance(request, Request)
    (again,) = parser.feed(b"GET /a HTTP/1.1\r\n\r\n")
    assert isinstance(again, Request)


def test_inflating_stops_at_the_limit() -> None:
    body = gzip.compress(b"x" * 100)
    assert inflate(body, "gzip", bytes_max=100) == b"x" * 100
    assert inflate(body, "br") == body
    for broken, encoding, limit in ((body, "gzip", 99), (body[:-9], "gzip", 100), (b"junk", "deflate", 100)):
        with pytest.raises(BodyRefused):
            inflate(broken, encoding, bytes_max=limit)
