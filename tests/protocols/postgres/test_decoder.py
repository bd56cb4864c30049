"""Messages cut anywhere, too long, too short, out of order."""

from __future__ import annotations

import random
import struct

import pytest

from cratepy.errors import CrateError, ProtocolViolation
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.protocols.postgres.messages import (
    Bind,
    CancelRequest,
    Close,
    CopyMessage,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    GSSENCRequest,
    Parse,
    PasswordMessage,
    Query,
    SSLRequest,
    StartupMessage,
    Sync,
    Terminate,
)


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    return kind + struct.pack(">i", len(payload) + 4) + payload


def bind(values: list[bytes | None], *, portal: bytes = b"", statement: bytes = b"s", code: int = 1) -> bytes:
    body = portal + b"\0" + statement + b"\0" + struct.pack(">HhH", 1, code, len(values))
    for value in values:
        body += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    return frame(b"B", body + struct.pack(">Hh", 1, 1))


EXECUTE = frame(b"E", b"\0\0\0\0\0")
STARTUP = struct.pack(">ii", 33, 196608) + b"user\0crate\0database\0doc\0\0"
STREAM = b"".join(
    (
        frame(b"Q", b"select 1\0"),
        frame(b"P", b"s\0select $1\0" + struct.pack(">HI", 1, 23)),
        bind([b"\0\0\0\x07", None]),
        frame(b"D", b"Ss\0"),
        frame(b"E", b"p\0\0\0\0\x02"),
        frame(b"C", b"Pp\0"),
        frame(b"H"),
        frame(b"S"),
        frame(b"p", b"secret\0"),
        frame(b"F", b"\0\0"),
        frame(b"d", b"row"),
        frame(b"c"),
        frame(b"f", b"no\0"),
        frame(b"X"),
    )
)
MESSAGES = [
    Query("select 1"),
    Parse("s", "select $1", (23,)),
    Bind("", "s", (1,), [b"\0\0\0\x07", None], (1,), b"\0s\0\0\x01\0\x01\0\x02", b"\0\x01\0\x01"),
    Describe("S", "s"),
    Execute("p", 2),
    Close("P", "p"),
    Flush(),
    Sync(),
    PasswordMessage(b"secret\0"),
    FunctionCall(),
    CopyMessage("d"),
    CopyMessage("c"),
    CopyMessage("f"),
    Terminate(),
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_messages_arrive_in_pieces_of_any_size(step: int) -> None:
    decoder = FrontendDecoder()
    found = []
    for start in range(0, len(STREAM), step):
        decoder.feed(STREAM[start : start + step])
        while (message := decoder.next_message()) is not None:
            found.append(message)
    assert found == MESSAGES
    assert decoder.buffered_bytes == 0


@pytest.mark.parametrize("step", [1, 1000])
def test_startup_messages_arrive_in_pieces(step: int) -> None:
    decoder = FrontendDecoder()
    stream = struct.pack(">ii", 8, 80877103) + struct.pack(">ii", 8, 80877104) + STARTUP
    found = []
    for start in range(0, len(stream), step):
        decoder.feed(stream[start : start + step])
        while (message := decoder.next_startup()) is not None:
            found.append(message)
    assert found == [SSLRequest(), GSSENCRequest(), StartupMessage(0, {"user": "crate", "database": "doc"}, ())]


def test_a_cancel_request_names_pid_and_secret() -> None:
    decoder = FrontendDecoder()
    decoder.feed(struct.pack(">iiii", 16, 80877102, 7, -9))
    assert decoder.next_startup() == CancelRequest(7, -9)


def test_newer_minor_versions_and_options_are_told_apart() -> None:
    decoder = FrontendDecoder()
    body = struct.pack(">i", 196610) + b"user\0crate\0_pq_.foo\x001\0\0"
    decoder.feed(struct.pack(">i", len(body) + 4) + body)
    assert decoder.next_startup() == StartupMessage(2, {"user": "crate"}, ("_pq_.foo",))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">i", 7) + b"xxx",
        struct.pack(">i", 10_001) + b"\0" * 100,
        struct.pack(">i", -5) + b"\0\0\0\0",
        b"GET / HTTP/1.1\r\n",
        struct.pack(">ii", 14, 196608) + b"user\0x",
        struct.pack(">ii", 20, 131072) + b"\0" * 12,
    ],
)
def test_a_bad_startup_is_refused_before_it_is_read(data: bytes) -> None:
    decoder = FrontendDecoder()
    decoder.feed(data)
    with pytest.raises(CrateError):
        decoder.next_startup()


@pytest.mark.parametrize(
    "data",
    [
        b"~" + struct.pack(">i", 4),
        b"Q" + struct.pack(">i", 3),
        b"Q" + struct.pack(">i", 0),
        b"Q" + struct.pack(">i", -1),
        b"Q" + struct.pack(">i", 2**31 - 1),
        frame(b"Q", b"no end"),
        frame(b"Q", b"\xff\xfe\0"),
        frame(b"P", b"s\0"),
        frame(b"P", b"s\0x\0\0\x05"),
        frame(b"B", b"\0"),
        frame(b"B", b"\0s\0\0\0\0\x01\0\0\0\x09x\0\0"),
        frame(b"B", b"\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        frame(b"B", b"\0s\0\0\x01\0\x02\0\0\0\0"),
        frame(b"B", b"\0s\0\0\0\0\0\0\0rest"),
        frame(b"D", b"Xs\0"),
        frame(b"D"),
        frame(b"C", b"Xs\0"),
        frame(b"E", b"p\0\0"),
    ],
)
def test_a_malformed_message_is_a_protocol_violation(data: bytes) -> None:
    decoder = FrontendDecoder()
    decoder.feed(data + frame(b"S") * 3)
    with pytest.raises(ProtocolViolation) as caught:
        decoder.next_message()
    assert caught.value.sqlstate == "08P01"


def test_the_limit_on_messages_counts_before_they_arrive() -> None:
    decoder = FrontendDecoder(message_bytes_max=100)
    decoder.feed(b"Q" + struct.pack(">i", 101))
    with pytest.raises(ProtocolViolation):
        decoder.next_message()


def test_a_message_of_many_chunks_is_joined_once() -> None:
    decoder = FrontendDecoder()
    data = frame(b"Q", b"x" * 1_000_000 + b"\0")
    for start in range(0, len(data), 10_000):
        assert decoder.next_message() is None
        decoder.feed(data[start : start + 10_000])
    assert decoder.next_message() == Query("x" * 1_000_000)


def test_repeats_are_taken_up_to_the_first_difference() -> None:
    decoder = FrontendDecoder()
    stream = b"".join(bind([b"%04d" % i, None if i % 2 else b"x"]) + EXECUTE for i in range(5))
    decoder.feed(stream + bind([b"1", b"2"], statement=b"t") + EXECUTE)
    first = decoder.next_message()
    assert isinstance(first, Bind)
    assert isinstance(decoder.next_message(), Execute)
    rows = decoder.take_repeats(head=first.head, tail=first.tail, after=EXECUTE, parameter_count=2, rows_max=100)
    assert rows is not None
    assert rows.rows() == [[b"%04d" % i, None if i % 2 else b"x"] for i in range(1, 5)]
    other = decoder.next_message()
    assert isinstance(other, Bind)
    assert other.statement == "t"


def test_repeats_stop_at_the_limit_and_at_an_incomplete_pair() -> None:
    decoder = FrontendDecoder()
    pair = bind([b"1"]) + EXECUTE
    decoder.feed(pair * 4 + pair[:-1])
    first = decoder.next_message()
    assert isinstance(first, Bind)
    decoder.next_message()
    taken = decoder.take_repeats(head=first.head, tail=first.tail, after=EXECUTE, parameter_count=1, rows_max=2)
    assert taken is not None
    assert taken.count == 2
    taken = decoder.take_repeats(head=first.head, tail=first.tail, after=EXECUTE, parameter_count=1, rows_max=9)
    assert taken is not None
    assert taken.count == 1
    decoder.feed(pair[-1:])
    assert isinstance(decoder.next_message(), Bind)


@pytest.mark.parametrize("odd_at", [0, 1, 4])
def test_a_value_that_looks_like_what_stands_between_repeats_is_a_value(odd_at: int) -> None:
    values = [EXECUTE + bind([b"1"]) + EXECUTE if number == odd_at else b"%d" % number for number in range(8)]
    decoder = FrontendDecoder()
    decoder.feed(b"".join(bind([value]) + EXECUTE for value in (b"first", *values)))
    first = decoder.next_message()
    assert isinstance(first, Bind)
    decoder.next_message()
    rows: list[bytes | None] = []
    while len(rows) < len(values):
        taken = decoder.take_repeats(head=first.head, tail=first.tail, after=EXECUTE, parameter_count=1, rows_max=100)
        assert taken is not None
        rows += [value for (value,) in taken.rows()]
    assert rows == values
    assert decoder.buffered_bytes == 0


def test_a_repeat_with_a_lying_length_is_left_for_the_careful_decoder() -> None:
    decoder = FrontendDecoder()
    good = bind([b"1"]) + EXECUTE
    bad = bytearray(bind([b"1"]))
    bad[14:18] = struct.pack(">i", 1_000)
    decoder.feed(good + bytes(bad) + EXECUTE)
    first = decoder.next_message()
    assert isinstance(first, Bind)
    decoder.next_message()
    assert decoder.take_repeats(head=first.head, tail=first.tail, after=EXECUTE, parameter_count=1, rows_max=9) is None
    with pytest.raises(ProtocolViolation):
        decoder.next_message()


@pytest.mark.parametrize("seed", range(30))
def test_whatever_bytes_are_damaged_repeats_are_what_single_messages_are_or_left(seed: int) -> None:
    chance = random.Random(seed)
    pairs = [
        bind([chance.choice([None, b"", chance.randbytes(chance.randrange(9))]) for _ in range(3)]) + EXECUTE
        for _ in range(12)
    ]
    stream = bytearray(b"".join(pairs))
    for _ in range(chance.randrange(3)):
        stream[chance.randrange(len(pairs[0]) + 5, len(stream))] = chance.randrange(256)
    fast, careful = FrontendDecoder(), FrontendDecoder()
    for decoder in (fast, careful):
        decoder.feed(bytes(stream))
    first = fast.next_message()
    assert isinstance(first, Bind)
    fast.next_message()
    taken = fast.take_repeats(head=first.head, tail=first.tail, after=EXECUTE, parameter_count=3, rows_max=100)
    careful.next_message()
    careful.next_message()
    for row in [] if taken is None else taken.rows():
        message = careful.next_message()
        assert isinstance(message, Bind)
        assert message.parameters == row
        assert isinstance(careful.next_message(), Execute)
