"""Leaves: the scalar parts of object columns, which segments keep as columns of their own.

In: the type of an object column. Out: its leaves, with the physical name that scans, statistics and plans know each by:
``c5['a']['b']``, quotes in names doubled. Its own room because the planner asks for leaves that storage has to have.

A leaf is a declared scalar or array of scalars that is reached through objects that are not IGNORED. Inside an array of
objects it is the array of the parts, as its subscript is. A type that nothing has told yet has no leaf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.search import part_path
from cratepy.model.types import DataType, array_of

#: Kinds of scalars that are worth a column of their own.
_KINDS: Final = frozenset(
    {
        "boolean", "byte", "smallint", "integer", "bigint", "real", "double precision", "numeric",
        "text", "character", "ip", "uuid", "timestamp with time zone", "timestamp without time zone", "date",
    }
)  # fmt: skip


class Leaf(msgspec.Struct, frozen=True):
    """``base`` is the source of the object column, ``path`` the keys from there; ``type`` that of the subscript.

    After ``array_at`` keys there is an array of objects, and the type is an array for that reason; None: nowhere.
    """

    base: str
    path: tuple[str, ...]
    type: DataType
    array_at: int | None = None

    @property
    def source(self) -> str:
        return part_path(self.base, *self.path)


def leaves_of(column: ColumnDefinition) -> Iterator[Leaf]:
    """The leaves of a column, in the order of its parts; none if it is no object."""
    base = f"c{column.oid}"
    data_type = column.type
    if data_type.kind == "object":
        yield from _leaves(base, (), data_type, None)
    elif data_type.element is not None and data_type.element.kind == "object":
        yield from _leaves(base, (), data_type.element, 0)


def _leaves(base: str, path: tuple[str, ...], data_type: DataType, array_at: int | None) -> Iterator[Leaf]:
    if data_type.policy == "ignored":
        return
    for part in data_type.fields:
        inner = (*path, part.name)
        if part.type.kind == "object":
            yield from _leaves(base, inner, part.type, array_at)
        elif part.type.element is not None and part.type.element.kind == "object":
            if array_at is None:
                yield from _leaves(base, inner, part.type.element, len(inner))
        elif _is_plain(part.type):
            yield Leaf(base, inner, part.type if array_at is None else array_of(part.type), array_at)


def _is_plain(data_type: DataType) -> bool:
    if data_type.element is not None:
        data_type = data_type.element
    if data_type.kind == "numeric" and data_type.precision is None:
        return False
    return data_type.kind in _KINDS


def leaf_at(base: str, data_type: DataType, path: tuple[str, ...]) -> Leaf | None:
    """The leaf at the path of a column of this type, or None if there is none."""
    array_at: int | None = None
    for depth, key in enumerate(path):
        if data_type.element is not None and array_at is None:
            data_type, array_at = data_type.element, depth
        part = data_type.field(key) if data_type.kind == "object" and data_type.policy != "ignored" else None
        if part is None:
            return None
        data_type = part
    if not path or not _is_plain(data_type):
        return None
    return Leaf(base, path, data_type if array_at is None else array_of(data_type), array_at)


class KeyPart(msgspec.Struct, frozen=True):
    """A column, or a part of an object column, that is in the primary key or routes rows."""

    name: str
    #: Of the column, or of the object column that the part is in.
    oid: int
    type: DataType
    leaf: Leaf | None = None

    @property
    def source(self) -> str:
        return f"c{self.oid}" if self.leaf is None else self.leaf.source


_PART: Final = re.compile(r"\['((?:[^']|'')*)'\]")


def key_part(definition: TableDefinition, name: str) -> KeyPart | None:
    """What a name such as ``id`` or ``o['id']`` in a key means; None if it is no column and no scalar part of one."""
    column = definition.column(name)
    if column is not None:
        return KeyPart(name, column.oid, column.type)
    base, path = split_path(name)
    column = definition.column(base)
    leaf = None if column is None else leaf_at(f"c{column.oid}", column.type, path)
    if column is None or leaf is None or leaf.array_at is not None:
        return None
    return KeyPart(name, column.oid, leaf.type, leaf)


def known_key_part(definition: TableDefinition, name: str) -> KeyPart:
    """:func:`key_part` of a name that is in the table's key."""
    found = key_part(definition, name)
    assert found is not None, f"no column {name}"
    return found


def split_path(name: str) -> tuple[str, tuple[str, ...]]:
    """``o['a']['b']`` → ``o`` and the keys; the inverse of ``part_path``."""
    found = _PART.search(name)
    if found is None:
        return name, ()
    return name[: found.start()], tuple(key.replace("''", "'") for key in _PART.findall(name[found.start() :]))


def is_leaf_source(source: str) -> bool:
    """Whether a physical name is that of a leaf."""
    return source.startswith("c") and "[" in source
