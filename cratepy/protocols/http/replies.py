"""Results and errors → HTTP replies, byte for byte as CrateDB's clients know them.

In: columns, rows (SQL values or Arrow batches), counts, errors. Out: bytes. Keys stand in CrateDB's order; characters
outside of the BMP are escaped as surrogate pairs; doubles print in Java's style; NaN and Infinity are strings; objects
in batches are JSON already and are passed through.
"""

from __future__ import annotations

import http
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa

from cratepy.errors import CrateError
from cratepy.model.arrow import from_arrow
from cratepy.model.pg_types import procedure_text
from cratepy.model.relations import OutputColumn
from cratepy.model.texts import interval_text
from cratepy.model.types import DataType, http_type_id
from cratepy.protocols.postgres.oids import TYPE_NAMES_BY_OID
from cratepy.protocols.values import double_text, real_text

Convert = Callable[[Any], Any]

_ASTRAL: Final = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")
_JSON_HEADER: Final = "application/json; charset=UTF-8"
_REASONS: Final = {status.value: status.phrase for status in http.HTTPStatus} | {413: "Request Entity Too Large"}


def reply(
    status: int,
    body: bytes,
    *,
    content_type: str | None = _JSON_HEADER,
    extra: str = "",
    is_head: bool = False,
) -> bytes:
    """A whole reply; ``extra`` are further header lines, each ending in CRLF."""
    kind = f"content-type: {content_type}\r\n" if content_type else ""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\n{kind}{extra}content-length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") if is_head else head.encode("latin-1") + body


def stream_head(*, extra: str = "", is_chunked: bool) -> bytes:
    """The head of a reply whose length is not known yet."""
    coding = "transfer-encoding: chunked\r\n" if is_chunked else ""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {_JSON_HEADER}\r\n{extra}{coding}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


LAST_CHUNK: Final = b"0\r\n\r\n"


def rows_head(columns: Sequence[OutputColumn], *, with_types: bool) -> bytes:
    """Everything before the first row."""
    parts = [b'{"cols":', _dump([column.name for column in columns])]
    if with_types:
        parts += [b',"col_types":', orjson.dumps([http_type_id(column.type) for column in columns])]
    parts.append(b',"rows":[')
    return b"".join(parts)


def rows_tail(rowcount: int, duration_ms: float) -> bytes:
    """Everything behind the last row."""
    return f'],"rowcount":{rowcount},"duration":{_duration(duration_ms)}}}'.encode()


def count_body(rowcount: int, duration_ms: float, *, with_types: bool, is_blank: bool = False) -> bytes:
    """The body for a statement without a result set: one empty row (none for a blank statement)."""
    types = ',"col_types":[]' if with_types else ""
    rows = "[]" if is_blank else "[[]]"
    return f'{{"cols":[]{types},"rows":{rows},"rowcount":{rowcount},"duration":{_duration(duration_ms)}}}'.encode()


def bulk_body(runs: Iterable[tuple[int, CrateError | None, int]], duration_ms: float) -> bytes:
    """The body of a bulk from (rowcount, error, how many items in a row); a failed item has rowcount -2 and its error."""
    results: list[bytes] = []
    for rowcount, error, times in runs:
        result: dict[str, Any] = {"rowcount": rowcount}
        if error is not None:
            result = {"rowcount": -2, "error": {"code": error.code, "message": error.labelled}}
        results.append(b",".join([_dump(result)] * times))
    head = f'{{"cols":[],"duration":{_duration(duration_ms)},"results":['
    return b"".join((head.encode(), b",".join(results), b"]}"))


def error_body(error: CrateError, trace: str | None = None) -> bytes:
    body: dict[str, Any] = {"error": {"message": error.labelled, "code": error.code}}
    if trace is not None:
        body["error_trace"] = trace
    return _dump(body)


def _duration(milliseconds: float) -> str:
    return double_text(round(milliseconds, 6))


def _dump(value: Any) -> bytes:
    try:
        return escape_astral(orjson.dumps(value))
    except orjson.JSONEncodeError:
        # A lone surrogate in a message; it can only have come from a client's own text.
        return escape_astral(orjson.dumps(_repaired(value)))


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _repaired(item) for key, item in value.items()}
    return [_repaired(item) for item in value] if isinstance(value, list) else value


def escape_astral(data: bytes) -> bytes:
    """Four-byte UTF-8 sequences as ``\\uXXXX\\uXXXX``, as CrateDB's JSON library writes them."""
    if _ASTRAL.search(data) is None:
        return data
    return _ASTRAL.sub(_surrogates, data)


def _surrogates(match: re.Match[bytes]) -> bytes:
    code = ord(match.group().decode()) - 0x10000
    return f"\\u{0xD800 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}".encode()


class JsonRows:
    """Encodes the rows of one result as JSON arrays, comma-separated, without the brackets around them all."""

    def __init__(self, columns: Sequence[OutputColumn]) -> None:
        self._columns = tuple(columns)
        self._converts = [_converter(column.type) for column in columns]
        self._is_plain = not any(self._converts)

    def encode(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Rows of SQL values."""
        if self._is_plain:
            return escape_astral(orjson.dumps(rows)[1:-1])
        converts = self._converts
        converted = [
            [
                value if value is None or convert is None else convert(value)
                for value, convert in zip(row, converts, strict=True)
            ]
            for row in rows
        ]
        return escape_astral(orjson.dumps(converted)[1:-1])

    def encode_batch(self, batch: pa.RecordBatch) -> bytes:
        """Rows of an Arrow batch, converted column by column."""
        if not self._columns:
            return b",".join([b"[]"] * batch.num_rows)
        columns = [
            _json_column(batch.column(i), column.type, convert)
            for i, (column, convert) in enumerate(zip(self._columns, self._converts, strict=True))
        ]
        return escape_astral(orjson.dumps(list(zip(*columns, strict=True)))[1:-1])


class JsonLines:
    """Encodes each row of a batch for itself: as an array, or as an object if there are names.

    Without ``with_nulls`` an object has no keys for what is NULL.
    """

    def __init__(
        self, columns: Sequence[OutputColumn], names: Sequence[str] | None, *, with_nulls: bool = True
    ) -> None:
        self._with_nulls = with_nulls
        self._types = [column.type for column in columns]
        # Bits are their digits, as a cast to bits reads them.
        self._converts = [None if kind.kind == "bit" else _converter(kind) for kind in self._types]
        self._names = names

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        """A line per row; further columns of the batch are not looked at."""
        columns = [
            _json_column(batch.column(i), data_type, convert)
            for i, (data_type, convert) in enumerate(zip(self._types, self._converts, strict=True))
        ]
        rows = zip(*columns, strict=True)
        if self._names is None:
            return [orjson.dumps(row) for row in rows]
        names = self._names
        if self._with_nulls:
            return [orjson.dumps(dict(zip(names, row, strict=True))) for row in rows]
        return [
            orjson.dumps({name: value for name, value in zip(names, row, strict=True) if value is not None})
            for row in rows
        ]


def _json_column(array: pa.Array, data_type: DataType, convert: Convert | None) -> list[Any]:
    if data_type.kind in ("object", "geo_shape"):
        # JSON text already; orjson copies it.
        return [None if text is None else orjson.Fragment(text) for text in array.cast(pa.string()).to_pylist()]
    values = from_arrow(array, data_type)
    if convert is None:
        return values
    return [None if value is None else convert(value) for value in values]


def _double(value: float) -> Any:
    magnitude = -value if value < 0 else value
    if 1e-3 <= magnitude < 1e7 or magnitude == 0:
        return value
    text = double_text(value)
    return text if text[-1] in "Ny" else orjson.Fragment(text)


def _real(value: float) -> Any:
    text = real_text(value)
    return text if text[-1] in "Ny" else orjson.Fragment(text)


_CONVERTS: Final[dict[str, Convert]] = {
    "real": _real,
    "double precision": _double,
    "numeric": orjson.Fragment,
    "interval": interval_text,
    "bit": lambda value: f"B'{value}'",
    "geo_point": lambda value: [_double(item) for item in value],
    "float_vector": lambda value: [_real(item) for item in value],
    "regproc": procedure_text,
    "regtype": lambda value: TYPE_NAMES_BY_OID.get(value, str(value)),
}


def _converter(data_type: DataType) -> Convert | None:
    """How a value of the type is made something that orjson writes right; None: it is already."""
    if data_type.kind == "array":
        assert data_type.element is not None
        convert = _converter(data_type.element)
        return None if convert is None else lambda value: [None if v is None else convert(v) for v in value]
    if data_type.kind == "record":
        converts = [_converter(field.type) for field in data_type.fields]
        if not any(converts):
            return None
        return lambda value: [
            item if item is None or convert is None else convert(item)
            for item, convert in zip(value, converts, strict=False)
        ]
    return _CONVERTS.get(data_type.kind)
