"""NOT NULL, DEFAULT and CHECK of parts of object columns: ``o OBJECT AS (a INTEGER DEFAULT 5 NOT NULL)``.

In: the columns of a CREATE TABLE as written. Out: the rules as the definition keeps them, by path. They hold where the object is
there: a NULL object gets no defaults; a part that must not be NULL makes the object one that must be there, as in CrateDB. Parts of
objects inside arrays have no rules.
"""

from __future__ import annotations

from collections.abc import Iterator

from cratepy.errors import UnsupportedFeature
from cratepy.model.schema import PartDefault
from cratepy.model.search import part_path
from cratepy.sql.analyze.context import Context
from cratepy.sql.parse import tree


def parts_of(columns: tuple[tree.ColumnDef, ...]) -> Iterator[tuple[str, tree.ColumnDef]]:
    """The parts that have rules, by path. Raises UnsupportedFeature for rules no part can have."""
    for column in columns:
        if column.type is not None:
            yield from _inside(column.type, (column.name,), is_in_array=column.type.depth > 0)


def _inside(
    written: tree.TypeName, path: tuple[str, ...], *, is_in_array: bool
) -> Iterator[tuple[str, tree.ColumnDef]]:
    for part in written.columns or ():
        inner = (*path, part.name)
        shown = part_path(inner[0], *inner[1:])
        if part.generated is not None:
            raise UnsupportedFeature(f"Generated parts of object columns are not supported: {shown}")
        if part.default is not None or part.is_nullable is False or part.checks:
            if is_in_array:
                raise UnsupportedFeature(f"Constraints inside arrays of objects are not supported: {shown}")
            yield shown, part
        if part.type is not None:
            yield from _inside(part.type, inner, is_in_array=is_in_array or part.type.depth > 0)


def check_no_rules(written: tree.TypeName | None, name: str) -> None:
    """Raises UnsupportedFeature if parts of a column that is added have rules."""
    if written is not None:
        for shown, _ in _inside(written, (name,), is_in_array=False):
            raise UnsupportedFeature(f"Constraints on parts of object columns cannot be added: {shown}")


def required_parts(columns: tuple[tree.ColumnDef, ...]) -> tuple[str, ...]:
    """The parts that must not be NULL."""
    return tuple(path for path, part in parts_of(columns) if part.is_nullable is False)


def part_defaults(context: Context, columns: tuple[tree.ColumnDef, ...]) -> tuple[PartDefault, ...]:
    """The DEFAULTs of parts. Raises SQLParseError, UnsupportedFeature for what cannot be one."""
    from cratepy.sql.analyze.table_definitions import default_text, written_type  # definitions hold part rules

    return tuple(
        PartDefault(path, default_text(context, path, part.default, written_type(part)))
        for path, part in parts_of(columns)
        if part.default is not None
    )


def part_checks(columns: tuple[tree.ColumnDef, ...]) -> list[tuple[str | None, str | None, tree.Node, str]]:
    """The CHECKs of parts: path, name, tree and text."""
    return [(path, *check) for path, part in parts_of(columns) for check in part.checks]
