"""From a piece's bytes to Arrow arrays and to single cells; the inverse of :mod:`cratepy.storage.encoding`.

In: a piece, its bytes (checked, decompressed), rows and type. Out: an array at rest (:func:`decode`), texts as views in
flight (:func:`decode_views`: the characters stay where they are), or a function row → value (:func:`piece_reader`) that
decodes its row only. PLAIN numbers and the characters of texts are read in place; frames and dictionaries of numbers are
widened, 1 to 2 values a ns.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from cratepy.model.arrow import JSON_KINDS, MS_PER_DAY, stored_type
from cratepy.model.types import DataType
from cratepy.storage.cells import CellReader, bit_reader, cell_reader
from cratepy.storage.encoding import (
    ALPHABET,
    GROUP_ROWS,
    KEY_CHARS,
    TAIL_CHARS,
    Encoding,
    Parts,
    Piece,
    is_fixed,
)

_HEAD_CHARS: Final = KEY_CHARS - TAIL_CHARS
_LETTERS: Final = np.frombuffer(ALPHABET, np.uint8)
#: The two characters of 12 bits, as they lie in memory.
_PAIRS: Final = np.stack([np.repeat(_LETTERS, 64), np.tile(_LETTERS, 64)], axis=1).copy().view(np.uint16).ravel()
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
#: Format of :meth:`memoryview.cast` for unsigned numbers of so many bytes.
_FORMATS: Final[dict[int, Any]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


def decode(piece: Piece, data: pa.Buffer, rows: int, at_rest: pa.DataType) -> pa.Array:
    """The array at rest. Not for SAME, which needs another column."""
    parts = Parts(data)
    if piece.encoding is Encoding.NULL:
        return pa.nulls(rows, at_rest)
    if piece.encoding is Encoding.ARROW:
        schema = pa.schema([pa.field("v", at_rest)])
        return pa.ipc.read_record_batch(data, schema).column(0)
    if is_fixed(at_rest):
        validity = parts.validity(piece, rows)
        if piece.encoding is Encoding.PLAIN:
            values = parts.take(rows * piece.width)
        else:
            values = pa.py_buffer(_numbers(piece, parts, rows, np.dtype(f"i{at_rest.bit_width // 8}")))
        return pa.Array.from_buffers(at_rest, rows, [validity, values], piece.null_count)
    if pa.types.is_boolean(at_rest):
        if piece.encoding is Encoding.FRAME:
            return pa.array(np.full(rows, bool(piece.base)))
        validity = parts.validity(piece, rows)
        return pa.Array.from_buffers(at_rest, rows, [validity, parts.take((rows + 7) // 8)], piece.null_count)
    assert at_rest == pa.string()
    if piece.encoding is Encoding.KEYS:
        return _keys(piece, parts, rows)
    validity = parts.validity(piece, rows)
    if piece.encoding is Encoding.DICTIONARY:
        indices, distinct = _dictionary(piece, parts, rows)
        chosen = distinct.take(pa.array(indices))
        return pa.Array.from_buffers(at_rest, rows, [validity, *chosen.buffers()[1:]], piece.null_count)
    assert piece.encoding is Encoding.PLAIN
    offsets = _offsets(piece, parts, rows)
    return pa.Array.from_buffers(at_rest, rows, [validity, pa.py_buffer(offsets), parts.rest()], piece.null_count)


def decode_views(piece: Piece, data: pa.Buffer, rows: int) -> tuple[pa.Array, int]:
    """A text column as ``string_view``, and the bytes of memory it adds to ``data``."""
    if piece.encoding is Encoding.DICTIONARY:
        parts = Parts(data)
        validity = parts.validity(piece, rows)
        indices, distinct = _dictionary(piece, parts, rows)
        _, views, *characters = distinct.cast(pa.string_view()).buffers()
        chosen = np.frombuffer(views, "V16").take(indices)
        buffers = [validity, pa.py_buffer(chosen), *characters]
        return pa.Array.from_buffers(pa.string_view(), rows, buffers, piece.null_count), chosen.nbytes
    texts = decode(piece, data, rows, pa.string())
    views = texts.cast(pa.string_view())
    made = texts.get_total_buffer_size() if piece.encoding is Encoding.KEYS else 0
    return views, 16 * rows + made


def _numbers(piece: Piece, parts: Parts, rows: int, dtype: np.dtype[Any]) -> np.ndarray:
    if piece.encoding is Encoding.SEQUENCE:
        sequence: np.ndarray = np.arange(rows, dtype=np.int64) * piece.step + piece.base
        return sequence.astype(dtype)
    if piece.encoding is Encoding.DICTIONARY:
        if not piece.width:
            return np.repeat(parts.array(1, dtype), rows)
        indices = parts.unsigned(rows, piece.width)
        return parts.array(piece.count, dtype).take(indices)
    assert piece.encoding is Encoding.FRAME
    if not piece.step:
        if not piece.width:
            return np.full(rows, piece.base, dtype)
        # The sum fits in the type, so it may be made in it.
        numbers = parts.unsigned(rows, piece.width).astype(dtype)
        numbers += dtype.type(piece.base)
        return numbers
    bases = parts.array(-(-rows // GROUP_ROWS), np.int64).astype(dtype)
    if not piece.width:
        return np.repeat(bases, GROUP_ROWS)[:rows]
    return _add_bases(parts.unsigned(rows, piece.width).astype(dtype), bases)


def _add_bases(numbers: np.ndarray, bases: np.ndarray) -> np.ndarray:
    whole = len(numbers) // GROUP_ROWS
    numbers[: whole * GROUP_ROWS].reshape(whole, GROUP_ROWS).__iadd__(bases[:whole, None])
    if whole < len(bases):
        numbers[whole * GROUP_ROWS :] += bases[whole]
    return numbers


def _offsets(piece: Piece, parts: Parts, rows: int) -> np.ndarray:
    """int32, where each text begins, and the end."""
    if piece.width == 0:
        return np.arange(rows + 1, dtype=np.int32) * np.int32(piece.step)
    if piece.width == 4:
        return parts.array(rows + 1, np.int32)
    anchors = parts.array(-(-(rows + 1) // GROUP_ROWS), np.int32)
    return _add_bases(parts.array(rows + 1, np.uint16).astype(np.int32), anchors)


def _dictionary(piece: Piece, parts: Parts, rows: int) -> tuple[np.ndarray, pa.Array]:
    """Index of each row and the distinct texts."""
    indices = parts.unsigned(rows, piece.width) if piece.width else np.zeros(rows, np.uint8)
    offsets = parts.take(4 * (piece.count + 1))
    return indices, pa.Array.from_buffers(pa.string(), piece.count, [None, offsets, parts.rest()], 0)


def _keys(piece: Piece, parts: Parts, rows: int) -> pa.Array:
    indices = parts.unsigned(rows, piece.width) if piece.width else np.zeros(rows, np.uint8)
    bases = parts.array(-(-rows // GROUP_ROWS), np.int64)
    tails = _add_bases(parts.unsigned(rows, piece.step).astype(np.int64), bases)
    heads = parts.array(piece.count * _HEAD_CHARS, np.uint8).reshape(-1, _HEAD_CHARS)
    chars: np.ndarray = np.empty((rows, KEY_CHARS), np.uint8)
    chars[:, :_HEAD_CHARS] = heads[0] if piece.count == 1 else heads[indices]
    pairs: np.ndarray = chars[:, _HEAD_CHARS:].view(np.uint16)
    for place, shift in enumerate((36, 24, 12, 0)):
        pairs[:, place] = _PAIRS[(tails >> shift) & 4095]
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(KEY_CHARS)
    return pa.Array.from_buffers(pa.string(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(chars)], 0)


# --- single cells ----------------------------------------------------------------------------------------------------


def piece_reader(
    piece: Piece, data: pa.Buffer, rows: int, at_rest: pa.DataType, data_type: DataType
) -> CellReader | None:
    """A function row → SQL value that reads in place, or None if the array must be decoded for it. Not for SAME."""
    encoding = piece.encoding
    if encoding is Encoding.NULL:
        return _read_null
    if at_rest != stored_type(data_type):
        return None
    if encoding is Encoding.ARROW or (encoding is Encoding.PLAIN and at_rest != pa.string()):
        return cell_reader(decode(piece, data, rows, at_rest), data_type)
    parts = Parts(data)
    validity = parts.validity(piece, rows)
    read: CellReader
    if encoding is Encoding.KEYS:
        read = _key_reader(piece, parts, rows)
    elif encoding is Encoding.DICTIONARY:
        read = _dictionary_reader(piece, parts, rows, at_rest, data_type)
    elif encoding is Encoding.PLAIN:
        read = _text_reader(piece, parts, rows, is_json=data_type.kind in JSON_KINDS)
    else:
        read = _number_reader(piece, parts, rows, data_type)
    if validity is None:
        return read
    is_valid = bit_reader(validity, 0)
    return lambda row: read(row) if is_valid(row) else None


def _read_null(row: int) -> None:
    return None


def _view(parts: Parts, count: int, width: int) -> memoryview:
    return memoryview(parts.take(count * width)).cast("B").cast(_FORMATS[width])


def _number_reader(piece: Piece, parts: Parts, rows: int, data_type: DataType) -> CellReader:
    base, step, factor = piece.base, piece.step, MS_PER_DAY if data_type.kind == "date" else 1
    if piece.encoding is Encoding.SEQUENCE:
        return lambda row: (base + step * row) * factor
    assert piece.encoding is Encoding.FRAME
    if data_type.kind == "boolean":
        constant = bool(base)
        return lambda row: constant
    if step:
        bases = memoryview(parts.take(-(-rows // GROUP_ROWS) * 8)).cast("B").cast("q")
        if not piece.width:
            return lambda row: bases[row // GROUP_ROWS] * factor
        near = _view(parts, rows, piece.width)
        return lambda row: (bases[row // GROUP_ROWS] + near[row]) * factor
    if not piece.width:
        value = base * factor
        return lambda row: value
    relative = _view(parts, rows, piece.width)
    return lambda row: (base + relative[row]) * factor


def _dictionary_reader(piece: Piece, parts: Parts, rows: int, at_rest: pa.DataType, data_type: DataType) -> CellReader:
    indices = _view(parts, rows, piece.width) if piece.width else bytes(rows)
    if at_rest == pa.string():
        offsets = parts.take(4 * (piece.count + 1))
        distinct = pa.Array.from_buffers(pa.string(), piece.count, [None, offsets, parts.rest()], 0)
    else:
        distinct = pa.Array.from_buffers(at_rest, piece.count, [None, parts.rest()], 0)
    value = cell_reader(distinct, data_type)
    return lambda row: value(indices[row])


def _text_reader(piece: Piece, parts: Parts, rows: int, *, is_json: bool) -> CellReader:
    """One function per kind of offsets: a call more is a third of the time."""
    read: CellReader
    if piece.width == 0:
        length = piece.step
        data = memoryview(parts.rest()).cast("B")
        read = lambda row: str(data[row * length : row * length + length], "utf-8")  # noqa: E731
    elif piece.width == 4:
        whole = _view(parts, rows + 1, 4)
        data = memoryview(parts.rest()).cast("B")
        read = lambda row: str(data[whole[row] : whole[row + 1]], "utf-8")  # noqa: E731
    else:
        anchors = _view(parts, -(-(rows + 1) // GROUP_ROWS), 4)
        near = _view(parts, rows + 1, 2)
        data = memoryview(parts.rest()).cast("B")

        def read(row: int) -> str:
            after = row + 1
            return str(data[anchors[row >> 6] + near[row] : anchors[after >> 6] + near[after]], "utf-8")

    assert GROUP_ROWS == 1 << 6
    if not is_json:
        return read
    decode_json = msgspec.json.decode
    return lambda row: decode_json(read(row))


def _key_reader(piece: Piece, parts: Parts, rows: int) -> CellReader:
    indices = _view(parts, rows, piece.width) if piece.width else bytes(rows)
    bases = memoryview(parts.take(-(-rows // GROUP_ROWS) * 8)).cast("B").cast("q")
    near = _view(parts, rows, piece.step)
    heads = parts.take(piece.count * _HEAD_CHARS).to_pybytes().decode("ascii")

    def read(row: int) -> str:
        first = indices[row] * _HEAD_CHARS
        tail = (bases[row // GROUP_ROWS] + near[row]).to_bytes(6, "big")
        # The standard library's ``urlsafe_b64encode`` takes three times as long.
        return heads[first : first + _HEAD_CHARS] + b2a_base64(tail, newline=False).translate(_URL_SAFE).decode("ascii")

    return read
