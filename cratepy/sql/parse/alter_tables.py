"""The grammar of ALTER TABLE, behind the table's name.

In: a cursor after ``ALTER TABLE name``. Out: an AlterTableNode. Its own room because ALTER TABLE is many statements with one
beginning.
"""

from __future__ import annotations

from cratepy.sql.parse import tree
from cratepy.sql.parse.columns import (
    parse_column,
    parse_column_path,
    parse_setting_name,
    parse_settings,
    parse_with_text,
)
from cratepy.sql.parse.queries import parse_qualified_name
from cratepy.sql.parse.tokens import Cursor
from cratepy.sql.parse.tree import AlterTableNode, Statement


def parse_alter_table(cursor: Cursor) -> Statement:
    """ALTER TABLE with any of its actions."""
    cursor.take("only")
    name = parse_qualified_name(cursor)
    if cursor.take("add"):
        return _add(cursor, name)
    if cursor.take("set"):
        return AlterTableNode(name=name, action="set", settings=parse_settings(cursor))
    if cursor.take("reset"):
        cursor.expect("(")
        names = [parse_setting_name(cursor)]
        while cursor.take(","):
            names.append(parse_setting_name(cursor))
        cursor.expect(")")
        return AlterTableNode(name=name, action="reset", names=tuple(names))
    if cursor.take_words("rename", "to"):
        return AlterTableNode(name=name, action="rename", names=parse_qualified_name(cursor))
    if cursor.take("rename"):
        cursor.take("column")
        old = parse_column_path(cursor)
        cursor.expect("to")
        return AlterTableNode(name=name, action="rename_column", paths=(old, parse_column_path(cursor)))
    if cursor.take("drop"):
        return _drop(cursor, name)
    if cursor.take("alter"):
        return _alter_column(cursor, name)
    if cursor.key in ("open", "close"):
        return AlterTableNode(name=name, action=cursor.advance())
    if cursor.key in ("reroute", "partition"):
        word = cursor.key.upper()
        while cursor.key != "":
            cursor.advance()
        return tree.CopyOtherNode(f"ALTER TABLE {word} is not supported")
    raise cursor.error()


def _add(cursor: Cursor, name: tuple[str, ...]) -> AlterTableNode:
    cursor.take("column")
    columns = [parse_column(cursor)]
    while cursor.take(","):
        cursor.expect("add")
        cursor.take("column")
        columns.append(parse_column(cursor))
    return AlterTableNode(name=name, action="add", columns=tuple(columns))


def _drop(cursor: Cursor, name: tuple[str, ...]) -> AlterTableNode:
    if cursor.take("constraint"):
        if_exists = cursor.take_words("if", "exists")
        return AlterTableNode(name=name, action="drop_constraint", names=(cursor.name(),), if_exists=if_exists)
    paths: list[tuple[str, ...]] = []
    optional: list[tuple[str, ...]] = []
    while True:
        cursor.take("column")
        if_exists = cursor.take_words("if", "exists")
        path = parse_column_path(cursor)
        paths.append(path)
        if if_exists:
            optional.append(path)
        if not cursor.take(","):
            return AlterTableNode(name=name, action="drop", paths=tuple(paths), optional_paths=tuple(optional))
        cursor.expect("drop")


def _alter_column(cursor: Cursor, name: tuple[str, ...]) -> AlterTableNode:
    cursor.take("column")
    path = parse_column_path(cursor)
    if cursor.take("set"):
        cursor.expect("default")
        return AlterTableNode(name=name, action="set_default", paths=(path,), default=parse_with_text(cursor))
    cursor.expect("drop")
    cursor.expect("default")
    return AlterTableNode(name=name, action="drop_default", paths=(path,))
