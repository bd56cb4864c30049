"""BLAKE3 by the vectors of its authors (bytes that count up to 250 and start again), and by its own two ways."""

from __future__ import annotations

import pytest

from cratepy.functions.blake3 import digest


def counting(length: int) -> bytes:
    return bytes(position % 251 for position in range(length))


#: Lengths around the ends of blocks, chunks and full trees; the first 128 bits of the digests.
VECTORS = [
    (1, "2d3adedff11b61f14c886e35afa03673"),
    (1023, "10108970eeda3eb932baac1428c7a216"),
    (1024, "42214739f095a406f3fc83deb889744a"),
    (1025, "d00278ae47eb27b34faecf67b4fe263f"),
    (2048, "e776b6028c7cd22a4d0ba182a8bf6220"),
    (2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3"),
    (3072, "b98cb0ff3623be03326b373de6b90952"),
    (31744, "62b6960e1a44bcc1eb1a611a8d6235b6"),
]


@pytest.mark.parametrize(("length", "start"), VECTORS)
def test_the_digests_of_the_authors(length: int, start: str) -> None:
    found = digest(counting(length))
    assert len(found) == 64
    assert found.startswith(start)


def test_nothing_has_a_digest() -> None:
    assert digest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_every_byte_counts() -> None:
    data = counting(5_000)
    digests = {digest(data[:place] + b"\xff" + data[place + 1 :]) for place in range(0, 5_000, 97)}
    assert len(digests | {digest(data)}) == len(range(0, 5_000, 97)) + 1
