"""The transport with TLS: who has the secret or the authority's certificate gets in, nobody else says a word."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
import trio

from cratepy import limits
from cratepy.clock import SystemClock
from cratepy.cluster.security import (
    SecurityError,
    TransportSecurity,
    from_files,
    from_secret,
    is_loopback,
)
from cratepy.cluster.transport import HandshakeRefused, Transport

SECRET = "correct horse battery staple"


class Text(msgspec.Struct, frozen=True):
    text: str


@asynccontextmanager
async def _listening(*securities: TransportSecurity | None) -> AsyncIterator[list[Transport]]:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            transports = []
            for number, security in enumerate(securities):
                transport = Transport(
                    node_id=f"n{number}", cluster_name="c", clock=SystemClock(), bind_ports=[0], security=security
                )
                transport.register("echo", Text, lambda _, request: request)
                await nursery.start(transport.run)
                transports.append(transport)
            yield transports
            nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two authorities, a node's certificate of each: made by openssl, as an operator would."""
    path = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=path, check=True, capture_output=True)

    for name in ("ours", "theirs"):
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
        openssl("req", "-x509", *new, "-keyout", f"{name}.ca.key", "-out", f"{name}.ca.pem", "-subj", f"/CN={name} CA")
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name} node")
        signed = ("-CA", f"{name}.ca.pem", "-CAkey", f"{name}.ca.key", "-CAcreateserial", "-days", "1")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return {file.name: file for file in path.iterdir()}


def _of(certificates: dict[str, Path], name: str, authority: str = "") -> TransportSecurity:
    return from_files(
        certificate=certificates[f"{name}.pem"],
        key=certificates[f"{name}.key"],
        authority=certificates[f"{authority or name}.ca.pem"],
    )


def _talks(a: TransportSecurity | None, b: TransportSecurity | None) -> str:
    """What the second node answers the first, or why it does not."""

    async def main() -> str:
        async with _listening(a, b) as (first, second):
            try:
                node_id = await first.connect(("127.0.0.1", second.port))
            except HandshakeRefused as refused:
                return f"refused: {refused}"
            reply = await first.request(node_id, "echo", Text("hello"), reply_type=Text)
            return str(reply.text)

    return trio.run(main)


def test_who_knows_the_secret_gets_in() -> None:
    assert _talks(from_secret(SECRET), from_secret(SECRET)) == "hello"


def test_certificates_of_one_authority_get_in(certificates: dict[str, Path]) -> None:
    assert _talks(_of(certificates, "ours"), _of(certificates, "ours")) == "hello"


def test_another_secret_authority_or_none_is_refused(certificates: dict[str, Path]) -> None:
    ours, theirs = _of(certificates, "ours"), _of(certificates, "theirs")
    strangers = [
        (from_secret(SECRET), from_secret(SECRET + "!")),
        (ours, theirs),
        (theirs, ours),
        (_of(certificates, "theirs", "ours"), ours),
        (from_secret(SECRET), ours),
        (None, from_secret(SECRET)),
        (from_secret(SECRET), None),
    ]
    for a, b in strangers:
        assert _talks(a, b).startswith("refused: no cratepy transport answers there")


def test_streams_and_large_answers_pass_through_tls() -> None:
    batch = pa.record_batch({"n": pa.array(range(500_000))})

    async def main() -> None:
        security = from_secret(SECRET)
        async with _listening(security, security) as (first, second):
            node_id = await first.connect(("127.0.0.1", second.port))
            large = "x" * (3 * limits.MIB)
            reply = await first.request(node_id, "echo", Text(large), reply_type=Text)
            assert reply.text == large
            receiver = second.accept_stream("k")
            sender = await first.open_stream(node_id, "k")

            async def send() -> None:
                for _ in range(5):
                    await sender.send(batch)
                await sender.finish()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                received = []
                while (got := await receiver.receive()) is not None:
                    received.append(got)
            assert [got.num_rows for got in received] == [500_000] * 5
            assert received[-1].equals(batch)
            receiver.close()

    trio.run(main)


def test_noise_and_silence_before_the_handshake_cost_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRANSPORT_HANDSHAKE_TIMEOUT_S", 0.2)

    async def main() -> None:
        async with _listening(from_secret(SECRET)) as (transport,):
            for noise in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 5_000, b"\0" * 100_000):
                stream = await trio.open_tcp_stream("127.0.0.1", transport.port)
                async with stream:
                    with contextlib.suppress(trio.BrokenResourceError):
                        if noise:
                            await stream.send_all(noise)
                        while await stream.receive_some(4096):
                            pass

    trio.run(main)


def test_a_short_secret_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match=r"\[cluster\.secret\] must have at least 16"):
        from_secret("short")
    with pytest.raises(SecurityError, match="cannot use"):
        from_files(certificate=tmp_path / "c", key=tmp_path / "k", authority=tmp_path / "a")


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "::", "example.com")] == [False] * 4
