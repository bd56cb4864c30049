"""Leaves of object columns as columns of a segment: shredded from the JSON text when a segment is written.

In: an object column at rest (JSON text, or lists of it) and some of its leaves. Out: one array at rest per leaf, equal to what
the subscript gives row by row. Its own room because it is work per row at C speed: Arrow's JSON reader takes all texts of a
block at once (0.3 µs a row and leaf, without Python's lock). A value it does not take as declared sends the block the
other way, each text decoded once; so are wide objects of which each row has little. The text stays the truth: leaves can be
made again from it at any time, so a segment written before a leaf was declared needs nothing, and scans decode it on
demand. Decision 0012. Does not do yet: leaves inside IGNORED objects and in arrays of arrays of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from cratepy.errors import CrateError
from cratepy.functions.casts import json_value_as
from cratepy.model import compute as pc
from cratepy.model.arrow import arrow_type, stored_type, to_arrow
from cratepy.model.leaves import Leaf, is_leaf_source
from cratepy.model.types import DataType

if TYPE_CHECKING:
    from cratepy.storage.blocks import Layout
    from cratepy.storage.cells import CellReader

#: Kinds that Arrow's reader parses as the subscript does, and the type it is to parse them as.
_PARSED: Final[dict[str, pa.DataType]] = {
    "boolean": pa.bool_(),
    "byte": pa.int64(),
    "smallint": pa.int64(),
    "integer": pa.int64(),
    "bigint": pa.int64(),
    "real": pa.float64(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "ip": pa.string(),
    "uuid": pa.string(),
    "timestamp with time zone": pa.int64(),
    "timestamp without time zone": pa.int64(),
}
_ARROW_ERRORS: Final = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, pa.ArrowKeyError, ValueError)
#: Arrow's reader takes 0.1 µs for each leaf of each row, there or not; from so many leaves on it may be slower.
_WIDE: Final = 64
#: Objects with fewer of their leaves than this part are decoded in Python, which works per value that is there …
_SPARSE: Final = 0.2
#: … as so many rows of a block show.
_SAMPLE_ROWS: Final = 16
#: Python types that are values of the kind as they are; whole numbers within 64 bits.
_EXACT: Final[dict[str, type]] = {"bigint": int, "text": str, "boolean": bool, "double precision": float}
_BIGINT_LIMIT: Final = 2**63
#: The name of the object in what Arrow's reader parses.
_ROOT: Final = "v"


class StoredRows(Protocol):
    """Blocks of segments, whatever wrote them."""

    @property
    def row_count(self) -> int: ...
    @property
    def schema(self) -> pa.Schema: ...
    def column(self, source: str) -> pa.Array | None: ...
    def reader(self, source: str, data_type: DataType) -> CellReader: ...


# --- segments --------------------------------------------------------------------------------------------------------


def with_leaf_fields(schema: pa.Schema, layout: Layout) -> pa.Schema:
    """A segment's schema with a field for each leaf of the object columns it has, in front of the system columns."""
    names = set(schema.names)
    fields = [pa.field(leaf.source, stored_type(leaf.type)) for leaf in layout.leaves.values() if leaf.base in names]
    if not fields:
        return schema
    own = [field for field in schema if not field.name.startswith("_") and not is_leaf_source(field.name)]
    return pa.schema([*own, *fields, *(field for field in schema if field.name.startswith("_"))])


def shredded(batches: Iterable[pa.RecordBatch], schema: pa.Schema, layout: Layout) -> Iterator[pa.RecordBatch]:
    """The batches with the leaves that ``schema`` has, those they have already as they are; other columns unchanged."""
    wanted = [layout.leaves[name] for name in schema.names if is_leaf_source(name)]
    for batch in batches:
        yield with_leaves(batch, wanted) if wanted else batch


def with_leaves(batch: pa.RecordBatch, wanted: Sequence[Leaf]) -> pa.RecordBatch:
    """The batch with the wanted leaves; system columns stay last."""
    missing: dict[str, list[Leaf]] = {}
    present = {field.name: field.type for field in batch.schema}
    for leaf in wanted:
        if leaf.base in present and present.get(leaf.source) != stored_type(leaf.type):
            missing.setdefault(leaf.base, []).append(leaf)
    if not missing:
        return batch
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    system = {name: columns.pop(name) for name in list(columns) if name.startswith("_")}
    for base, leaves in missing.items():
        columns.update(zip((leaf.source for leaf in leaves), shred(columns[base], leaves), strict=True))
    columns.update(system)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def leaf_in_flight(block: StoredRows, leaf: Leaf, live: np.ndarray | None) -> tuple[pa.Array, int]:
    """A leaf that the block does not have as a column, the rows ``live`` of it, and its bytes of memory."""
    base = block.column(leaf.base)
    if base is None:
        count = block.row_count if live is None else len(live)
        return pa.nulls(count, arrow_type(leaf.type)), 0
    if live is not None:
        base = base.take(pa.array(live))
    array = shred(base, [leaf])[0].cast(arrow_type(leaf.type))
    return array, array.get_total_buffer_size()


def leaf_reader(leaf: Leaf, whole: CellReader) -> CellReader:
    """Single cells of a leaf: part of the object that ``whole`` reads."""

    def read(row: int) -> Any:
        return _value(whole(row), leaf)

    return read


# --- shredding -------------------------------------------------------------------------------------------------------


def shred(objects: pa.Array, leaves: Sequence[Leaf]) -> list[pa.Array]:
    """The leaves of a column at rest: JSON texts, or lists of them for an array of objects."""
    if not leaves:
        return []
    if objects.null_count == len(objects):
        return [pa.nulls(len(objects), stored_type(leaf.type)) for leaf in leaves]
    if len(leaves) > _WIDE and pa.types.is_string(objects.type) and _is_sparse(objects, leaves):
        return _by_presence(objects, leaves)
    if all(_is_parsed(leaf.type) for leaf in leaves):
        try:
            return _by_arrow(objects, leaves)
        except _ARROW_ERRORS:
            pass  # Some value is not what the type says at first sight: look at each.
    return _by_decoding(objects, leaves)


def _is_parsed(data_type: DataType) -> bool:
    while data_type.element is not None:
        data_type = data_type.element
    return data_type.kind in _PARSED and data_type.length is None


def _by_arrow(objects: pa.Array, leaves: Sequence[Leaf]) -> list[pa.Array]:
    """Raises one of ``_ARROW_ERRORS`` if a value is not of its leaf's type as it is written."""
    if pa.types.is_list(objects.type):
        inner = [_below(leaf, 0) for leaf in leaves]
        return _of_elements(objects, lambda texts: _by_arrow(texts, inner))
    root = _parsed_objects(objects, _Shape(leaves).arrow_type)
    return [_leaf_array(root, leaf).cast(stored_type(leaf.type)) for leaf in leaves]


def _of_elements(lists: pa.Array, parts_of: Callable[[pa.Array], list[pa.Array]]) -> list[pa.Array]:
    """Lists of the parts of all elements."""
    first, last = lists.offsets[0].as_py(), lists.offsets[-1].as_py()
    offsets = pc.subtract(lists.offsets, first)
    mask = lists.is_null() if lists.null_count else None
    return [pa.ListArray.from_arrays(offsets, p, mask=mask) for p in parts_of(lists.values.slice(first, last - first))]


def _below(leaf: Leaf, keys: int) -> Leaf:
    """The leaf as it is in an element of its array, ``keys`` keys further down."""
    assert leaf.type.element is not None
    return msgspec.structs.replace(leaf, path=leaf.path[keys:], type=leaf.type.element, array_at=None)


class _Shape:
    """The tree of objects that some leaves are in, as Arrow's reader must be told it."""

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self._parts: dict[str, _Shape] = {}
        self._leaf: pa.DataType | None = None
        self._is_array = False
        for leaf in leaves:
            shape = self
            for depth, key in enumerate(leaf.path, 1):
                shape = shape._parts.setdefault(key, _Shape(()))
                shape._is_array = shape._is_array or depth == leaf.array_at
            assert leaf.array_at != 0
            shape._leaf = _parse_type(leaf.type if leaf.array_at is None else _below(leaf, 0).type)

    @property
    def arrow_type(self) -> pa.DataType:
        if self._leaf is not None:
            return self._leaf
        parts = pa.struct([pa.field(key, part.arrow_type) for key, part in self._parts.items()])
        return pa.list_(parts) if self._is_array else parts


def _parse_type(data_type: DataType) -> pa.DataType:
    if data_type.element is not None:
        return pa.list_(_parse_type(data_type.element))
    return _PARSED[data_type.kind]


def _parsed_objects(texts: pa.Array, shape: pa.DataType) -> pa.Array:
    """The texts as structs of ``shape``; what else they hold is not looked at."""
    lines = pc.binary_join_element_wise(f'{{"{_ROOT}":', pc.fill_null(texts, "null"), "}\n", "")
    assert lines.null_count == 0
    _, offsets, data = lines.buffers()
    edges = np.frombuffer(offsets, dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
    first, last = int(edges[0]), int(edges[-1])
    table = pajson.read_json(
        pa.BufferReader(data.slice(first, last - first)),
        read_options=pajson.ReadOptions(use_threads=False, block_size=last - first + 1),
        parse_options=pajson.ParseOptions(
            explicit_schema=pa.schema([pa.field(_ROOT, shape)]), unexpected_field_behavior="ignore"
        ),
    )
    if table.num_rows != len(texts):
        raise ValueError("not one object a line")
    column = table.column(_ROOT).combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _leaf_array(array: pa.Array, leaf: Leaf) -> pa.Array:
    """The part of structs at the leaf's path; NULL where an object above it is."""
    if leaf.array_at is None:
        return pc.struct_field(array, list(leaf.path)) if leaf.path else array
    lists = pc.struct_field(array, list(leaf.path[: leaf.array_at]))
    inner = _below(leaf, leaf.array_at)
    return _of_elements(lists, lambda structs: [_leaf_array(structs, inner)])[0]


def _by_decoding(objects: pa.Array, leaves: Sequence[Leaf]) -> list[pa.Array]:
    decode = msgspec.json.decode
    values: list[Any]
    if pa.types.is_list(objects.type):
        values = [
            None if texts is None else [None if text is None else decode(text) for text in texts]
            for texts in objects.to_pylist()
        ]
    else:
        values = [None if text is None else decode(text) for text in objects.to_pylist()]
    return [to_arrow([_value(value, leaf) for value in values], leaf.type, at_rest=True) for leaf in leaves]


def _is_sparse(objects: pa.Array, leaves: Sequence[Leaf]) -> bool:
    """Whether few of the leaves are there, going by some of the rows."""
    sample = objects.take(pa.array(np.linspace(0, len(objects) - 1, _SAMPLE_ROWS, dtype=np.int64)))
    present = sum(len(part) - part.null_count for part in _by_presence(sample, leaves))
    return bool(present < _SPARSE * len(sample) * len(leaves))


def _by_presence(objects: pa.Array, leaves: Sequence[Leaf]) -> list[pa.Array]:
    """For objects of many leaves: work per value that is there, while Arrow's reader works per row and leaf."""
    tree: dict[str, Any] = {}
    for place, leaf in enumerate(leaves):
        node, depth = tree, len(leaf.path) if leaf.array_at is None else leaf.array_at
        for key in leaf.path[: depth - 1]:
            node = node.setdefault(key, {})
        # A place, or the places and the rest of the paths in an array of objects.
        below = msgspec.structs.replace(leaf, path=leaf.path[depth:])
        node.setdefault(leaf.path[depth - 1], []).append((place, below))
    rows: list[list[int]] = [[] for _ in leaves]
    values: list[list[Any]] = [[] for _ in leaves]

    def note(part: dict[str, Any], node: dict[str, Any], row: int) -> None:
        for key, value in part.items():
            wanted = node.get(key)
            if wanted is None or value is None:
                continue
            if type(wanted) is dict:
                if type(value) is dict:
                    note(value, wanted, row)
                continue
            for place, below in wanted:
                rows[place].append(row)
                values[place].append(value if not below.path else _parts(value, below.path))

    decode = msgspec.json.decode
    for row, text in enumerate(objects.to_pylist()):
        if text is not None:
            note(decode(text), tree, row)
    return [_scattered(values[i], rows[i], len(objects), leaf.type) for i, leaf in enumerate(leaves)]


def _scattered(values: list[Any], rows: list[int], count: int, data_type: DataType) -> pa.Array:
    """The values at these rows of a column, all else NULL."""
    if not values:
        return pa.nulls(count, stored_type(data_type))
    array = to_arrow([_converted(value, data_type) for value in values], data_type, at_rest=True)
    if len(rows) == count:
        return array
    places: np.ndarray = np.zeros(count, dtype=np.int32)
    is_missing: np.ndarray = np.ones(count, dtype=bool)
    places[rows] = np.arange(len(rows), dtype=np.int32)
    is_missing[rows] = False
    return array.take(pa.array(places, mask=is_missing))


def _value(value: Any, leaf: Leaf) -> Any:
    """The leaf in a decoded object; NULL where what is there is not of its type (a subscript would be an error)."""
    return _converted(_parts(value, leaf.path), leaf.type)


def _converted(value: Any, data_type: DataType) -> Any:
    if (
        type(value) is _EXACT.get(data_type.kind)
        and -_BIGINT_LIMIT <= (value if type(value) is int else 0) < _BIGINT_LIMIT
    ):
        return value
    try:
        return json_value_as(value, data_type)
    except CrateError:
        return None


def _parts(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = _part(value, key)
    return value


def _part(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [None if item is None else _part(item, key) for item in value]
    return value.get(key) if isinstance(value, dict) else None


#: For tests: both ways must give the same.
WAYS: Final[dict[str, Callable[[pa.Array, Sequence[Leaf]], list[pa.Array]]]] = {
    "arrow": _by_arrow,
    "decoding": _by_decoding,
    "presence": _by_presence,
}
