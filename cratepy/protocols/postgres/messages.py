"""Frontend messages as nouns, in the names of PostgreSQL's protocol documentation (chapter "Message Formats").

``msgspec.Struct`` without garbage collection: a message lives for microseconds and there are hundreds of thousands of
them a second.
"""

from __future__ import annotations

import msgspec


class SSLRequest(msgspec.Struct, frozen=True, gc=False):
    pass


class GSSENCRequest(msgspec.Struct, frozen=True, gc=False):
    pass


class CancelRequest(msgspec.Struct, frozen=True, gc=False):
    process_id: int
    secret: int


class StartupMessage(msgspec.Struct, frozen=True):
    """``unrecognized`` are the ``_pq_.`` options; ``minor`` is the protocol's minor version (major is 3)."""

    minor: int
    parameters: dict[str, str]
    unrecognized: tuple[str, ...]


class Query(msgspec.Struct, frozen=True, gc=False):
    text: str


class Parse(msgspec.Struct, frozen=True, gc=False):
    name: str
    text: str
    type_oids: tuple[int, ...]


class Bind(msgspec.Struct, frozen=True, gc=False):
    """``head`` are the payload's bytes before the first parameter value, ``tail`` those after the last: equal heads and
    tails mean another Bind of the same statement in the same formats (see ``FrontendDecoder.take_repeats``)."""

    portal: str
    statement: str
    parameter_formats: tuple[int, ...]
    parameters: list[bytes | None]
    result_formats: tuple[int, ...]
    head: bytes
    tail: bytes


class Describe(msgspec.Struct, frozen=True, gc=False):
    """``kind`` is ``S`` or ``P``."""

    kind: str
    name: str


class Execute(msgspec.Struct, frozen=True, gc=False):
    """``row_limit`` 0 is no limit."""

    portal: str
    row_limit: int


class Close(msgspec.Struct, frozen=True, gc=False):
    kind: str
    name: str


class Flush(msgspec.Struct, frozen=True, gc=False):
    pass


class Sync(msgspec.Struct, frozen=True, gc=False):
    pass


class Terminate(msgspec.Struct, frozen=True, gc=False):
    pass


class PasswordMessage(msgspec.Struct, frozen=True, gc=False):
    data: bytes


class FunctionCall(msgspec.Struct, frozen=True, gc=False):
    pass


class CopyMessage(msgspec.Struct, frozen=True, gc=False):
    """CopyData, CopyDone or CopyFail (``kind`` d, c, f). There is no copy mode: they are dropped, as the protocol says
    for such messages after an error (a client may have sent them before it saw that its COPY was refused)."""

    kind: str


StartupPhaseMessage = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage
FrontendMessage = (
    Query
    | Parse
    | Bind
    | Describe
    | Execute
    | Close
    | Flush
    | Sync
    | Terminate
    | PasswordMessage
    | FunctionCall
    | CopyMessage
)
