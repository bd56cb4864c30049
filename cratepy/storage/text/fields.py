"""What is indexed of a table: columns with INDEX USING fulltext, and named indexes; and their texts in a block.

In: a table's definition, blocks of a segment. Out: index sources with their analyzers; per row what goes into the index.
Only top-level columns have an index of their own; parts of objects are indexed by named indexes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import pyarrow as pa

from cratepy.errors import BadRequest
from cratepy.functions.analysis.bounds import AnalysisTooCostly
from cratepy.functions.analysis.catalog import find_analyzer, may_be_costly
from cratepy.model.schema import TableDefinition
from cratepy.model.search import AnalyzerDefinition
from cratepy.records import dataclass
from cratepy.storage.text.analyzers import Analyzer, Value, analyzer

_PATH_PART: Final = re.compile(r"\['((?:[^']|'')*)'\]")
#: Text inside of arrays inside of objects: deeper than any sane document.
_NESTING_MAX: Final = 64
_decode_json: Final = msgspec.json.Decoder().decode


class HasColumns(Protocol):
    """A block."""

    row_count: int

    def column(self, source: str) -> pa.Array | None: ...


@dataclass(frozen=True, slots=True)
class IndexedColumn:
    """A column, and for parts of an object the way to it."""

    source: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextField:
    """Something indexed. ``columns`` is empty for a field that the table does not have any more."""

    source: str
    columns: tuple[IndexedColumn, ...]
    analyzer: AnalyzerDefinition


def text_fields(definition: TableDefinition) -> tuple[TextField, ...]:
    """By oid, so that later ones come later."""
    fields: dict[int, TextField] = {}
    for column in definition.columns:
        if column.index == "fulltext":
            own = _analyzer(definition, column.analyzer)
            fields[column.oid] = TextField(f"c{column.oid}", (IndexedColumn(f"c{column.oid}"),), own)
    for index in definition.indexes:
        name = "keyword" if index.method == "plain" and index.analyzer is None else index.analyzer
        columns = tuple(found for path in index.columns if (found := _indexed_column(definition, path)) is not None)
        fields[index.oid] = TextField(f"c{index.oid}", columns, _analyzer(definition, name))
    return tuple(fields[oid] for oid in sorted(fields))


def _analyzer(definition: TableDefinition, name: str | None) -> AnalyzerDefinition:
    found = find_analyzer(name, definition.analyzers)
    # Names were checked when the table was made, and custom analyzers are copied into it.
    assert found is not None, f"{definition.name} has an unknown analyzer {name}"
    return found


def _indexed_column(definition: TableDefinition, path: str) -> IndexedColumn | None:
    column = definition.column(path)
    if column is not None:
        return IndexedColumn(f"c{column.oid}")
    name = path.partition("['")[0]
    column = definition.column(name)
    if column is None:
        return None  # Dropped since.
    parts = tuple(part.replace("''", "'") for part in _PATH_PART.findall(path[len(name) :]))
    return IndexedColumn(f"c{column.oid}", parts)


def field_values(field: TextField, made: Analyzer, block: HasColumns) -> Sequence[Value | None]:
    """What goes into the index for each row of a block."""
    arrays = [(column, block.column(column.source)) for column in field.columns]
    present = [(column, array) for column, array in arrays if array is not None]
    if not present:
        return [None] * block.row_count
    if len(present) == 1 and not present[0][0].path and present[0][1].type == pa.string():
        return made.column_values(present[0][1])
    rows = _texts_of_rows(present, block.row_count)
    return [made.joined_value(texts) if texts else None for texts in rows]


def refused_rows(
    definition: TableDefinition, columns: Mapping[int, pa.Array], count: int
) -> Iterable[tuple[int, BadRequest]]:
    """Rows that cannot be indexed and why; ``columns`` are at rest, by oid. Tables with usual analyzers cost nothing."""
    for field in costly_fields(definition):
        sources = {f"c{oid}": array for oid, array in columns.items()}
        present = [(column, sources[column.source]) for column in field.columns if column.source in sources]
        made = analyzer(field.analyzer)
        for row, texts in enumerate(_texts_of_rows(present, count)):
            try:
                made.check(texts)
            except AnalysisTooCostly as error:
                yield row, BadRequest(f"A text cannot be indexed by analyzer '{field.analyzer.name}': {error.message}")


def costly_fields(definition: TableDefinition) -> tuple[TextField, ...]:
    """Those whose texts may be refused."""
    return tuple(field for field in text_fields(definition) if may_be_costly(field.analyzer))


def _texts_of_rows(columns: Sequence[tuple[IndexedColumn, pa.Array]], count: int) -> list[list[str]]:
    rows: list[list[str]] = [[] for _ in range(count)]
    for column, array in columns:
        for texts, value in zip(rows, array.to_pylist(), strict=True):
            texts.extend(_texts(_at_path(value, column.path)))
    return rows


def _at_path(value: Any, path: Sequence[str]) -> Any:
    """The part of an object's JSON text; inside of arrays of objects all of them."""
    if not path or value is None:
        return value
    parsed = (
        [_decode_json(text) for text in value if text is not None] if isinstance(value, list) else _decode_json(value)
    )
    found = [parsed]
    for part in path:
        inner = []
        for item in found:
            for one in item if isinstance(item, list) else [item]:
                if isinstance(one, dict) and part in one:
                    inner.append(one[part])  # noqa: PERF401
        found = inner
    return found


def _texts(value: Any, depth: int = 0) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < _NESTING_MAX:
        for item in value:
            yield from _texts(item, depth + 1)
