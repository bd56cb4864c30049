"""Blocks of CSV and JSON files to columns of a table; of Parquet files: ``copy_parquet``.

In: a block of whole records. Out: :class:`ParsedBlock`: target columns (arrays where the fast parser succeeded, raw values
where not), the rows that are no records or name unknown columns, and line numbers. Its own room because it runs on worker
threads and knows nothing of shards. The fast way parses all rows at once (Arrow's CSV reader with the columns' types); if
a row refuses, the block is parsed again as texts, and then record by record, so that errors have line numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import field
from operator import attrgetter
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from cratepy.errors import BadRequest, ColumnUnknown, CrateError, InvalidColumnName
from cratepy.execution.writes.copy_files import CopyOptions, text_of
from cratepy.execution.writes.layout import TableLayout
from cratepy.execution.writes.values import text_column
from cratepy.model.arrow import stored_type
from cratepy.model.names import check_column_name
from cratepy.model.schema import SYSTEM_COLUMNS
from cratepy.model.types import TEXT, DataType
from cratepy.records import dataclass

_TRUE: Final = ["true", "t", "TRUE", "True"]
_FALSE: Final = ["false", "f", "FALSE", "False"]
#: Kinds whose texts Arrow parses as CrateDB does; the others are converted value by value.
_PARSED: Final = frozenset(
    {"boolean", "byte", "smallint", "integer", "bigint", "double precision", "text"}
    | {"timestamp with time zone", "timestamp without time zone"}
)


@dataclass(slots=True)
class ParsedBlock:
    """Rows of a block; ``columns[i]`` belongs to ``targets[i]``; ``line_of`` gives the line of a row."""

    count: int
    targets: tuple[str, ...]
    columns: list[list[Any] | pa.Array]
    line_of: Callable[[int], int]
    errors: dict[int, CrateError] = field(default_factory=dict)
    #: Per target: rows that did not name it (JSON), so that they get its default.
    absent: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class CsvMemory:
    """The first of the ``_CSV_MODES`` that may fit the next block of a file."""

    mode: str = "plain"


# --- CSV -------------------------------------------------------------------------------------------------------------


#: What Arrow's reader is asked for, best first: columns of their types, timestamps with an offset, timestamps as texts
#: (milliseconds, most of all: what CrateDB writes), all as texts.
_CSV_MODES: Final = ("plain", "zoned", "stamps", "texts")


def csv_header(data: bytes, options: CopyOptions) -> tuple[tuple[str, ...], bytes, int]:
    """The names in the first record, the rest of the block, and how many lines the header took."""
    lines = 0
    for _ in range(options.skip_lines):
        end = data.find(b"\n") + 1
        if end == 0:
            break
        data, lines = data[end:], lines + 1
    if not options.has_header:
        return (), data, lines
    end = data.find(b"\n") + 1 or len(data)
    text = data[:end].decode("utf-8-sig", errors="replace").rstrip("\r\n")
    names = next(csv.reader([text], delimiter=options.delimiter), [])
    return tuple(name.strip() for name in names), data[end:], lines + 1


def parse_csv(
    data: bytes,
    names: Sequence[str],
    wanted: Sequence[str],
    layout: TableLayout,
    first_line: int,
    options: CopyOptions,
    memory: CsvMemory,
) -> ParsedBlock:
    """A block of records. ``names`` are the file's columns, ``wanted`` those to import; new columns are texts."""
    targets = tuple(name for name in names if name in wanted)
    unknown = next((name for name in names if name not in layout.position_by_name and name not in wanted), None)
    table = None
    if unknown is None:
        for mode in _CSV_MODES[_CSV_MODES.index(memory.mode) :]:
            table = _arrow_csv(data, names, targets, layout, options, mode=mode)
            if table is not None:
                # Odd values in one block are no reason to look at each of all others.
                memory.mode = memory.mode if mode == "texts" else mode
                break
    if table is None:
        return _csv_by_record(data, names, targets, unknown, first_line, options)
    columns: list[list[Any] | pa.Array] = []
    for name in targets:
        data_type = _type_of(name, layout)
        array = table.column(name).combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
        columns.append(_of_type(array, data_type))
    return ParsedBlock(table.num_rows, targets, columns, _LazyCsvLines(data, first_line, options))


def _type_of(name: str, layout: TableLayout) -> DataType:
    """Text for a column that is added, because all that is in a CSV file is."""
    column = layout.find(name)
    return TEXT if column is None else column.type


def _of_type(array: pa.Array, data_type: DataType) -> list[Any] | pa.Array:
    """A parsed column as it is stored, or raw values if that needs a look at each."""
    if array.type == stored_type(data_type) and data_type.kind in _PARSED:
        return array
    if pa.types.is_timestamp(array.type):
        return array.cast(pa.timestamp("ms"))
    if pa.types.is_string(array.type):
        converted = text_column(array, data_type)
        if converted is not None:
            return converted
    values: list[Any] = array.to_pylist()
    return values


def _arrow_csv(
    data: bytes,
    names: Sequence[str],
    targets: Sequence[str],
    layout: TableLayout,
    options: CopyOptions,
    *,
    mode: str,
) -> pa.Table | None:
    """The targets by Arrow's reader; None if a record does not fit."""
    types = {}
    for name in targets:
        data_type = _type_of(name, layout)
        if data_type.kind not in _PARSED or mode == "texts" or (mode == "stamps" and data_type.is_timestamp):
            types[name] = pa.string()
        elif data_type.kind == "timestamp with time zone" and mode == "zoned":
            types[name] = pa.timestamp("ms", tz="UTC")
        else:
            types[name] = stored_type(data_type)
    try:
        return pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(column_names=list(names), use_threads=False),
            parse_options=pacsv.ParseOptions(delimiter=options.delimiter, newlines_in_values=b'"' in data),
            convert_options=pacsv.ConvertOptions(
                column_types=types,
                include_columns=list(targets),
                null_values=[""] if options.empty_string_as_null else [],
                strings_can_be_null=options.empty_string_as_null,
                quoted_strings_can_be_null=options.empty_string_as_null,
                true_values=_TRUE,
                false_values=_FALSE,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _csv_by_record(
    data: bytes,
    names: Sequence[str],
    targets: tuple[str, ...],
    unknown: str | None,
    first_line: int,
    options: CopyOptions,
) -> ParsedBlock:
    """Record by record: too many values are an error of the record, too few leave the last columns NULL."""
    places = [names.index(name) for name in targets]
    columns: list[list[Any] | pa.Array] = [[] for _ in targets]
    errors: dict[int, CrateError] = {}
    lines: list[int] = []
    reader = csv.reader(text_of(data), delimiter=options.delimiter)
    row = 0
    line = first_line
    while True:
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            record, errors[row] = [], BadRequest(f"CSV parser error at line {line}: {error}")
        if record or row in errors:
            lines.append(line)
            if len(record) > len(names):
                errors[row] = BadRequest(f"Number of values exceeds number of keys in csv file at line {line}")
            elif unknown is not None:
                errors[row] = ColumnUnknown(f"Column {unknown} unknown")
            for values, place in zip(columns, places, strict=True):
                value: str | None = record[place] if place < len(record) and row not in errors else None
                values.append(None if value == "" and options.empty_string_as_null else value)
            row += 1
        line = first_line + reader.line_num
    return ParsedBlock(row, targets, columns, lines.__getitem__, errors)


class _LazyCsvLines:
    """Line numbers of records, counted only if somebody asks (a row failed)."""

    def __init__(self, data: bytes, first_line: int, options: CopyOptions) -> None:
        self._data = data
        self._first_line = first_line
        self._options = options
        self._lines: list[int] | None = None

    def __call__(self, row: int) -> int:
        if self._lines is None:
            reader = csv.reader(text_of(self._data), delimiter=self._options.delimiter)
            self._lines = []
            line = self._first_line
            for record in reader:
                if record:
                    self._lines.append(line)
                line = self._first_line + reader.line_num
        return self._lines[row] if row < len(self._lines) else self._first_line + row


# --- JSON ------------------------------------------------------------------------------------------------------------

_DECODER: Final = msgspec.json.Decoder()


def json_decoder(wanted: Sequence[str]) -> msgspec.json.Decoder[Any]:
    """A decoder of objects that name no other columns than these; three times as fast as one for any object."""
    fields: list[tuple[str, Any, Any]] = [(f"f{i}", Any, msgspec.UNSET) for i in range(len(wanted))]
    names = {f"f{i}": name for i, name in enumerate(wanted)}
    row_type = msgspec.defstruct("JsonRow", fields, rename=names, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(row_type)


@dataclass(slots=True)
class JsonMemory:
    """How the rows of a file are parsed: by Arrow with these schemas, in the order to try, or by ``decoder``.

    There are no schemas if a column needs a look at each value, or if it matters whether a row names a column.
    """

    decoder: msgspec.json.Decoder[Any]
    schemas: list[pa.Schema]


def json_memory(wanted: Sequence[str], layout: TableLayout, *, needs_absent: bool) -> JsonMemory:
    """For a file with the wanted columns; ``needs_absent`` if some of them have defaults or are generated."""
    types = [column.type for name in wanted if (column := layout.find(name)) is not None]
    schemas = []
    if not needs_absent and len(types) == len(wanted) and all(data_type.kind in _PARSED for data_type in types):
        for stamps in (pa.int64(), pa.string()):
            fields = [stamps if data_type.is_timestamp else stored_type(data_type) for data_type in types]
            schemas.append(pa.schema(list(zip(wanted, fields, strict=True))))
    return JsonMemory(json_decoder(wanted), schemas)


def _arrow_json(data: bytes, schema: pa.Schema) -> pa.Table | None:
    """All rows by Arrow's reader, which holds no lock of Python; None if a row does not fit."""
    try:
        return pajson.read_json(
            pa.BufferReader(data),
            read_options=pajson.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:
        return None


def parse_json(
    data: bytes, wanted: Sequence[str], layout: TableLayout, first_line: int, memory: JsonMemory, *, adds: bool
) -> ParsedBlock:
    """A block of lines with one object each; with ``adds`` unknown names become new columns."""
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    for schema in memory.schemas:
        table = _arrow_json(data, schema)
        if table is not None and table.num_rows == lines:
            memory.schemas = [schema]
            columns = [_of_json(table.column(name), layout.column(name).type) for name in wanted]
            return ParsedBlock(lines, tuple(wanted), columns, lambda row: first_line + row)
    return _parse_objects(data, wanted, layout, first_line, memory.decoder, adds=adds)


def _of_json(column: pa.ChunkedArray, data_type: DataType) -> list[Any] | pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    return array.cast(stored_type(data_type)) if pa.types.is_int64(array.type) else _of_type(array, data_type)


def _parse_objects(
    data: bytes,
    wanted: Sequence[str],
    layout: TableLayout,
    first_line: int,
    decoder: msgspec.json.Decoder[Any],
    *,
    adds: bool,
) -> ParsedBlock:
    """Each line an object that names wanted columns only; ``decoder`` is :func:`json_decoder` of them."""
    try:
        rows = decoder.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _parse_any_json(data, wanted, layout, first_line, adds=adds)
    if len(rows) != data.count(b"\n") + (not data.endswith(b"\n")):
        # Blank lines: rows are not lines.
        return _parse_any_json(data, wanted, layout, first_line, adds=adds)
    # One column at a time: thirty thousand tuples would keep the garbage collector busier than the parser.
    columns: list[list[Any] | pa.Array] = [list(map(attrgetter(f"f{i}"), rows)) for i in range(len(wanted))]
    absent: dict[str, list[int]] = {}
    for name, values in zip(wanted, columns, strict=True):
        assert isinstance(values, list)
        if msgspec.UNSET in values:
            missing = [row for row, value in enumerate(values) if value is msgspec.UNSET]
            absent[name] = missing
            for row in missing:
                values[row] = None
    return ParsedBlock(len(rows), tuple(wanted), columns, lambda row: first_line + row, {}, absent)


def _parse_any_json(
    data: bytes, wanted: Sequence[str], layout: TableLayout, first_line: int, *, adds: bool
) -> ParsedBlock:
    """Line by line: some line is no object, or names other columns, or is blank."""
    errors: dict[int, CrateError] = {}
    rows, lines = _json_by_line(data, first_line, errors)
    known = {*layout.position_by_name, *wanted}
    added: dict[str, None] = {}
    for row, record in enumerate(rows):
        if not record.keys() <= known:
            unknown = [name for name in record if name not in known]
            try:
                check_new_columns(unknown, adds=adds)
            except CrateError as error:
                errors.setdefault(row, error)
            else:
                added.update(dict.fromkeys(unknown))
    wanted = (*wanted, *added)
    columns: list[list[Any] | pa.Array] = [[record.get(name) for record in rows] for name in wanted]
    absent: dict[str, list[int]] = {}
    for name, values in zip(wanted, columns, strict=True):
        missing = [row for row, value in enumerate(values) if value is None and name not in rows[row]]
        if missing:
            absent[name] = missing
    for row in errors:
        for values in columns:
            assert isinstance(values, list)
            values[row] = None
    return ParsedBlock(len(rows), wanted, columns, lines.__getitem__, errors, absent)


def check_new_columns(names: Sequence[str], *, adds: bool) -> None:
    """Whether a row may add these columns. Raises ColumnUnknown, InvalidColumnName."""
    for name in names:
        if not adds:
            raise ColumnUnknown(f"Column {name} unknown")
        check_column_name(name)
        if name in SYSTEM_COLUMNS:
            raise InvalidColumnName(f'"{name}" conflicts with system column')


def _json_by_line(
    data: bytes, first_line: int, errors: dict[int, CrateError]
) -> tuple[list[dict[str, Any]], list[int]]:
    """Lines decoded alone; a line that is no object is an empty one with an error. Blank lines are none."""
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for offset, line in enumerate(data.split(b"\n")):
        text = line.strip()
        if not text:
            continue
        lines.append(first_line + offset)
        try:
            record = _DECODER.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            errors[len(rows)] = BadRequest(f"JSON parser error: {error}")
            record = {}
        if not isinstance(record, dict):
            errors[len(rows)] = BadRequest("JSON parser error: the line is not an object")
            record = {}
        rows.append(record)
    return rows, lines
