"""COPY TO: the rows of a query to files, one of each shard, as JSON lines.

In: a CopyToPlan, whose query gives the values and, last, the text that routes the row. Out: the number of rows.
Its own room because it is where rows become files::

    query ──batches──► lines, by shard (thread) ──append──► .c_0_.json.<job>.part ──all is well──► c_0_.json

The files appear at the end and all at once; a statement that fails or is killed leaves none of its own, and files of an earlier one
stay until theirs take their places. As COPY FROM, it works on the node the client talks to (CrateDB: each node writes its
shards' files to its own disk). What is read is what a search sees: the last refresh. Source of names, options and words: CrateDB
docs, "COPY TO"; ``FileWriterProjector``, ``LocalFsFileOutput``.
"""

from __future__ import annotations

import gzip
import os
from typing import Final
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import trio

from cratepy import limits
from cratepy.cluster.service import ClusterService
from cratepy.errors import BadRequest, DiskFull, OutputFailed, UnsupportedFeature
from cratepy.execution.results import Result
from cratepy.execution.writes.growth import definition_of
from cratepy.execution.writes.inserts import RunQuery
from cratepy.execution.writes.values import values_of
from cratepy.model.plan import CopyToPlan, StatementContext
from cratepy.model.routing import shards_of
from cratepy.model.schema import TableDefinition
from cratepy.protocols.http.replies import JsonLines

_GZIP_LEVEL: Final = 6
_NO_SPACE: Final = frozenset({28, 122})  # ENOSPC, EDQUOT


class Exporter:
    """Executes CopyToPlans."""

    def __init__(self, *, cluster: ClusterService, run_query: RunQuery) -> None:
        self._cluster = cluster
        self._run_query = run_query
        self._threads = trio.CapacityLimiter(limits.WRITE_THREADS_MAX)

    async def copy_to(self, plan: CopyToPlan, context: StatementContext) -> Result:
        """Execute the plan. Raises OutputFailed, DiskFull, BadRequest, UnsupportedFeature."""
        definition = definition_of(self._cluster, plan.table_uuid, plan.table)
        (directory,) = values_of((plan.directory,), context)
        if not isinstance(directory, str):
            raise BadRequest("The directory of COPY TO must not be NULL")
        files = _Files(plan, definition, local_path(directory), job_id=context.job_id)
        rows = 0
        try:
            await trio.to_thread.run_sync(files.create, limiter=self._threads)
            result = await self._run_query(plan.query, context)
            try:
                while (batch := await result.receive()) is not None:
                    await trio.to_thread.run_sync(files.append, batch, limiter=self._threads)
                    rows += batch.num_rows
            finally:
                await result.aclose()
            await trio.to_thread.run_sync(files.publish, limiter=self._threads)
        finally:
            # A few unlinks, done whether or not the statement was cancelled.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(files.discard)
        return Result(rowcount=rows)


def local_path(directory: str) -> str:
    """The path of a directory given as a path or a ``file:`` URI. Raises BadRequest, UnsupportedFeature."""
    parts = urlsplit(directory)
    if parts.scheme not in ("", "file"):
        raise UnsupportedFeature(f"Cannot write {directory}: unknown scheme '{parts.scheme}'")
    path = unquote(parts.path) if parts.scheme else directory
    if not os.path.isabs(path):
        raise BadRequest(f"Cannot write {directory}: the path of a directory must be absolute")
    return path


class _Files:
    """The files of one COPY TO; each method is work for a thread."""

    def __init__(self, plan: CopyToPlan, definition: TableDefinition, directory: str, *, job_id: str) -> None:
        self._definition = definition
        self._lines = JsonLines(plan.query.columns[:-1], plan.names, with_nulls=not plan.is_whole)
        self._is_gzip = plan.is_gzip
        ending = ".json.gz" if plan.is_gzip else ".json"
        names = [f"{definition.name.name}_{shard}_{ending}" for shard in range(definition.shards)]
        #: What the files are called at the end, by shard, and until then.
        self._paths = [os.path.join(directory, name) for name in names]
        self._parts = [os.path.join(directory, f".{name}.{job_id}.part") for name in names]

    def create(self) -> None:
        """Make the empty files: a directory that is not there is told before any row is read."""
        for path, part in zip(self._paths, self._parts, strict=True):
            try:
                with open(part, "xb") as file:
                    file.write(self._packed(b""))
            except OSError as error:
                raise _failure("open", path, error) from error

    def append(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a batch, each to the file of its shard."""
        routing = batch.column(batch.num_columns - 1).to_pylist()
        found: dict[int, list[bytes]] = {}
        for shard, line in zip(shards_of(routing, self._definition).tolist(), self._lines.encode(batch), strict=True):
            found.setdefault(shard, []).append(line)
        for shard, lines in found.items():
            data = b"\n".join((*lines, b""))
            try:
                # Members of gzip one behind the other are one file. Opened each time: there may be a thousand shards.
                with open(self._parts[shard], "ab") as file:
                    file.write(self._packed(data))
            except OSError as error:
                raise _failure("write", self._paths[shard], error) from error

    def _packed(self, data: bytes) -> bytes:
        return gzip.compress(data, compresslevel=_GZIP_LEVEL, mtime=0) if self._is_gzip else data

    def publish(self) -> None:
        """Give the files their names, once they are on disk."""
        for path, part in zip(self._paths, self._parts, strict=True):
            try:
                descriptor = os.open(part, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                os.replace(part, path)
            except OSError as error:
                raise _failure("write", path, error) from error

    def discard(self) -> None:
        """Remove what has not got its name."""
        for part in self._parts:
            try:
                os.unlink(part)
            except FileNotFoundError:
                continue


def _failure(verb: str, path: str, error: OSError) -> OutputFailed | DiskFull:
    if error.errno in _NO_SPACE:
        return DiskFull(f"Failed to {verb} output: '{path} ({error.strerror})'")
    return OutputFailed(f"Failed to {verb} output: '{path} ({error.strerror})'")
