"""From a row's key to its document id, and from the id (or the CLUSTERED BY value) to its shard.

Key values enter, ``_id`` texts and shard numbers leave. It is in the floor because writers, readers by key and the
planner must agree to the bit, on every node and for ever: a row written under another id or into another shard is lost.

* One primary key column: ``_id`` is the value's text. Several: Base64 of ``vint(count)`` and, per value,
  ``vint(length)`` and UTF-8 bytes; the CLUSTERED BY value first, the others in key order. None: 20 random characters.
* shard = floorMod(murmur3_x86_32(routing as UTF-16LE, seed 0), routing_shards) / (routing_shards / shards), where
  routing is the text of the CLUSTERED BY value, or ``_id`` if there is no such column or it is NULL.

Source: CrateDB's ``Id`` and ``OperationRouting``, Elasticsearch's ``Murmur3HashFunction``.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import mmh3
import numpy as np
import pyarrow as pa

from cratepy.clock import Clock
from cratepy.model.arrow import from_arrow
from cratepy.model.bulk_routing import hashes_of_texts
from cratepy.model.leaves import known_key_part
from cratepy.model.schema import TableDefinition
from cratepy.model.types import DataType

#: Below this many rows a Python loop is faster than the array operations.
_VECTOR_ROWS_MIN: Final = 256


# --- texts of key values ---------------------------------------------------------------------------------------------


def key_text(value: Any, data_type: DataType) -> str:
    """The text of a key value (not NULL), as a cast to text gives it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, float):
        return _float_text(value, single=data_type.kind == "real")
    return str(value)


def _float_text(value: float, *, single: bool) -> str:
    """Java's Double.toString / Float.toString: shortest digits, scientific outside 10^-3 … 10^7."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if str(value)[0] == "-" else "0.0"
    shortest = np.format_float_scientific(np.float32(value) if single else np.float64(value), trim="0", exp_digits=1)
    mantissa, exponent = shortest.split("e")
    if -3 <= int(exponent) < 7:
        number = np.float32(value) if single else np.float64(value)
        return np.format_float_positional(number, trim="0")
    return f"{mantissa}E{int(exponent)}"


def key_texts(array: pa.Array, data_type: DataType) -> list[str]:
    """The texts of a column without NULLs; :func:`key_text` of each value."""
    texts: list[str] = key_array(array, data_type).to_pylist()
    return texts


def key_array(array: pa.Array, data_type: DataType) -> pa.StringArray:
    """The texts of a column as an Arrow array; NULL where the column is."""
    if data_type.is_integer:
        return array.cast(pa.string())
    if data_type.is_timestamp:
        return array.cast(pa.int64()).cast(pa.string())
    if data_type.kind == "text" and array.type == pa.string():
        return array
    values = from_arrow(array, data_type)
    return pa.array([None if value is None else key_text(value, data_type) for value in values], pa.string())


# --- document ids ----------------------------------------------------------------------------------------------------


def _vint(number: int) -> bytes:
    """Seven bits a byte, lowest first, high bit set on all but the last."""
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def composite_id(texts: Sequence[str], clustered_position: int | None) -> str:
    """The id of a key of several columns; ``clustered_position`` is the CLUSTERED BY column's place in the key."""
    ordered = list(texts)
    if clustered_position:
        ordered.insert(0, ordered.pop(clustered_position))
    encoded = bytearray(_vint(len(ordered)))
    for text in ordered:
        data = text.encode()
        encoded += _vint(len(data))
        encoded += data
    return base64.b64encode(encoded).decode()


def clustered_position(definition: TableDefinition) -> int | None:
    """Where the CLUSTERED BY column stands in the primary key, or None."""
    if definition.clustered_by in definition.primary_key:
        return definition.primary_key.index(definition.clustered_by)
    return None


def document_id(values: Sequence[Any], definition: TableDefinition) -> str:
    """``_id`` of the row with these primary key values (in key order, none NULL)."""
    key = definition.primary_key
    assert key
    assert len(values) == len(key)
    types = [known_key_part(definition, name).type for name in key]
    texts = [key_text(value, data_type) for value, data_type in zip(values, types, strict=True)]
    return texts[0] if len(texts) == 1 else composite_id(texts, clustered_position(definition))


def document_ids(columns: Sequence[pa.Array], definition: TableDefinition) -> list[str]:
    """``_id`` of every row; ``columns`` are the primary key's, in key order, without NULLs."""
    key = definition.primary_key
    assert key
    assert len(columns) == len(key)
    types = [known_key_part(definition, name).type for name in key]
    texts = [key_texts(array, data_type) for array, data_type in zip(columns, types, strict=True)]
    if len(texts) == 1:
        return texts[0]
    position = clustered_position(definition)
    return [composite_id(row, position) for row in zip(*texts, strict=True)]


class IdMaker:
    """Ids for rows without a primary key: 72 random bits of this process and a counter, as 20 base64url characters."""

    def __init__(self, clock: Clock) -> None:
        seed = bytes.fromhex(clock.new_id().replace("-", ""))
        # Bits 48-51 and 64-65 of a UUID are fixed; the ends are random.
        self._prefix = base64.urlsafe_b64encode(seed[:6] + seed[-3:]).decode()
        self._next = int.from_bytes(seed[9:13], "big")
        self._lock = threading.Lock()

    def take(self, count: int) -> list[str]:
        """That many new ids; from any thread."""
        with self._lock:
            first = self._next
            self._next += count
        if count == 1:
            return [self._prefix + base64.urlsafe_b64encode(first.to_bytes(6, "big")).decode()]
        numbers: Any = np.arange(first, first + count, dtype=">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
        tails = base64.urlsafe_b64encode(numbers.tobytes()).decode()
        prefix = self._prefix
        return [prefix + tails[i : i + 8] for i in range(0, len(tails), 8)]


# --- shards ----------------------------------------------------------------------------------------------------------


def routing_hash(routing: str) -> int:
    """Murmur3 of the routing text, as a signed 32-bit number."""
    return mmh3.hash(routing.encode("utf-16-le"), 0)


def shard_of(routing: str, definition: TableDefinition) -> int:
    """The shard of a row with this routing text."""
    factor = definition.routing_shards // definition.shards
    return mmh3.hash(routing.encode("utf-16-le"), 0) % definition.routing_shards // factor


def shard_router(definition: TableDefinition) -> Callable[[str], int]:
    """:func:`shard_of` with the table's numbers bound, for the paths that count microseconds."""
    routing_shards = definition.routing_shards
    factor = routing_shards // definition.shards
    if definition.shards == 1:
        return lambda _routing: 0
    return lambda routing: mmh3.hash(routing.encode("utf-16-le"), 0) % routing_shards // factor


def shards_of(
    routings: Sequence[str] | pa.StringArray, definition: TableDefinition
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The shard of every row."""
    count = len(routings)
    if definition.shards == 1:
        return np.zeros(count, dtype=np.int64)
    factor = definition.routing_shards // definition.shards
    if isinstance(routings, pa.Array) or count >= _VECTOR_ROWS_MIN:
        hashes = hashes_of_texts(routings if isinstance(routings, pa.Array) else pa.array(routings, pa.string()))
    else:
        hashes = np.fromiter((mmh3.hash(text.encode("utf-16-le"), 0) for text in routings), np.int64, count)
    return hashes % definition.routing_shards // factor
