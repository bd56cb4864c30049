"""Encodings: how one column of one block is laid out as bytes. Documented byte by byte in docs/architecture/storage.md.

In: an array at rest. Out: a :class:`Piece`'s description and its bytes; and back. Chosen per block by measuring: whatever
is smallest and can still be read row by row without decoding the block. Nothing here knows files or compression.

    NULL        nothing: all values are NULL
    FRAME       integers as base + a narrow unsigned integer; with ``step`` 64 each 64 rows have a base of their own
    SEQUENCE    nothing: base + step · row (sequence numbers)
    DICTIONARY  distinct values, and for each row which one it is
    PLAIN       Arrow's own buffers; the offsets of texts are narrower
    ARROW       an Arrow IPC message: lists, decimals, intervals
    SAME        nothing: the text of another column (``_id`` of a table with one key column)
    KEYS        fixed-length texts that end in 48 bits of base64url (generated ids): few heads, tails as integers

Source: frame of reference and dictionaries as in Parquet, Lucene's doc values, DuckDB; the group of 64 rows is ours.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from cratepy.model import compute as pc
from cratepy.storage.integer_texts import integers_of
from cratepy.storage.operations import Scalar

#: Rows with a base (integers) or an anchor (offsets of texts) in common.
GROUP_ROWS: Final = 64
#: Characters of generated ids, and of those the ones that count.
KEY_CHARS: Final = 20
TAIL_CHARS: Final = 8
#: An encoding with an indirection must save a quarter.
_WORTH: Final = 0.75
_SAMPLE_ROWS: Final = 1_024
_DICTIONARY_VALUES_MAX: Final = 65_536
ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_UNSIGNED: Final[dict[int, Any]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_SIGNED: Final[dict[int, Any]] = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}


class Encoding(IntEnum):
    NULL = 0
    FRAME = 1
    SEQUENCE = 2
    DICTIONARY = 3
    PLAIN = 4
    ARROW = 5
    SAME = 6
    KEYS = 7


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """One column of one block, as ``meta`` describes it. What base, step, width and count mean is the encoding's."""

    encoding: Encoding
    null_count: int
    #: See :mod:`cratepy.storage.statistics`.
    minimum: Scalar
    maximum: Scalar
    base: int = 0
    step: int = 0
    #: Bytes of an index, a difference or an offset; 0: there are none, they would all be the same.
    width: int = 0
    #: Values of a dictionary, heads of KEYS.
    count: int = 0
    #: The column that SAME refers to.
    source: str = ""
    #: Where the bytes are in ``columns``, how many, and their crc32c.
    offset: int = 0
    size: int = 0
    checksum: int = 0
    #: Bytes after decompression (zstd); 0: they are not compressed.
    raw_size: int = 0


class Body:
    """Parts of a piece's bytes, each at a multiple of 8."""

    def __init__(self) -> None:
        self._parts: list[Any] = []

    def add(self, data: Any) -> None:
        """An array is copied by :meth:`bytes` only."""
        size = len(data) if isinstance(data, bytes) else data.nbytes
        self._parts.append(data if isinstance(data, bytes) else np.ascontiguousarray(data))
        self._parts.append(bytes(-size % 8))

    def bytes(self) -> bytes:
        return b"".join(self._parts)


class Parts:
    """Reads the parts of a body again, in order, without a copy."""

    def __init__(self, data: pa.Buffer) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> pa.Buffer:
        found = self._data.slice(self._at, size)
        assert found.size == size, "the checksum was right, so the bytes are there"
        self._at += size + -size % 8
        return found

    def array(self, count: int, dtype: Any) -> np.ndarray:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype=dtype)

    def unsigned(self, count: int, width: int) -> np.ndarray:
        return self.array(count, _UNSIGNED[width])

    def rest(self) -> pa.Buffer:
        return self._data.slice(self._at)

    def validity(self, piece: Piece, rows: int) -> pa.Buffer | None:
        return self.take((rows + 7) // 8) if piece.null_count else None


def is_fixed(arrow_type: pa.DataType) -> bool:
    """Whether values are of 1, 2, 4 or 8 bytes."""
    return bool(
        pa.types.is_integer(arrow_type)
        or pa.types.is_floating(arrow_type)
        or pa.types.is_timestamp(arrow_type)
        or pa.types.is_date32(arrow_type)
    )


# --- encoding --------------------------------------------------------------------------------------------------------


def encode(
    array: pa.Array, minimum: Scalar, maximum: Scalar, *, is_id: bool = False, key: tuple[str, pa.Array] | None = None
) -> tuple[Piece, bytes]:
    """The smallest piece for a column of a block; offset, size and checksum are the writer's to add.

    ``key``: the column that ``_id`` may be the text of.
    """
    rows, nulls, arrow_type = len(array), array.null_count, array.type
    head = Piece(Encoding.NULL, nulls, minimum, maximum)
    if nulls == rows:
        return head, b""
    if is_fixed(arrow_type):
        return _encode_fixed(array, head)
    if arrow_type == pa.string():
        if is_id:
            if key is not None and _is_text_of(array, key[1]):
                return _with(head, encoding=Encoding.SAME, source=key[0]), b""
            found = _encode_keys(array, head)
            if found is not None:
                return found
        return _encode_text(array, head)
    if pa.types.is_boolean(arrow_type):
        if nulls == 0 and minimum == maximum:
            return _with(head, encoding=Encoding.FRAME, base=int(bool(minimum))), b""
        body = Body()
        _valid(body, array)
        body.add(_bits(array.fill_null(False) if nulls else array))
        return _with(head, encoding=Encoding.PLAIN), body.bytes()
    whole = pa.concat_arrays([array]) if array.offset else array
    message = pa.RecordBatch.from_arrays([whole], names=["v"]).serialize()
    return _with(head, encoding=Encoding.ARROW), message.to_pybytes()


def _with(piece: Piece, **changes: Any) -> Piece:
    return msgspec.structs.replace(piece, **changes)


def _bits(booleans: pa.Array) -> np.ndarray:
    """A bit per value of an array without NULLs; those behind the last are 0."""
    rows, first = len(booleans), booleans.offset
    if first % 8 or rows % 8:
        return np.packbits(booleans.to_numpy(zero_copy_only=False), bitorder="little")
    return np.frombuffer(booleans.buffers()[1], np.uint8, rows // 8, first // 8)


def _valid(body: Body, array: pa.Array) -> np.ndarray | None:
    """Add the validity bitmap if there are NULLs; booleans per row then."""
    if not array.null_count:
        return None
    valid: np.ndarray = array.is_valid().to_numpy(zero_copy_only=False)
    body.add(np.packbits(valid, bitorder="little"))
    return valid


# --- numbers ---------------------------------------------------------------------------------------------------------


def _encode_fixed(array: pa.Array, head: Piece) -> tuple[Piece, bytes]:
    rows, width = len(array), array.type.bit_width // 8
    values = np.frombuffer(array.buffers()[1], _SIGNED[width], rows, array.offset * width)
    body = Body()
    valid = _valid(body, array)
    if valid is not None:
        # Whatever lies below a NULL must not make the frame wider.
        values = np.where(valid, values, values[int(valid.argmax())])
    if pa.types.is_floating(array.type):
        piece, size = _with(head, encoding=Encoding.PLAIN, width=width), rows * width
        bases = None
    else:
        low, high = int(values.min()), int(values.max())
        if valid is None and low < high:
            piece = _with(head, encoding=Encoding.SEQUENCE, base=int(values[0]), step=_step(values))
            if piece.step:
                return piece, b""
        piece, bases, size = _frame(values, low, high, head)
    if size >= 4 * rows >= 4 * GROUP_ROWS and not (rows > 2 * _SAMPLE_ROWS and all(map(_is_diverse, _samples(values)))):
        found = _dictionary(pa.Array.from_buffers(_integer_type(width), rows, [None, pa.py_buffer(values)]))
        if found is not None and rows * found[2] + found[1].nbytes <= size * _WORTH:
            indices, distinct, index_width = found
            if index_width:
                body.add(indices.astype(_UNSIGNED[index_width]))
            body.add(distinct.to_numpy())
            return _with(head, encoding=Encoding.DICTIONARY, width=index_width, count=len(distinct)), body.bytes()
    if piece.encoding is Encoding.PLAIN:
        body.add(values)
    else:
        _add_frame(body, values, piece, bases)
    return piece, body.bytes()


def _integer_type(width: int) -> pa.DataType:
    return {1: pa.int8(), 2: pa.int16(), 4: pa.int32(), 8: pa.int64()}[width]


def _step(values: np.ndarray) -> int:
    """The constant, non-zero distance of neighbours, or 0."""
    if len(values) < 2:
        return 0
    first, second, last = int(values[0]), int(values[1]), int(values[-1])
    step = second - first
    if last - first != step * (len(values) - 1) or not bool((values[1:] - values[:-1] == step).all()):
        return 0
    return step


def _width_of(span: int) -> int:
    """Bytes that hold 0 to ``span``."""
    return 0 if span == 0 else 1 if span < 1 << 8 else 2 if span < 1 << 16 else 4 if span < 1 << 32 else 8


def _frame(values: np.ndarray, low: int, high: int, head: Piece) -> tuple[Piece, np.ndarray | None, int]:
    """The best frame or PLAIN, its groups' bases, its bytes."""
    rows, width = len(values), values.dtype.itemsize
    frame = _width_of(high - low)
    piece, bases, size = _with(head, encoding=Encoding.PLAIN, width=width), None, rows * width
    if frame < width:
        piece, size = _with(head, encoding=Encoding.FRAME, base=low, width=frame), rows * frame
    first = values[:GROUP_ROWS]
    if frame >= 2 and rows >= 2 * GROUP_ROWS and _width_of(int(first.max()) - int(first.min())) < frame:
        starts = np.arange(0, rows, GROUP_ROWS)
        lows, highs = np.minimum.reduceat(values, starts).astype(np.int64), np.maximum.reduceat(values, starts)
        # Modulo 2⁶⁴ the difference is right even if it does not fit in a signed number.
        grouped = _width_of(int((highs.astype(np.int64) - lows).view(np.uint64).max()))
        if rows * grouped + lows.nbytes <= size * _WORTH:
            piece = _with(head, encoding=Encoding.FRAME, step=GROUP_ROWS, width=grouped)
            bases, size = lows, rows * grouped + lows.nbytes
    return piece, bases, size


def _add_frame(body: Body, values: np.ndarray, piece: Piece, bases: np.ndarray | None) -> None:
    if bases is not None:
        body.add(bases)
    if not piece.width:
        return
    # Modulo 2 to the width of the values, differences are right and fit.
    unsigned: np.ndarray = values.view(_UNSIGNED[values.dtype.itemsize])
    lows: np.ndarray = np.asarray(piece.base if bases is None else bases, dtype=np.int64).astype(unsigned.dtype)
    differences = unsigned - (lows if bases is None else np.repeat(lows, GROUP_ROWS)[: len(values)])
    body.add(differences.astype(_UNSIGNED[piece.width]))


def _dictionary(array: pa.Array) -> tuple[np.ndarray, pa.Array, int] | None:
    """Index per row (NULL: 0), distinct values, bytes of an index; None if there are too many of them."""
    encoded = array.dictionary_encode()
    distinct = encoded.dictionary
    if not 0 < len(distinct) <= _DICTIONARY_VALUES_MAX:
        return None
    indices = encoded.indices.fill_null(0) if array.null_count else encoded.indices
    return indices.to_numpy(), distinct, _width_of(len(distinct) - 1)


def _dictionary_of_few(array: pa.Array) -> tuple[np.ndarray, pa.Array, int] | None:
    """The same of texts and bytes, unless samples show that values hardly ever repeat."""
    if len(array) > 2 * _SAMPLE_ROWS:
        step = len(array) // _SAMPLE_ROWS
        spread = array.take(pa.array(np.arange(0, len(array), step)))
        if all(
            pc.count_distinct(sample).as_py() > len(sample) * _WORTH
            for sample in (spread, array.slice(len(array) // 2, _SAMPLE_ROWS))
        ):
            return None
    return _dictionary(array)


def _samples(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows from everywhere, which show few values; and neighbours, which show values that repeat for a while."""
    middle = len(values) // 2
    return values[:: len(values) // _SAMPLE_ROWS], values[middle : middle + _SAMPLE_ROWS]


def _is_diverse(sample: np.ndarray) -> bool:
    ordered = np.sort(sample)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + 1 > len(sample) * _WORTH


# --- texts -----------------------------------------------------------------------------------------------------------


def _offsets(array: pa.Array) -> np.ndarray:
    """Where each text begins, and the end; from 0."""
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    return offsets - offsets[0]


def _data(array: pa.Array) -> np.ndarray:
    """The bytes of all texts, not copied."""
    _, offsets, data = array.buffers()
    first, last = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)[[0, -1]].tolist()
    return np.frombuffer(b"" if data is None else data.slice(first, last - first), np.uint8)


def _encode_text(array: pa.Array, head: Piece) -> tuple[Piece, bytes]:
    body = Body()
    valid = _valid(body, array)
    if valid is not None:
        # A text below a NULL would be kept otherwise.
        array = array.fill_null("")
    offsets, data = _offsets(array), _data(array)
    rows = len(array)
    lengths = np.diff(offsets)
    longest = int(lengths.max())
    if bool((lengths == longest).all()):
        width, size = 0, len(data)
    else:
        width = 2 if longest * GROUP_ROWS < 1 << 16 or _group_spans(offsets) < 1 << 16 else 4
        size = rows * width + len(data)
    if rows >= 2:
        found = _dictionary_of_few(array)
        if found is not None:
            indices, distinct, index_width = found
            values, value_offsets = _data(distinct), _offsets(distinct)
            if rows * index_width + value_offsets.nbytes + len(values) <= size * _WORTH:
                if index_width:
                    body.add(indices.astype(_UNSIGNED[index_width]))
                body.add(value_offsets)
                body.add(values)
                return _with(head, encoding=Encoding.DICTIONARY, width=index_width, count=len(distinct)), body.bytes()
    if width == 2:
        anchors: np.ndarray = offsets[::GROUP_ROWS]
        body.add(anchors.astype(np.uint32))
        body.add((offsets - np.repeat(anchors, GROUP_ROWS)[: rows + 1]).astype(np.uint16))
    elif width == 4:
        body.add(offsets.astype(np.int32))
    body.add(data)
    return _with(head, encoding=Encoding.PLAIN, width=width, step=longest if width == 0 else 0), body.bytes()


def _group_spans(offsets: np.ndarray) -> int:
    """The longest distance of an offset from its group's anchor."""
    anchors: np.ndarray = np.repeat(offsets[::GROUP_ROWS], GROUP_ROWS)[: len(offsets)]
    return int((offsets - anchors).max())


# --- keys ------------------------------------------------------------------------------------------------------------


def _is_text_of(texts: pa.Array, key: pa.Array) -> bool:
    """Whether a column's values, as text, are these texts."""
    if key.null_count or texts.null_count:
        return False
    if pa.types.is_timestamp(key.type):
        key = key.view(pa.int64())
    if pa.types.is_integer(key.type):
        numbers = integers_of(texts)
        return numbers is not None and bool((numbers == key.to_numpy()).all())
    return bool(key.type == pa.string() and key.equals(texts))


def _encode_keys(array: pa.Array, head: Piece) -> tuple[Piece, bytes] | None:
    """Generated ids, or None if some are of another kind."""
    if array.null_count or not bool((np.diff(_offsets(array)) == KEY_CHARS).all()):
        return None
    data = _data(array)
    chars = data.reshape(-1, KEY_CHARS)
    digits = _DIGITS[chars[:, -TAIL_CHARS:]]
    if int(digits.max()) > 63:
        return None
    tails = (digits.astype(np.int64) << _SHIFTS).sum(axis=1)
    head_chars = KEY_CHARS - TAIL_CHARS
    heads = pa.Array.from_buffers(
        pa.binary(head_chars), len(array), [None, pa.py_buffer(np.ascontiguousarray(chars[:, :head_chars]))]
    )
    found = _dictionary_of_few(heads)
    if found is None:
        return None
    indices, distinct, index_width = found
    starts = np.arange(0, len(array), GROUP_ROWS)
    lows = np.minimum.reduceat(tails, starts)
    relative = tails - np.repeat(lows, GROUP_ROWS)[: len(array)]
    width = max(1, _width_of(int(relative.max())))
    body = Body()
    if index_width:
        body.add(indices.astype(_UNSIGNED[index_width]))
    body.add(lows)
    body.add(relative.astype(_UNSIGNED[width]))
    body.add(b"".join(distinct.to_pylist()))
    return _with(head, encoding=Encoding.KEYS, width=index_width, step=width, count=len(distinct)), body.bytes()


_DIGITS: Final[np.ndarray] = np.full(256, 255, dtype=np.uint8)
_DIGITS[np.frombuffer(ALPHABET, np.uint8)] = np.arange(64, dtype=np.uint8)
_SHIFTS: Final[np.ndarray] = np.arange(TAIL_CHARS - 1, -1, -1, dtype=np.int64) * 6
