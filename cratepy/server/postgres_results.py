"""Results → DataRows on a client's socket, with back-pressure.

Rows are encoded in chunks; when ``limits.RESULT_CHUNK_BYTES`` wait they are sent, and the next batch is received only
after the client took them. Big batches are encoded on a worker thread, in slices.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.errors import CrateError
from cratepy.execution.results import Result
from cratepy.model.arrow import JSON_KINDS, from_arrow
from cratepy.protocols.postgres.batches import encode_batch
from cratepy.protocols.postgres.encoder import notice_response
from cratepy.protocols.postgres.rows import RowEncoder
from cratepy.server.portals import Portal
from cratepy.server.session_plans import ROLLBACK_WARNING
from cratepy.server.session_settings import SessionSettings
from cratepy.server.slices import rows_per_slice
from cratepy.server.sockets import ClientSocket

_ROWS_PER_CHUNK = 512
#: Up to so many rows a loop over values is faster than the dozens of kernels that encode a batch (10 rows: 0.1 : 1.4 ms).
_FEW_ROWS: Final = 64
#: Values that a batch holds as the text that is sent.
_MADE_TEXTS: Final = JSON_KINDS | {"array"}


async def send_all(client: ClientSocket, result: Result, encoder: RowEncoder) -> int:
    """Every row of a result; the number of rows."""
    if result.rows is not None:
        rows = result.rows
        if len(rows) <= _ROWS_PER_CHUNK:
            client.write(encoder.encode(rows))
            return len(rows)
        for start in range(0, len(rows), _ROWS_PER_CHUNK):
            client.write(encoder.encode(rows[start : start + _ROWS_PER_CHUNK]))
            await _relieve(client)
            await trio.lowlevel.checkpoint()
        return len(rows)
    count = 0
    while (batch := await result.receive()) is not None:
        count += batch.num_rows
        await _send_batch(client, batch, encoder)
    return count


async def _send_batch(client: ClientSocket, batch: pa.RecordBatch, encoder: RowEncoder) -> None:
    is_small = batch.nbytes <= limits.RESULT_CHUNK_BYTES
    if is_small and batch.num_rows <= _FEW_ROWS and not any(c.type.kind in _MADE_TEXTS for c in encoder.columns):
        values = [from_arrow(batch.column(i), column.type) for i, column in enumerate(encoder.columns)]
        client.write(encoder.encode(zip(*values, strict=True) if values else [()] * batch.num_rows))
        await _relieve(client)
        return
    if is_small and batch.num_rows <= limits.ENCODE_INLINE_ROWS:
        client.write(encode_batch(encoder, batch))
        await _relieve(client)
        return
    # One slice's text stays far below the 2 GiB an Arrow binary array can hold.
    step = rows_per_slice(batch, limits.TRANSPORT_FRAME_BYTES_MAX // 4)
    for start in range(0, batch.num_rows, step):
        client.write(await trio.to_thread.run_sync(encode_batch, encoder, batch.slice(start, step)))
        await _relieve(client)


async def _relieve(client: ClientSocket) -> None:
    if client.pending_bytes >= limits.RESULT_CHUNK_BYTES:
        await client.flush()


async def send_some(client: ClientSocket, portal: Portal, encoder: RowEncoder, row_limit: int) -> tuple[int, bool]:
    """At most ``row_limit`` rows of a portal; how many, and whether there may be more.

    PostgreSQL suspends a portal as soon as the limit is reached, even if no row is left, and so does this.
    """
    result = portal.result
    assert result is not None
    assert row_limit > 0
    if result.rows is not None and not portal.rows:
        portal.rows = deque(result.rows)
        result.rows = []
    count = 0
    while count < row_limit:
        if portal.rows:
            taken: list[tuple[Any, ...]] = []
            while portal.rows and count < row_limit:
                taken.append(portal.rows.popleft())
                count += 1
            client.write(encoder.encode(taken))
        elif portal.batch is not None:
            batch = portal.batch
            part = batch.slice(0, row_limit - count)
            portal.batch = batch.slice(part.num_rows) if part.num_rows < batch.num_rows else None
            count += part.num_rows
            await _send_batch(client, part, encoder)
        elif result.rows is not None:
            return count, False
        else:
            portal.batch = await result.receive()
            if portal.batch is None:
                return count, False
        await _relieve(client)
    return count, True


def write_notices(client: ClientSocket, notices: tuple[str, ...], settings: SessionSettings) -> None:
    """Notices of a statement, unless the client asked for less with client_min_messages."""
    if not notices:
        return
    try:
        level = (settings.show("client_min_messages") or "notice").lower()
    except CrateError:
        level = "notice"
    for notice in notices:
        is_warning = notice == ROLLBACK_WARNING or notice.startswith("there is ")
        severity, sqlstate = ("WARNING", "01000") if is_warning else ("NOTICE", "00000")
        if level in ("error", "fatal", "panic") or (level == "warning" and not is_warning):
            continue
        client.write(notice_response(notice, severity=severity, sqlstate=sqlstate))
