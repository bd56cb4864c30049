"""The transport's own messages: who is refused and why, and what happens to bytes that are none."""

from __future__ import annotations

import pytest

from cratepy.protocols.node.frames import PROTOCOL_VERSION, FrameError
from cratepy.protocols.node.messages import Hello, StreamOpen, decode_body, decode_request, encode_request, refusal


def _refusal(hello: Hello) -> str | None:
    return refusal(hello, cluster_name="c", node_id="me")


def test_a_peer_of_the_same_cluster_is_welcome() -> None:
    assert _refusal(Hello(cluster_name="c", node_id="you", ephemeral_id="e")) is None
    assert _refusal(Hello(cluster_name="c", node_id="you", ephemeral_id="e", target_id="me")) is None


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (Hello(cluster_name="other", node_id="you", ephemeral_id="e"), "cluster name"),
        (Hello(cluster_name="c", node_id="me", ephemeral_id="e"), "copied data directory"),
        (Hello(cluster_name="c", node_id="you", ephemeral_id="e", target_id="third"), "not third"),
        (
            Hello(cluster_name="c", node_id="you", ephemeral_id="e", protocol_version=PROTOCOL_VERSION + 1),
            "protocol version",
        ),
    ],
)
def test_a_stranger_is_told_why_it_is_refused(hello: Hello, words: str) -> None:
    reason = _refusal(hello)
    assert reason is not None
    assert words in reason


def test_a_request_carries_action_deadline_and_payload() -> None:
    action, timeout_ms, payload = decode_request(encode_request("shard/write", 1500, b"rows"))
    assert (action, timeout_ms, bytes(payload)) == ("shard/write", 1500, b"rows")


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0", b"\0\0\0\0\5abc", b"\0\0\0\0\2\xff\xfe"])
def test_half_a_request_is_an_error(body: bytes) -> None:
    with pytest.raises(FrameError):
        decode_request(body)


def test_a_body_of_another_type_is_an_error() -> None:
    with pytest.raises(FrameError, match="StreamOpen"):
        decode_body(b"\xc0", StreamOpen)
