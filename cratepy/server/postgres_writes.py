"""Changes of one row over the extended protocol: begun in one synchronous step, answered when the disk has the row.

In: a Bind of the unnamed portal whose plan inserts, changes or deletes one row by its key, followed in the buffer by ``[Describe] Execute Sync``, which is what every
driver sends. Out: a row in the log of its shard and, once it is durable, the whole reply in one write; or nothing at all: then the
general way does it message by message, with the same outcome. Its own room because between the bytes of the client and the log,
and between the disk's answer and the client's, nothing else of this process has to run: no task waits for the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cratepy.errors import CrateError
from cratepy.model.plan import CompiledStatement
from cratepy.protocols.postgres import encoder
from cratepy.protocols.postgres.decoder import FrontendDecoder
from cratepy.protocols.postgres.messages import Bind
from cratepy.server.portals import PreparedStatement, decoded
from cratepy.server.postgres_reads import is_described, next_execution
from cratepy.server.session import Session, command_tag
from cratepy.server.sockets import ClientSocket

#: After a row that was written, or not: nearly always one of these.
_ENDS: Final = {
    (tag, count, status): encoder.command_complete(f"{tag} {count}") + encoder.READY_FOR_QUERY[status]
    for tag in ("INSERT 0", "UPDATE", "DELETE")
    for count in (0, 1)
    for status in "IT"
}


def begin_write(
    bind: Bind,
    statement: PreparedStatement,
    compiled: CompiledStatement,
    session: Session,
    decoder: FrontendDecoder,
    client: ClientSocket,
    tell: Callable[[bytes], None],
) -> bool:
    """Write the row of the statement, which is ``compiled`` now, to its log and see that ``tell`` is called with the whole reply when its outcome is known, perhaps before this
    returns. False: this is not such a change, nothing was done and nothing is told.

    The caller has made sure that no portal is open and nothing else waits to be told. Raises the CrateError of a row that is
    refused before it is written, what comes before it in the reply being written; the frames behind the Bind are then left for the decoder.
    """
    if compiled.columns is not None:
        return False
    frames = next_execution(decoder)
    if frames is None or session.transaction_status == "E" or bind.result_formats[1:]:
        return False
    try:
        statement.check_bind(bind)
        parameters = decoded(statement.decoders(bind.parameter_formats), bind.parameters)
    except CrateError:
        return False  # the general way says it at the right message
    head = encoder.BIND_COMPLETE + encoder.NO_DATA if is_described(frames) else encoder.BIND_COMPLETE
    try:
        if not session.write_nowait(
            compiled, parameters, lambda outcome: tell(head + _end(session, compiled, outcome))
        ):
            return False
    except CrateError:
        client.write(head)
        raise
    statement.mark_used()
    decoder.skip(len(frames))
    return True


def _end(session: Session, compiled: CompiledStatement, outcome: int | CrateError) -> bytes:
    """From the execution's outcome to ReadyForQuery; the statement has ended in the session."""
    if isinstance(outcome, CrateError):
        session.fail()
        return encoder.error_response(outcome) + encoder.READY_FOR_QUERY[session.transaction_status]
    session.finish()
    status = session.transaction_status
    end = _ENDS.get((compiled.tag, outcome, status))
    if end is None:
        tag = command_tag(compiled, outcome, status)
        end = encoder.command_complete(tag) + encoder.READY_FOR_QUERY[status]
    return end
