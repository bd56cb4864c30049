"""Frames survive any cut of the stream, and anything that is no frame is refused before memory is spent on it."""

from __future__ import annotations

import random
import struct

import pytest

from cratepy import limits
from cratepy.protocols.node.frames import HEADER_BYTES, Frame, FrameDecoder, FrameError, Kind, encode_frame

FRAMES = [
    Frame(Kind.HELLO, 0, b""),
    Frame(Kind.REQUEST, 1, b"abc"),
    Frame(Kind.STREAM_DATA, 2**64 - 1, bytes(range(256)) * 1000),
    Frame(Kind.REPLY, 7, b"x" * limits.KIB * 64),
    Frame(Kind.PING, 9, b""),
]
BYTES = b"".join(encode_frame(frame.kind, frame.number, frame.body) for frame in FRAMES)


def _decoder() -> FrameDecoder:
    return FrameDecoder(body_bytes_max=limits.MIB)


def test_one_byte_at_a_time_gives_the_same_frames() -> None:
    decoder = _decoder()
    assert [frame for byte in BYTES for frame in decoder.feed(bytes([byte]))] == FRAMES
    assert decoder.is_between_frames


def test_any_cut_gives_the_same_frames() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        decoder, found, rest = _decoder(), [], BYTES
        while rest:
            size = chance.choice([1, 16, 17, 18, 1000, 70_000, 300_000])
            found += decoder.feed(rest[:size])
            rest = rest[size:]
        assert found == FRAMES, seed


def test_a_truncated_stream_gives_the_whole_frames_and_says_that_half_of_one_is_missing() -> None:
    decoder = _decoder()
    assert decoder.feed(BYTES[:-1]) == FRAMES[:-1]
    assert not decoder.is_between_frames


def test_every_corrupted_byte_of_a_frame_is_noticed() -> None:
    good = encode_frame(Kind.REQUEST, 5, b"payload")
    for place in range(len(good)):
        for bit in (1, 128):
            bad = bytearray(good)
            bad[place] ^= bit
            decoder = FrameDecoder(body_bytes_max=100)
            try:
                # A longer length leaves the frame unfinished until more bytes come.
                frames = decoder.feed(bytes(bad) + bytes(200))
            except FrameError:
                continue
            assert frames == [], (place, bit)


def test_a_length_above_the_limit_is_refused_with_the_header() -> None:
    header = struct.pack(">IBQI", limits.TRANSPORT_HANDSHAKE_BYTES_MAX + 1, Kind.HELLO, 0, 0)
    decoder = FrameDecoder(body_bytes_max=limits.TRANSPORT_HANDSHAKE_BYTES_MAX)
    with pytest.raises(FrameError, match="4097 bytes is longer than the 4096"):
        decoder.feed(header)


def test_a_client_of_another_protocol_is_refused() -> None:
    decoder = FrameDecoder(body_bytes_max=limits.TRANSPORT_HANDSHAKE_BYTES_MAX)
    with pytest.raises(FrameError):
        decoder.feed(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(FrameError, match="unknown kind of frame: 99"):
        _decoder().feed(struct.pack(">IBQI", 0, 99, 0, 0))


def test_random_bytes_never_give_a_frame() -> None:
    for seed in range(300):
        decoder = _decoder()
        try:
            assert decoder.feed(random.Random(seed).randbytes(200)) == []
        except FrameError:
            continue


def test_the_header_is_as_long_as_documented() -> None:
    assert HEADER_BYTES == 17
