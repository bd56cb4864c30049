"""Two transports on loopback: answers, errors, broken connections, refused handshakes, streams and their credit."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import trio
import trio.testing

from cratepy import limits
from cratepy.clock import SystemClock
from cratepy.cluster.transport import HandshakeRefused, Transport
from cratepy.errors import (
    DuplicateKey,
    InternalError,
    PeerUnavailable,
    RelationUnknown,
    RequestTimeout,
    StaleRouting,
)

BATCH = pa.record_batch({"c1": pa.array([1, 2, 3]), "c2": pa.array(["x", None, "z" * 30], pa.string_view())})


class Text(msgspec.Struct, frozen=True):
    text: str = ""
    data: bytes = b""


def _transport(node_id: str, cluster_name: str = "c") -> Transport:
    return Transport(node_id=node_id, cluster_name=cluster_name, clock=SystemClock(), bind_ports=[0])


@asynccontextmanager
async def _pair() -> AsyncIterator[tuple[Transport, Transport, trio.Nursery]]:
    """Node a, connected to node b."""
    a, b = _transport("a"), _transport("b")
    _register_handlers(b)
    async with trio.open_nursery() as nursery:
        await nursery.start(a.run)
        port = await nursery.start(b.run)
        a.add_peer("b", ("127.0.0.1", port))
        await _until(lambda: a.connected("b"))
        yield a, b, nursery
        nursery.cancel_scope.cancel()


async def _until(is_true: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not is_true():  # noqa: ASYNC110 -- the events are inside of what is tested
            await trio.sleep(0.001)


def _register_handlers(transport: Transport) -> None:
    async def slow(_: str, request: Text) -> Text:
        await trio.lowlevel.checkpoint()
        return request

    async def forever(_: str, request: Text) -> None:
        await trio.sleep_forever()

    def fail(_: str, request: Text) -> None:
        raise {"known": RelationUnknown("Relation 't' unknown"), "stale": StaleRouting("moved")}.get(
            request.text, ValueError("a bug")
        )

    async def fail_in_task(_: str, request: Text) -> None:
        async with trio.open_nursery():
            raise DuplicateKey("A document with the same primary key exists already")

    transport.register("echo", Text, lambda _, request: request)
    transport.register("slow", Text, slow)
    transport.register("forever", Text, forever)
    transport.register("fail", Text, fail)
    transport.register("fail_in_task", Text, fail_in_task)
    transport.register("nothing", Text, lambda source, _: None)


def _run(test: Callable[[Transport, Transport, trio.Nursery], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(10):
            async with _pair() as (a, b, nursery):
                await test(a, b, nursery)

    trio.run(main)


def test_requests_are_answered_also_many_at_once_and_large_ones() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        async def ask(action: str, request: Text) -> None:
            assert await a.request("b", action, request, reply_type=Text) == request

        async with trio.open_nursery() as many:
            for number in range(500):
                many.start_soon(ask, "slow" if number % 2 else "echo", Text(str(number)))
            for size in (limits.KIB * 64, limits.MIB * 3, limits.MIB * 20):
                many.start_soon(ask, "slow", Text("large", b"x" * size))
        assert await a.request("b", "nothing", Text()) is None

    _run(check)


def test_a_request_to_the_own_node_calls_the_handler() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        request = Text("mine")
        assert await b.request("b", "slow", request, reply_type=Text) is request
        assert await b.request("b", "echo", request, reply_type=Text) is request
        with pytest.raises(RelationUnknown):
            await b.request("b", "fail", Text("known"))
        with pytest.raises(RequestTimeout):
            await b.request("b", "forever", Text(), timeout_s=0.01)

    _run(check)


def test_errors_keep_their_class_and_bugs_are_hidden() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        with pytest.raises(RelationUnknown, match="Relation 't' unknown"):
            await a.request("b", "fail", Text("known"))
        with pytest.raises(StaleRouting, match="moved"):
            await a.request("b", "fail", Text("stale"))
        with pytest.raises(DuplicateKey):
            await a.request("b", "fail_in_task", Text())
        with pytest.raises(InternalError) as raised:
            await a.request("b", "fail", Text("bug"))
        assert "a bug" not in str(raised.value)
        with pytest.raises(InternalError, match="no action"):
            await a.request("b", "unknown", Text())

    _run(check)


def test_a_request_that_is_not_answered_in_time_fails_and_its_handler_is_cancelled() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        ended = trio.Event()

        async def watched(_: str, request: Text) -> None:
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        b.register("watched", Text, watched)
        with pytest.raises(RequestTimeout, match="watched was not answered by node b"):
            await a.request("b", "watched", Text(), timeout_s=0.02)
        await ended.wait()

    _run(check)


def test_a_cancelled_requester_cancels_the_handler() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        begun, ended = trio.Event(), trio.Event()

        async def watched(_: str, request: Text) -> None:
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        b.register("watched", Text, watched)
        async with trio.open_nursery() as requester:
            requester.start_soon(a.request, "b", "watched", Text())
            await begun.wait()
            requester.cancel_scope.cancel()
        await ended.wait()

    _run(check)


def test_everything_in_flight_fails_at_once_when_the_peer_dies() -> None:
    async def main() -> None:
        a, b = _transport("a"), _transport("b")
        _register_handlers(b)
        lost: list[str] = []
        a.on_disconnect(lost.append)
        failures: list[bool] = []

        async def ask() -> None:
            try:
                await a.request("b", "forever", Text())
            except PeerUnavailable as error:
                failures.append(error.sent)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                await nursery.start(a.run)
                async with trio.open_nursery() as life_of_b:
                    a.add_peer("b", ("127.0.0.1", await life_of_b.start(b.run)))
                    await _until(lambda: a.connected("b"))
                    sender = await a.open_stream("b", "k")
                    receiver = b.accept_stream("k")
                    for _ in range(10):
                        nursery.start_soon(ask)
                    await a.request("b", "nothing", Text())
                    life_of_b.cancel_scope.cancel()
                await _until(lambda: len(failures) == 10)
                assert all(failures)
                assert lost == ["b"]
                with pytest.raises(PeerUnavailable) as raised:
                    await a.request("b", "echo", Text())
                assert not raised.value.sent
                with pytest.raises(PeerUnavailable):
                    await sender.send(BATCH)
                with pytest.raises(PeerUnavailable):
                    await receiver.receive()
                assert not a.notify("b", "echo", Text())
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_request_waits_for_the_first_connection_to_a_peer_just_named() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        third = _transport("third")
        await nursery.start(third.run)
        third.add_peer("b", ("127.0.0.1", b.port))
        assert await third.request("b", "echo", Text("x"), reply_type=Text) == Text("x")
        third.add_peer("nobody", ("127.0.0.1", 1))
        with pytest.raises(PeerUnavailable):
            await third.request("nobody", "echo", Text("x"))
        with pytest.raises(PeerUnavailable):
            await third.open_stream("never named", "k")

    _run(check)


def test_a_lost_peer_is_connected_again() -> None:
    async def main() -> None:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                a = _transport("a")
                await nursery.start(a.run)
                port = 0
                for _ in range(3):
                    b = Transport(node_id="b", cluster_name="c", clock=SystemClock(), bind_ports=[port])
                    _register_handlers(b)
                    async with trio.open_nursery() as life_of_b:
                        port = await life_of_b.start(b.run)
                        a.add_peer("b", ("127.0.0.1", port))
                        await _until(partial(a.connected, "b"))
                        assert await a.request("b", "echo", Text("x"), reply_type=Text) == Text("x")
                        life_of_b.cancel_scope.cancel()
                    await _until(lambda: not a.connected("b"))
                a.forget_peer("b")
                assert a.peers == {}
                nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize(
    ("stranger", "reason"),
    [(_transport("x", "other"), "cluster name"), (_transport("b"), "copied data directory")],
)
def test_a_stranger_is_refused_and_told_why(stranger: Transport, reason: str) -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        await nursery.start(stranger.run)
        with pytest.raises(HandshakeRefused, match=reason):
            await stranger.connect(("127.0.0.1", b.port))
        assert not stranger.connected("b") or stranger.node_id == "b"

    _run(check)


def test_bytes_that_are_no_frames_end_the_connection_and_nothing_else() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\xff" * 10_000):
            stream = await trio.open_tcp_stream("127.0.0.1", b.port)
            await stream.send_all(data)
            try:
                assert await stream.receive_some() == b""
            except trio.BrokenResourceError:
                pass  # the peer closed with our bytes unread: a reset, the same end
            await stream.aclose()
        assert await a.request("b", "echo", Text("still here"), reply_type=Text) == Text("still here")

    _run(check)


def test_no_free_port_is_an_error_that_says_so() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            transport = Transport(
                node_id="a", cluster_name="c", clock=SystemClock(), bind_ports=[taken.getsockname()[1]]
            )
            with pytest.raises(OSError, match="no free transport port"):
                await transport.run()

    trio.run(main)


async def _both_ways(a: Transport, b: Transport) -> list[tuple[Any, Any]]:
    """A remote and a local stream: sender and receiver."""
    pairs = []
    for sender, receiver, key in ((a, b, "remote"), (b, b, "local")):
        pairs.append((await sender.open_stream("b", key), receiver.accept_stream(key)))
    return pairs


async def _send_without_end(sender: Any) -> None:
    while True:
        await sender.send(BATCH)


def test_a_stream_carries_batches_in_order_and_ends() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        for sender, receiver in await _both_ways(a, b):

            async def send(sender: Any = sender) -> None:
                for number in range(50):
                    await sender.send(BATCH.slice(number % 3))
                await sender.send(pa.record_batch({"other": [1]}))
                await sender.finish()

            nursery.start_soon(send)
            for number in range(50):
                assert (await receiver.receive()).equals(BATCH.slice(number % 3))
            assert (await receiver.receive()).schema.names == ["other"]
            assert await receiver.receive() is None
            receiver.close()

    _run(check)


def test_a_sender_waits_for_a_slow_receiver() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        for sender, receiver in await _both_ways(a, b):
            sent = 0
            with trio.move_on_after(0.1):
                while sent < 100:
                    await sender.send(BATCH)
                    sent += 1
            assert sent == limits.STREAM_CREDITS
            assert await receiver.receive() is not None
            await sender.send(BATCH)
            receiver.close()

    _run(check)


def test_a_receiver_that_closes_stops_its_sender() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        for sender, receiver in await _both_ways(a, b):
            await sender.send(BATCH)
            assert await receiver.receive() is not None
            receiver.close()
            with pytest.raises(trio.BrokenResourceError):
                await _send_without_end(sender)
            await sender.finish()
            late = await a.open_stream("b", receiver.key)
            with pytest.raises(trio.BrokenResourceError):
                await _send_without_end(late)

    _run(check)


def test_the_error_of_a_sender_is_raised_at_the_receiver() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        for sender, receiver in await _both_ways(a, b):
            await sender.finish(("RelationUnknown", "gone"))
            with pytest.raises(RelationUnknown, match="gone"):
                await receiver.receive()
            receiver.close()

    _run(check)


def test_a_receiver_may_come_after_its_batches() -> None:
    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        sender = await a.open_stream("b", "early")
        await sender.send(BATCH)
        await sender.finish()
        await a.request("b", "echo", Text(), reply_type=Text)
        receiver = b.accept_stream("early")
        assert (await receiver.receive()).equals(BATCH)
        assert await receiver.receive() is None
        receiver.close()

    _run(check)


def test_who_is_connected_is_never_told_as_gone_when_two_attempts_succeed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A seed's address is tried while the node is connected to by its id; a restarted node was alone for ever after that.

    Both attempts are held until both have a connection; in which order they go on is trio's choice, hence the rounds.
    """

    async def check(a: Transport, b: Transport, nursery: trio.Nursery) -> None:
        told: list[bool] = []
        a.on_connect(lambda _: told.append(True))
        a.on_disconnect(lambda _: told.append(False))
        address = a.peers["b"]
        open_really = a._open
        waiting: list[trio.Event] = []

        async def open_together(target: tuple[str, int], *, target_id: str) -> Any:
            connection = await open_really(target, target_id=target_id)
            waiting.append(trio.Event())
            if len(waiting) == 2:
                waiting.pop(0).set()
                waiting.clear()
                await trio.lowlevel.cancel_shielded_checkpoint()  # now both are due at the same moment
            else:
                await waiting[-1].wait()
            return connection

        monkeypatch.setattr(a, "_open", open_together)
        for _ in range(30):
            a.forget_peer("b")
            await trio.testing.wait_all_tasks_blocked()
            told.clear()
            a.add_peer("b", address)
            assert await a.connect(address) == "b"
            await trio.testing.wait_all_tasks_blocked()
            assert a.connected("b")
            assert told[-1] is True, told
            assert await a.request("b", "echo", Text("x"), reply_type=Text) == Text("x")

    _run(check)
