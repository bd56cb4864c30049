"""A shard's log over its generations: positions that only rise, and which of them are durable.

In: decided operations. Out: a position per operation; ``synced_position`` says what survives a power cut. A position is
the bytes of all generations before plus the offset in the current one, counted from the opening of the shard. Callers
hold the shard's write lock for everything but ``sync``; that has its own lock against the change of generations.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from cratepy import limits
from cratepy.errors import BadRequest
from cratepy.storage.filesystem import FileSystem, is_disk_full
from cratepy.storage.ids import IdArray
from cratepy.storage.plain_rows import PlainRow
from cratepy.storage.records import (
    MARK,
    NO_SCHEMA,
    batch_with_ids,
    encode_operation,
    encode_row,
    encode_schema,
    schema_with_ids,
)
from cratepy.storage.recovery import Replay
from cratepy.storage.translog import create_translog


class ShardLog:
    """See the module. Every method may raise OSError; then the log is dead and the shard with it, unless it is_disk_full."""

    def __init__(self, files: FileSystem, directory: Path, replay: Replay) -> None:
        self._files = files
        self._directory = directory
        self._writer = replay.resume()
        self._base = 0
        self._schemas = replay.schemas
        self._last_schema: pa.Schema | None = None
        self._last_with_ids: pa.Schema | None = None
        self._older_bytes = replay.translog_bytes - self._writer.end
        self._mark_end = self._writer.end
        self._lock = threading.Lock()
        #: Set while an fsync runs, and for good if it fails.
        self._is_dead = False
        #: Operations (rows) since the last flush.
        self.operations = replay.operation_count
        #: Every operation with a position up to this one survives a power cut.
        self.synced_position = self._writer.end

    @property
    def position(self) -> int:
        """The position of the last operation."""
        return self._base + self._writer.end

    @property
    def generation(self) -> int:
        return self._writer.generation

    def durable_end(self) -> tuple[int, int]:
        """The newest generation, and the offset in its file up to which it is durable. Any thread."""
        with self._lock:
            return self._writer.generation, self.synced_position - self._base

    @property
    def size_bytes(self) -> int:
        """Bytes of all generations that the next flush removes."""
        return self._older_bytes + self._writer.end

    def append(
        self,
        ids: Sequence[str],
        rows: pa.RecordBatch | PlainRow | None,
        *,
        first_seq_no: int,
        primary_term: int,
        versions: Sequence[int] | int,
        is_awaited: bool = False,
    ) -> int:
        """Log rows, or deletes if there are none (``versions``: one number stands for all); returns the bytes of the rows.

        ``is_awaited``: nobody is told before the next sync. Raises BadRequest: too big, not logged.
        """
        count = len(ids)
        kind: Literal["index", "rows", "row", "delete"]
        body: bytes | pa.Buffer
        if rows is None:
            kind, schema, body = "delete", NO_SCHEMA, b""
        elif isinstance(rows, PlainRow):
            kind, schema, body = "row", self._ordinal(rows.schema), rows.serialized()
        elif isinstance(ids, IdArray):
            with_ids = batch_with_ids(rows, ids, self._schema_with_ids(rows.schema))
            kind, schema, body, ids = "rows", self._ordinal(with_ids.schema), with_ids.serialize(), ()
        else:
            kind, schema, body = "index", self._ordinal(rows.schema), rows.serialize()
        payload = encode_operation(
            kind,
            first_seq_no=first_seq_no,
            primary_term=primary_term,
            ids=ids,
            versions=versions if isinstance(versions, int) or versions.count(1) < count else 1,
            schema=schema,
            body=body,
        )
        if len(payload) > limits.TRANSLOG_RECORD_BYTES_MAX:
            raise _too_big(payload)
        self._writer.append(payload, is_awaited=is_awaited)
        self.operations += count
        return len(body)

    def append_row(self, id: str, row: PlainRow, *, seq_no: int, primary_term: int, is_awaited: bool) -> int:
        """:meth:`append` of one row that is the first of its id."""
        body = row.serialized()
        schemas = self._schemas
        ordinal = len(schemas) - 1
        if ordinal < 0 or schemas[ordinal] is not row.schema:
            ordinal = self._ordinal(row.schema)
        payload = encode_row(id, body, schema=ordinal, seq_no=seq_no, primary_term=primary_term)
        if len(payload) > limits.TRANSLOG_RECORD_BYTES_MAX:
            raise _too_big(payload)
        self._writer.append(payload, is_awaited=is_awaited)
        self.operations += 1
        return len(body)

    def _schema_with_ids(self, schema: pa.Schema) -> pa.Schema:
        """The same object for the same schema, so that it is found again by identity."""
        if self._last_schema is not schema:
            self._last_schema, self._last_with_ids = schema, schema_with_ids(schema)
        return self._last_with_ids

    def _ordinal(self, schema: pa.Schema) -> int:
        """The number of a schema in this generation; a new one is logged first."""
        schemas = self._schemas
        # The rows of one table come with ids and without, so the one before the last is as good as the last.
        for ordinal in range(len(schemas) - 1, max(len(schemas) - 3, -1), -1):
            if schemas[ordinal] is schema or schemas[ordinal].equals(schema):
                return ordinal
        self._writer.append(encode_schema(len(schemas), schema))
        schemas.append(schema)
        return len(schemas) - 1

    def sync(self) -> None:
        """Make durable what was appended before the call. Any thread."""
        with self._lock:
            if self._is_dead:
                raise OSError("an fsync has failed before; another one would prove nothing")
            self._is_dead = True
            self.synced_position = self._base + self._writer.sync()
            self._is_dead = False

    def roll(self, file_id: bytes) -> int:
        """Start the next generation; returns how many operations the older ones hold.

        The old generation is durable before the new one exists: so only the newest can ever have a torn tail. If there
        is no space for a new one the old goes on.
        """
        self.sync()
        with self._lock:
            self._is_dead = True
            old = self._writer
            old.seal()
            try:
                new = create_translog(self._files, self._directory, generation=old.generation + 1, file_id=file_id)
            except OSError as error:
                self._is_dead = not is_disk_full(error)
                raise
            new.synced = new.end
            self._base += old.end
            self._writer = new
            self.synced_position = self._base + new.end
            self._older_bytes += old.end
            self._schemas = []
            self._mark_end = new.end
            self._is_dead = False
        old.close()
        return self.operations

    def trim(self, operations: int) -> None:
        """Older generations are gone, and these operations with them."""
        self.operations -= operations
        self._older_bytes = 0

    def close(self, *, is_sound: bool) -> None:
        """Make everything durable if the log is sound, and let go of the file."""
        try:
            if is_sound:
                self.sync()
                if self._writer.end > self._mark_end:
                    self._writer.append(MARK)
                    with self._lock:
                        self._writer.seal()
        finally:
            with self._lock:
                self._writer.close()


def _too_big(payload: bytes) -> BadRequest:
    return BadRequest(f"rows of {len(payload)} bytes are above the limit of {limits.TRANSLOG_RECORD_BYTES_MAX}")
