"""Rows of SQL values → DataRow messages: the way of small results.

In: the columns of a result and their formats. Out: a :class:`RowEncoder` whose encoders were chosen once, so that a row
costs one call per value. Big results come as Arrow batches and go through ``batches``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from cratepy.model.relations import OutputColumn
from cratepy.protocols.postgres.binary import binary_encoder
from cratepy.protocols.postgres.encoder import column_formats
from cratepy.protocols.postgres.text import text_encoder

_INT4 = struct.Struct(">i").pack
_HEAD = struct.Struct(">ciH").pack
_NULL: Final = b"\xff\xff\xff\xff"


class RowEncoder:
    """Encodes the rows of one result; ``formats`` as in Bind."""

    def __init__(self, columns: Sequence[OutputColumn], formats: Sequence[int] = ()) -> None:
        self.formats = column_formats(formats, len(columns))
        self.columns = tuple(columns)
        self._encoders: list[Callable[[Any], bytes]] = [
            binary_encoder(column.type) if code else text_encoder(column.type)
            for column, code in zip(columns, self.formats, strict=True)
        ]

    def encode(self, rows: Iterable[Sequence[Any]]) -> bytes:
        """All rows as DataRow messages, in order."""
        encoders = self._encoders
        count = len(encoders)
        parts: list[bytes] = []
        for row in rows:
            size = 6 + 4 * count
            start = len(parts)
            parts.append(b"")
            for value, encode in zip(row, encoders, strict=True):
                if value is None:
                    parts.append(_NULL)
                else:
                    data = encode(value)
                    length = len(data)
                    size += length
                    parts.append(_INT4(length))
                    parts.append(data)
            parts[start] = _HEAD(b"D", size, count)
        return b"".join(parts)
