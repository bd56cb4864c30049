"""Reads by primary key, short searches, and pings like ``SELECT 1``, over the extended protocol, in one synchronous step.

In: a Bind of the unnamed portal whose plan is a GetPlan, a search or a row of constants, followed in the buffer by ``[Describe] Execute Sync``, which is what
every driver sends. Out: the whole reply in one write, or nothing at all: then the general way does it message by message,
with the same outcome. Its own room because half of such a statement's time was portals, awaits and bookkeeping that nobody
could ever look at: between its Bind and its Sync nothing else runs in this process.
"""

from __future__ import annotations

from typing import Final

from cratepy.errors import CrateError
from cratepy.model.plan import CompiledStatement, GetPlan
from cratepy.protocols.postgres import encoder
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.protocols.postgres.messages import Bind
from cratepy.protocols.postgres.rows import RowEncoder
from cratepy.server.portals import PreparedStatement, check_result_formats, decoded
from cratepy.server.session import Session
from cratepy.server.sockets import ClientSocket

_DESCRIBE: Final = b"D\0\0\0\x06P\0"
_EXECUTE_SYNC: Final = b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"
_DESCRIBE_EXECUTE_SYNC: Final = _DESCRIBE + _EXECUTE_SYNC
#: After the rows: nearly always one.
_ENDS: Final = {
    (count, status): encoder.command_complete(f"SELECT {count}") + encoder.READY_FOR_QUERY[status]
    for count in (0, 1)
    for status in "IT"
}


def next_execution(decoder: FrontendDecoder) -> bytes | None:
    """The frames ``[Describe] Execute Sync`` of the unnamed portal that stand next in the buffer; None if others do."""
    if decoder.has_next(_DESCRIBE_EXECUTE_SYNC):
        return _DESCRIBE_EXECUTE_SYNC
    return _EXECUTE_SYNC if decoder.has_next(_EXECUTE_SYNC) else None


def is_described(frames: bytes) -> bool:
    """Whether :func:`next_execution` found a Describe."""
    return frames is _DESCRIBE_EXECUTE_SYNC


class KeyReads:
    """What is the same for all reads by one prepared statement with the same plan and formats."""

    __slots__ = ("compiled", "decoders", "described", "head", "parameter_formats", "result_formats", "rows")

    def __init__(self, statement: PreparedStatement, compiled: CompiledStatement, bind: Bind) -> None:
        """Raises CrateError as Bind does for formats that do not fit."""
        statement.check_bind(bind)
        columns = compiled.columns
        check_result_formats(bind.result_formats, columns)
        assert columns is not None, "a read by key has columns"
        self.compiled = compiled
        self.parameter_formats = bind.parameter_formats
        self.result_formats = bind.result_formats
        self.decoders = statement.decoders(bind.parameter_formats)
        self.rows: RowEncoder = statement.encoder(columns, bind.result_formats)
        self.head = encoder.BIND_COMPLETE
        self.described = encoder.BIND_COMPLETE + encoder.row_description(columns, bind.result_formats)


def answer_key_read(
    bind: Bind,
    statement: PreparedStatement,
    compiled: CompiledStatement,
    session: Session,
    decoder: FrontendDecoder,
    client: ClientSocket,
) -> bool:
    """Write the reply to Bind, Describe, Execute and Sync of the statement, which is ``compiled`` now; False if this is not such a read, and then nothing was done.

    The caller has made sure that no portal is open. Raises the CrateError of the execution, what comes before it being
    written; the frames behind the Bind are then left for the decoder.
    """
    if not (type(compiled.plan) is GetPlan or session.services.execution.may_answer_at_once(compiled.plan)):
        return False
    frames = next_execution(decoder)
    if frames is None:
        return False
    status = session.transaction_status
    if status == "E":
        return False
    try:
        reads = statement.key_reads
        if (
            not isinstance(reads, KeyReads)
            or reads.compiled is not compiled
            or reads.parameter_formats != bind.parameter_formats
            or reads.result_formats != bind.result_formats
            or len(reads.decoders) != len(bind.parameters)
        ):
            statement.key_reads = reads = KeyReads(statement, compiled, bind)
        parameters = decoded(reads.decoders, bind.parameters)
    except CrateError:
        return False  # the general way says it at the right message
    head = reads.described if is_described(frames) else reads.head
    statement.mark_used()
    try:
        rows = session.get_nowait(compiled, parameters)
        encoded = None if rows is None else reads.rows.encode(rows)
    except CrateError:
        client.write(head)
        raise
    if rows is None or encoded is None:
        return False
    # Only now: an error leaves the client waiting for what follows its Sync.
    decoder.skip(len(frames))
    count = len(rows)
    end = _ENDS.get((count, status))
    if end is None:
        end = encoder.command_complete(f"SELECT {count}") + encoder.READY_FOR_QUERY[status]
    client.write(head + encoded + end)
    return True
