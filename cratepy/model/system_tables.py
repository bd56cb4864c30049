"""The tables of sys, information_schema and pg_catalog: their columns and types.

The columns are facts kept as text in ``system_tables.txt`` beside this module: CrateDB's tables in CrateDB's column order
(alphabetical), with what PostgreSQL 15 has in addition, then the PostgreSQL tables that CrateDB lacks and that clients
ask for (they are empty). A column that is never NULL says ``not null``. The rows are made by ``execution.system``.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final

from cratepy.model.names import RelationName
from cratepy.model.types import TYPE_NAMES, DataType, Field, array_of, object_of

#: Tables whose rows are what each node knows of itself: they are read on every node. All others are read on the handler.
PER_NODE_TABLES: Final = frozenset(
    RelationName("sys", name)
    for name in (
        "jobs",
        "jobs_log",
        "jobs_metrics",
        "nodes",
        "node_checks",
        "operations",
        "operations_log",
        "segments",
        "sessions",
        "shards",
    )
)

SystemColumns = tuple[tuple[str, DataType], ...]

_ENTRY = re.compile(r"^([a-z_]+)\.(\w+): ")
_PATH = re.compile(r"\['([^']*)'\]")
_NOT_NULL: Final = " not null"


@cache
def system_tables() -> dict[RelationName, SystemColumns]:
    """Every system table with its columns (name, type) in order."""
    return {name: _columns([line.removesuffix(_NOT_NULL) for line in lines]) for name, lines in _entries().items()}


@cache
def required_system_columns() -> dict[RelationName, frozenset[str]]:
    """The columns of each system table that are never NULL."""
    return {
        name: frozenset(line.split(" ", 1)[0] for line in lines if line.endswith(_NOT_NULL))
        for name, lines in _entries().items()
    }


@cache
def _entries() -> dict[RelationName, list[str]]:
    text = resources.files("cratepy.model").joinpath("system_tables.txt").read_text(encoding="utf-8")
    entries: dict[RelationName, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        head = _ENTRY.match(entry)
        assert head is not None, f"not a system table: {entry[:60]}"
        entries[RelationName(head[1], head[2])] = re.sub(r"\s+", " ", entry[head.end() :]).split(", ")
    return entries


def _columns(lines: list[str]) -> SystemColumns:
    """Columns from ``name type`` lines; ``name['part'] type`` lines are parts of the object column ``name``."""
    parts: dict[tuple[str, ...], tuple[str, ...]] = {}
    types: dict[tuple[str, ...], str] = {}
    for line in lines:
        name, _, type_name = _split_line(line)
        path = (name.split("[", 1)[0], *_PATH.findall(name))
        types[path] = type_name
        parts[path] = ()
        if len(path) > 1:
            parts[path[:-1]] = (*parts[path[:-1]], path[-1])
    return tuple((path[0], _type(path, types, parts)) for path in types if len(path) == 1)


def _split_line(line: str) -> tuple[str, str, str]:
    cut = line.rindex("'] ") + 2 if "'] " in line else line.index(" ")
    return line[:cut], " ", line[cut + 1 :]


def _type(
    path: tuple[str, ...], types: dict[tuple[str, ...], str], parts: dict[tuple[str, ...], tuple[str, ...]]
) -> DataType:
    name, depth = types[path], 0
    while name.endswith("[]"):
        name, depth = name[:-2], depth + 1
    if name == "object":
        fields = tuple(Field(part, _type((*path, part), types, parts)) for part in parts[path])
        data_type = object_of(fields)
        if depth:  # the parts of an array of objects are listed as arrays of their values
            data_type = object_of(tuple(Field(f.name, f.type.element or f.type) for f in fields))
    else:
        data_type = TYPE_NAMES[name]
    for _ in range(depth):
        data_type = array_of(data_type)
    return data_type
