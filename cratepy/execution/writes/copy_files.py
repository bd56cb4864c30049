"""Files of a COPY FROM: URIs and options in, blocks of whole lines (or Parquet batches) out.

In: the URIs and WITH options of a statement. Out: :class:`SourceFile` per file, and for each an iterator of bounded blocks,
read on a worker thread. Its own room because it is the only part of the write path that touches files. Source of options
and messages: CrateDB docs, "COPY FROM"; ``FileReadingIterator``, ``LocalFsFileInput``.

Blocks end where a record ends: at a newline, and for CSV at one outside quotes. Files are read on the handler: the node the
client talks to (CrateDB reads local files on every node, and counts rows of shared storage several times for it).
Does not do yet: s3, az, http and ftp.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
import stat
from collections.abc import Iterator, Mapping
from typing import IO, Final, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from cratepy import limits
from cratepy.errors import BadRequest, CrateError, SQLParseError, UnsupportedFeature
from cratepy.model.schema import SettingValue
from cratepy.records import dataclass

_OPTIONS: Final = frozenset(
    {
        "bulk_size", "fail_fast", "wait_for_completion", "shared", "num_readers", "compression", "overwrite_duplicates",
        "empty_string_as_null", "delimiter", "format", "header", "skip",
    }
)  # fmt: skip
_WILDCARDS: Final = frozenset("*?[")
_FORMATS: Final = ("json", "csv", "parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """WITH (…), checked."""

    format: str | None = None
    is_gzip: bool | None = None
    delimiter: str = ","
    has_header: bool = True
    skip_lines: int = 0
    empty_string_as_null: bool = False
    overwrite_duplicates: bool = False
    fail_fast: bool = False
    bulk_rows: int = limits.COPY_BULK_ROWS


def copy_options(options: Mapping[str, SettingValue], format: str | None) -> CopyOptions:
    """The options of a statement. Raises SQLParseError for unknown names and bad values."""
    for name in options:
        if name in ("node_filters", "protocol", "key", "sas_token"):
            raise UnsupportedFeature(f"Setting '{name}' of COPY FROM is not supported by this server")
        if name not in _OPTIONS:
            raise SQLParseError(f"Setting '{name}' is not supported")
    if not _boolean(options, "wait_for_completion", default=True):
        raise UnsupportedFeature("COPY FROM with wait_for_completion = false is not supported by this server")
    compression = options.get("compression")
    if compression not in (None, "gzip"):
        raise SQLParseError(f"Invalid value for argument 'compression': {compression}")
    named = options.get("format", format)
    if named is not None and str(named).lower() not in _FORMATS:
        raise SQLParseError(f"Unsupported input format {named}; supported are {', '.join(_FORMATS)}")
    delimiter = str(options.get("delimiter", ","))
    if len(delimiter) != 1:
        raise SQLParseError(f"Invalid value for argument 'delimiter': '{delimiter}' is not one character")
    bulk_rows = _number(options, "bulk_size", limits.COPY_BULK_ROWS)
    return CopyOptions(
        format=None if named is None else str(named).lower(),
        is_gzip=True if compression == "gzip" else None,
        delimiter=delimiter,
        has_header=_boolean(options, "header", default=True),
        skip_lines=_number(options, "skip", 0),
        empty_string_as_null=_boolean(options, "empty_string_as_null", default=False),
        overwrite_duplicates=_boolean(options, "overwrite_duplicates", default=False),
        fail_fast=_boolean(options, "fail_fast", default=False),
        bulk_rows=max(1, bulk_rows),
    )


def _boolean(options: Mapping[str, SettingValue], name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    if isinstance(value, str) and value.lower() in ("true", "t", "false", "f"):
        return value.lower() in ("true", "t")
    if not isinstance(value, bool):
        raise SQLParseError(f"Invalid value for argument '{name}': {value}")
    return value


def _number(options: Mapping[str, SettingValue], name: str, default: int) -> int:
    value = options.get(name, default)
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if number < 0:
        raise SQLParseError(f"Invalid value for argument '{name}': {value}")
    return number


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file to read, or why it cannot be (then ``path`` is empty)."""

    uri: str
    path: str = ""
    format: str = "json"
    is_gzip: bool = False
    size_bytes: int = 0
    error: CrateError | None = None


def find_files(uris: list[str], options: CopyOptions) -> list[SourceFile]:
    """The files that the URIs name, in the order of the URIs and then of names. Reads directories: for a thread."""
    found: list[SourceFile] = []
    for uri in uris:
        found.extend(_files_of(uri, options))
        if len(found) > limits.COPY_FILES_MAX:
            raise BadRequest(f"COPY FROM {uri}: more than {limits.COPY_FILES_MAX} files")
    return found


def _files_of(uri: str, options: CopyOptions) -> list[SourceFile]:
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        path = uri if not parts.scheme else unquote(parts.path)
        shown = uri if parts.scheme else f"file://{uri}"
    else:
        return [SourceFile(uri=uri, error=UnsupportedFeature(f"Cannot read {uri}: unknown scheme '{parts.scheme}'"))]
    if not os.path.isabs(path):
        return [SourceFile(uri=uri, error=BadRequest(f"Cannot read {uri}: the path of a file must be absolute"))]
    if _WILDCARDS & set(path):
        paths = sorted(p for p in glob.iglob(path, recursive=True) if os.path.isfile(p))
        if not paths:
            return [SourceFile(uri=shown, error=BadRequest(f"Cannot find any URI matching: {shown}"))]
        return [_file(f"file://{p}", p, options) for p in paths]
    return [_file(shown, path, options)]


def _file(uri: str, path: str, options: CopyOptions) -> SourceFile:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadRequest(f"{path} (Not a regular file)")
        with open(path, "rb"):
            pass
    except OSError as error:
        return SourceFile(uri=uri, error=BadRequest(f"{path} ({error.strerror})"))
    except BadRequest as error:
        return SourceFile(uri=uri, error=error)
    name = path.lower()
    is_gzip = name.endswith((".gz", ".gzip")) if options.is_gzip is None else options.is_gzip
    name = name.removesuffix(".gz").removesuffix(".gzip")
    file_format = options.format
    if file_format is None:
        file_format = "csv" if name.endswith(".csv") else "parquet" if name.endswith((".parquet", ".parq")) else "json"
    return SourceFile(uri=uri, path=path, format=file_format, is_gzip=is_gzip, size_bytes=status.st_size)


# --- blocks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records of a file: lines from ``first_line`` (counted from 1), or a batch of a Parquet file."""

    data: bytes | pa.RecordBatch
    first_line: int
    #: How far into the file this block reaches, in bytes on disk.
    bytes_done: int


def read_blocks(file: SourceFile, options: CopyOptions) -> Iterator[Block]:
    """The blocks of a file, each read when asked for. Raises BadRequest if the file turns out to be unreadable."""
    try:
        if file.format == "parquet":
            yield from _parquet_blocks(file, options)
        else:
            yield from _line_blocks(file)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise BadRequest(f"{file.path}: {error}") from error


def _parquet_blocks(file: SourceFile, options: CopyOptions) -> Iterator[Block]:
    source = file.path
    # Ten megabytes of code that only nodes need that read such files.
    from pyarrow import parquet as pq

    with pq.ParquetFile(source) as parquet:
        done, total = 0, max(1, parquet.metadata.num_rows)
        for batch in parquet.iter_batches(batch_size=options.bulk_rows):
            first, done = done, done + batch.num_rows
            yield Block(batch, first + 1, file.size_bytes * done // total)


def _line_blocks(file: SourceFile) -> Iterator[Block]:
    cut = csv_cut if file.format == "csv" else line_cut
    with open(file.path, "rb") as raw:
        opened = cast(IO[bytes], gzip.GzipFile(fileobj=raw) if file.is_gzip else raw)
        rest, line = b"", 1
        while True:
            chunk = opened.read(limits.COPY_BLOCK_BYTES)
            data = rest + chunk
            if not data:
                return
            end = len(data) if not chunk else cut(data)
            if end == 0 and len(data) > limits.COPY_LINE_BYTES_MAX:
                raise BadRequest(f"{file.path}: line {line} is longer than {limits.COPY_LINE_BYTES_MAX} bytes")
            block, rest = data[:end], data[end:]
            if block:
                yield Block(block, line, raw.tell())
                line += block.count(b"\n")
            if not chunk:
                return


def line_cut(data: bytes) -> int:
    """The place after the last newline; 0 if there is none."""
    return data.rfind(b"\n") + 1


def csv_cut(data: bytes) -> int:
    """The place after the last newline that ends a record: an even number of quotes stands before it."""
    end = len(data)
    quotes = data.count(b'"')
    while True:
        place = data.rfind(b"\n", 0, end)
        if place < 0:
            return 0
        quotes -= data.count(b'"', place, end)
        if quotes % 2 == 0:
            return place + 1
        end = place


def text_of(data: bytes) -> io.StringIO:
    """A block as text; bytes that are no UTF-8 become replacement characters (the row fails on them later, or not)."""
    return io.StringIO(data.decode("utf-8", errors="replace"), newline="")
