"""What a connection answers without its task, and what it must leave to it."""

from __future__ import annotations

import socket
import struct

import trio

from cratepy.limits import KIB
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.server.postgres_at_once import AtOnce
from cratepy.server.session import Session
from cratepy.server.sockets import ClientPoll, ClientSocket
from tests.server.fakes import Fakes


def _query(chars: int) -> bytes:
    text = b"SELECT '" + b"x" * chars + b"'\0"
    return b"Q" + struct.pack(">i", 4 + len(text)) + text


def test_bytes_that_were_not_taken_wake_the_task() -> None:
    """The poll tells once that bytes came, however many: those behind the first receive would wait for ever."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 512 * KIB)
            client = ClientSocket(ours, ClientPoll())
            session = Session(Fakes().services(), user="crate", aborts_transactions=True)
            at_once = AtOnce(client, FrontendDecoder(), session, statements={}, portals={}, is_free=lambda: True)
            frame = _query(100 * KIB)
            theirs.sendall(frame[: 10 * KIB])
            assert at_once.take(), "half a message that came whole: the next bytes will be told of"
            theirs.sendall(frame[10 * KIB :])
            assert not at_once.take()
            client.close()

    trio.run(run)
