"""The bodies of the transport's own frames: handshake, request header, error.

What a request is about (its action and its Struct) belongs to whoever registers the action; here is only what the
transport itself must read. Everything is msgpack, decoded into typed Structs, so that malformed bytes are an error and
never a half-filled object.
"""

from __future__ import annotations

import struct
from typing import Final, TypeVar

import msgspec

from cratepy.protocols.node.frames import PROTOCOL_VERSION, FrameError

T = TypeVar("T")
_REQUEST_HEAD: Final = struct.Struct(">IB")


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of who connects. ``target_id`` is the node it wants to reach; empty if it only has an address."""

    protocol_version: int = PROTOCOL_VERSION
    cluster_name: str
    node_id: str
    ephemeral_id: str
    target_id: str = ""


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of who was connected to."""

    protocol_version: int = PROTOCOL_VERSION
    cluster_name: str
    node_id: str
    ephemeral_id: str


class Refused(msgspec.Struct, frozen=True):
    """Why the connection is closed again, for the log of the other side."""

    reason: str


class WireError(msgspec.Struct, frozen=True, array_like=True):
    """An error class of :mod:`cratepy.errors` by name, and its message."""

    name: str
    message: str


class StreamOpen(msgspec.Struct, frozen=True, array_like=True):
    key: str


class StreamEnd(msgspec.Struct, frozen=True, array_like=True):
    error: WireError | None = None


def refusal(hello: Hello, *, cluster_name: str, node_id: str) -> str | None:
    """Why this node does not talk to who said hello, or None."""
    if hello.protocol_version != PROTOCOL_VERSION:
        return f"protocol version {hello.protocol_version} is not {PROTOCOL_VERSION}, the one of this node"
    if hello.cluster_name != cluster_name:
        return f"cluster name [{hello.cluster_name}] is not [{cluster_name}], the one of this node"
    if hello.node_id == node_id:
        return f"node id {node_id} is this node's own: a node that reached itself, or a copied data directory"
    if hello.target_id and hello.target_id != node_id:
        return f"this is node {node_id}, not {hello.target_id}"
    return None


def encode_request(action: str, timeout_ms: int, payload: bytes) -> bytes:
    """``u32 timeout_ms, u8 length, action, payload``: read without a decoder, because every request pays for it."""
    name = action.encode()
    assert 0 < len(name) < 256
    return _REQUEST_HEAD.pack(min(timeout_ms, 0xFFFFFFFF), len(name)) + name + payload


def decode_request(body: bytes) -> tuple[str, int, memoryview]:
    """Action, timeout in milliseconds, payload. Raises FrameError."""
    if len(body) < _REQUEST_HEAD.size:
        raise FrameError("a request without its head")
    timeout_ms, length = _REQUEST_HEAD.unpack_from(body)
    end = _REQUEST_HEAD.size + length
    if len(body) < end:
        raise FrameError("a request that ends within the name of its action")
    try:
        action = body[_REQUEST_HEAD.size : end].decode()
    except UnicodeDecodeError as error:
        raise FrameError("the name of an action is not text") from error
    return action, timeout_ms, memoryview(body)[end:]


def decode_body(body: bytes, message_type: type[T]) -> T:
    """A body as its Struct. Raises FrameError."""
    try:
        return msgspec.msgpack.decode(body, type=message_type)
    except msgspec.MsgspecError as error:
        raise FrameError(f"not a {message_type.__name__}: {error}") from error
