"""The grammar of statements: the first word decides, each kind has its function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cratepy.sql.parse import tree
from cratepy.sql.parse.alter_tables import parse_alter_table
from cratepy.sql.parse.analyzers import parse_create_analyzer, parse_drop_analyzer
from cratepy.sql.parse.columns import parse_like, parse_settings, parse_table_elements
from cratepy.sql.parse.expressions import parse_expression, parse_list, parse_value, starts_query
from cratepy.sql.parse.missing import parse_missing, parse_privileges
from cratepy.sql.parse.queries import parse_qualified_name, parse_query, parse_select_items
from cratepy.sql.parse.session_statements import (
    parse_alter_cluster,
    parse_close,
    parse_deallocate,
    parse_declare,
    parse_discard,
    parse_fetch,
    parse_kill,
    parse_notification,
    parse_reset,
    parse_savepoint,
    parse_set,
    parse_show,
    parse_transaction,
)
from cratepy.sql.parse.tokens import Cursor
from cratepy.sql.parse.tree import Node, Statement


def parse_statement(cursor: Cursor) -> Statement:
    """One statement up to the end of its tokens. Raises ParsingError."""
    statement = _statement(cursor)
    if cursor.key != "":
        raise cursor.error("expecting {<EOF>, ';'}")
    return statement


def _statement(cursor: Cursor) -> Statement:
    if cursor.key == "(" or cursor.key in ("select", "with", "values", "table"):
        return parse_query(cursor)
    parse = _STATEMENTS.get(cursor.key)
    if parse is None:
        raise cursor.error(
            "expecting {'SELECT', 'INSERT', 'UPDATE', 'DELETE', 'CREATE', 'ALTER', 'DROP', 'COPY', 'SET', 'SHOW', …}"
        )
    return parse(cursor)


# --- DDL -------------------------------------------------------------------------------------------------------------


def _create(cursor: Cursor) -> Statement:
    start = cursor.index
    cursor.advance()
    if cursor.take("table"):
        return _create_table(cursor)
    or_replace = cursor.take_words("or", "replace")
    if cursor.take("view"):
        name = parse_qualified_name(cursor)
        cursor.expect("as")
        text_start = cursor.start
        query = parse_query(cursor)
        return tree.CreateViewNode(
            name=name, query=query, text=cursor.snippet(text_start, cursor.index), or_replace=or_replace
        )
    if not or_replace and cursor.take("schema"):
        if_not_exists = cursor.take_words("if", "not", "exists")
        return tree.CreateSchemaNode(name=parse_qualified_name(cursor), if_not_exists=if_not_exists)
    if not or_replace and cursor.take("analyzer"):
        return parse_create_analyzer(cursor)
    return _refused(cursor, start)


#: Statements of CrateDB that this server does not have: first words → what to call them.
_UNSUPPORTED: Final = (
    ("create", "blob", "table"),
    ("create", "function"),
    ("create", "or", "replace", "function"),
    ("create", "repository"),
    ("create", "snapshot"),
    ("create", "server"),
    ("create", "foreign", "table"),
    ("create", "user"),
    ("create", "role"),
    ("create", "publication"),
    ("create", "subscription"),
    ("alter", "blob", "table"),
    ("alter", "user"),
    ("alter", "role"),
    ("drop", "user"),
    ("drop", "role"),
    ("restore", "snapshot"),
)


def _refused(cursor: Cursor, start: int) -> Statement:
    """A statement CrateDB has and this server has not, or a syntax error."""
    cursor.rewind(start)
    for words in _UNSUPPORTED:
        if all((cursor.peek(i) if i else cursor.key) == word for i, word in enumerate(words)):
            while cursor.key != "":
                cursor.advance()
            return tree.CopyOtherNode(f"{' '.join(words).upper()} is not supported")
    cursor.advance()
    raise cursor.error()


def _create_table(cursor: Cursor) -> Statement:
    if_not_exists = cursor.take_words("if", "not", "exists")
    name = parse_qualified_name(cursor)
    if cursor.take("as"):
        return tree.CreateTableNode(name=name, if_not_exists=if_not_exists, query=parse_query(cursor))
    if cursor.key == "(" and cursor.peek() == "like":
        like, like_parts = parse_like(cursor)
        return tree.CreateTableNode(name=name, if_not_exists=if_not_exists, like=like, like_parts=like_parts)
    elements = parse_table_elements(cursor)
    partitioned_by: tuple[Node, ...] = ()
    clustered_by = shards = None
    while cursor.key in ("partitioned", "clustered"):
        if cursor.take_words("partitioned", "by"):
            cursor.expect("(")
            partitioned_by = parse_list(cursor)
            cursor.expect(")")
            continue
        cursor.expect("clustered")
        if cursor.take("by"):
            cursor.expect("(")
            clustered_by = parse_value(cursor)
            cursor.expect(")")
        if cursor.take("into"):
            shards = parse_value(cursor)
            cursor.expect("shards")
        elif clustered_by is None:
            raise cursor.error("expecting {'BY', 'INTO'}")
    settings = parse_settings(cursor) if cursor.take("with") else ()
    return tree.CreateTableNode(
        name=name,
        if_not_exists=if_not_exists,
        partitioned_by=partitioned_by,
        clustered_by=clustered_by,
        shards=shards,
        settings=settings,
        **elements,
    )


def _drop(cursor: Cursor) -> Statement:
    start = cursor.index
    cursor.advance()
    if cursor.take("analyzer"):
        return parse_drop_analyzer(cursor)
    if cursor.key not in ("table", "view", "schema"):
        cursor.rewind(start)
        missing = parse_missing(cursor)
        return missing if missing is not None else _refused(cursor, start)
    kind = cursor.advance()
    if_exists = cursor.take_words("if", "exists")
    names = [parse_qualified_name(cursor)]
    while kind != "table" and cursor.take(","):
        names.append(parse_qualified_name(cursor))
    cascade = cursor.take("cascade")
    if not cascade:
        cursor.take("restrict")
    return tree.DropNode(kind=kind, names=tuple(names), if_exists=if_exists, cascade=cascade)


def _alter(cursor: Cursor) -> Statement:
    start = cursor.index
    cursor.advance()
    if cursor.take("cluster"):
        return parse_alter_cluster(cursor)
    if not cursor.take("table"):
        cursor.rewind(start)
        missing = parse_missing(cursor)
        return missing if missing is not None else _refused(cursor, start)
    return parse_alter_table(cursor)


# --- DML -------------------------------------------------------------------------------------------------------------


def _insert(cursor: Cursor) -> Statement:
    cursor.advance()
    cursor.expect("into")
    name = parse_qualified_name(cursor)
    columns: tuple[Node, ...] = ()
    if cursor.key == "(" and not starts_query(cursor):
        cursor.advance()
        columns = tuple(_target(cursor))
        cursor.expect(")")
    if not starts_query(cursor):
        raise cursor.error("expecting {'SELECT', 'WITH', 'VALUES', '('}")
    query = parse_query(cursor)
    conflict, returning = parse_insert_tail(cursor)
    return tree.InsertNode(name=name, columns=columns, query=query, conflict=conflict, returning=returning)


def _target(cursor: Cursor) -> list[Node]:
    targets = [parse_value(cursor)]
    while cursor.take(","):
        targets.append(parse_value(cursor))
    return targets


def parse_insert_tail(cursor: Cursor) -> tuple[tree.OnConflict | None, tuple[tree.SelectItem, ...]]:
    """ON CONFLICT and RETURNING."""
    conflict = None
    if cursor.take_words("on", "conflict"):
        columns: tuple[Node, ...] = ()
        if cursor.take("("):
            columns = parse_list(cursor)
            cursor.expect(")")
        cursor.expect("do")
        if cursor.take("nothing"):
            conflict = tree.OnConflict(columns, None)
        else:
            cursor.expect("update")
            cursor.expect("set")
            conflict = tree.OnConflict(columns, _assignments(cursor))
    return conflict, _returning(cursor)


def _returning(cursor: Cursor) -> tuple[tree.SelectItem, ...]:
    if not cursor.take("returning"):
        return ()
    items = parse_select_items(cursor)
    if not items:
        raise cursor.error()
    return items


def _assignments(cursor: Cursor) -> tuple[tuple[Node, Node], ...]:
    assignments = [_assignment(cursor)]
    while cursor.take(","):
        assignments.append(_assignment(cursor))
    return tuple(assignments)


def _assignment(cursor: Cursor) -> tuple[Node, Node]:
    target = parse_value(cursor)
    cursor.expect("=")
    return target, parse_expression(cursor)


def _update(cursor: Cursor) -> Statement:
    cursor.advance()
    name = parse_qualified_name(cursor)
    alias = _dml_alias(cursor, "set")
    cursor.expect("set")
    assignments = _assignments(cursor)
    where = parse_expression(cursor) if cursor.take("where") else None
    return tree.UpdateNode(name=name, alias=alias, assignments=assignments, where=where, returning=_returning(cursor))


def _delete(cursor: Cursor) -> Statement:
    cursor.advance()
    cursor.expect("from")
    name = parse_qualified_name(cursor)
    alias = _dml_alias(cursor, "where")
    where = parse_expression(cursor) if cursor.take("where") else None
    return tree.DeleteNode(name=name, alias=alias, where=where, returning=_returning(cursor))


def _dml_alias(cursor: Cursor, following: str) -> str | None:
    if cursor.take("as"):
        return cursor.name()
    if cursor.is_name() and cursor.key not in (following, "returning"):
        return cursor.name()
    return None


def _copy(cursor: Cursor) -> Statement:
    cursor.advance()
    if cursor.key == "(" and starts_query(cursor):
        _skip(cursor)
        return tree.CopyOtherNode("COPY of a query is not supported")
    name = parse_qualified_name(cursor)
    if cursor.key == "partition":
        _skip(cursor)
        return tree.CopyOtherNode("COPY with PARTITION is not supported")
    written: tuple[Node, ...] = ()
    columns_start = cursor.index
    if cursor.take("("):
        written = parse_list(cursor)
        cursor.expect(")")
    if cursor.key in ("to", "where"):
        return _copy_to(cursor, name, written)
    columns = None
    if written:
        cursor.rewind(columns_start + 1)
        columns = _copied_names(cursor)
    cursor.expect("from")
    if cursor.key == "stdin":
        _skip(cursor)
        return tree.CopyOtherNode("COPY FROM STDIN is not supported")
    source = parse_expression(cursor)
    options = parse_settings(cursor) if cursor.take("with") else ()
    returns_summary = cursor.take_words("return", "summary")
    return tree.CopyFromNode(
        name=name, columns=columns, source=source, options=options, returns_summary=returns_summary
    )


def _copied_names(cursor: Cursor) -> tuple[str, ...]:
    """The columns of a COPY FROM, which are names."""
    names = [cursor.name()]
    while cursor.take(","):
        names.append(cursor.name())
    cursor.expect(")")
    return tuple(names)


def _copy_to(cursor: Cursor, name: tuple[str, ...], columns: tuple[Node, ...]) -> Statement:
    where = parse_expression(cursor) if cursor.take("where") else None
    cursor.expect("to")
    if not cursor.take("directory"):
        _skip(cursor)
        return tree.CopyOtherNode("Using COPY TO without specifying a DIRECTORY is not supported")
    directory = parse_expression(cursor)
    options = parse_settings(cursor) if cursor.take("with") else ()
    return tree.CopyToNode(name=name, columns=columns, where=where, directory=directory, options=options)


def _skip(cursor: Cursor) -> None:
    while cursor.key != "":
        cursor.advance()


# --- the rest --------------------------------------------------------------------------------------------------------


def _table_names(cursor: Cursor) -> tuple[tuple[str, ...], ...]:
    names = [parse_qualified_name(cursor)]
    while cursor.take(","):
        names.append(parse_qualified_name(cursor))
    return tuple(names)


def _refresh(cursor: Cursor) -> Statement:
    cursor.advance()
    cursor.expect("table")
    return tree.RefreshNode(_table_names(cursor))


def _optimize(cursor: Cursor) -> Statement:
    cursor.advance()
    cursor.expect("table")
    names = _table_names(cursor)
    return tree.OptimizeNode(names, parse_settings(cursor) if cursor.take("with") else ())


def _explain(cursor: Cursor) -> Statement:
    cursor.advance()
    flags = {"analyze": False, "verbose": False, "costs": False}
    if cursor.key == "(" and cursor.peek() in flags:
        cursor.advance()
        while not cursor.take(")"):
            name = cursor.any_word()
            if name not in flags:
                raise cursor.error()
            flags[name] = True
            if cursor.key in ("true", "false", "on", "off"):
                flags[name] = cursor.advance() in ("true", "on")
            cursor.take(",")
    else:
        while cursor.key in ("analyze", "verbose"):
            flags[cursor.advance()] = True
    return tree.ExplainStatement(
        statement=_statement(cursor),
        is_analyze=flags["analyze"],
        is_verbose=flags["verbose"],
        shows_costs=flags["costs"],
    )


def _analyze(cursor: Cursor) -> Statement:
    cursor.advance()
    if cursor.is_name():
        parse_qualified_name(cursor)
    return tree.NoOperation("ANALYZE", 1)


_STATEMENTS: Final[dict[str, Callable[[Cursor], Statement]]] = {
    "insert": _insert,
    "update": _update,
    "delete": _delete,
    "create": _create,
    "drop": _drop,
    "alter": _alter,
    "copy": _copy,
    "refresh": _refresh,
    "optimize": _optimize,
    "explain": _explain,
    "analyze": _analyze,
    "set": parse_set,
    "reset": parse_reset,
    "show": parse_show,
    "begin": parse_transaction,
    "start": parse_transaction,
    "commit": parse_transaction,
    "end": parse_transaction,
    "rollback": parse_transaction,
    "abort": parse_transaction,
    "savepoint": parse_savepoint,
    "release": parse_savepoint,
    "declare": parse_declare,
    "fetch": parse_fetch,
    "move": parse_fetch,
    "close": parse_close,
    "deallocate": parse_deallocate,
    "discard": parse_discard,
    "listen": parse_notification,
    "unlisten": parse_notification,
    "notify": parse_notification,
    "kill": parse_kill,
    "grant": parse_privileges,
    "deny": parse_privileges,
    "revoke": parse_privileges,
    **{
        words[0]: (lambda cursor: _refused(cursor, cursor.index))
        for words in _UNSUPPORTED
        if words[0] not in ("create", "drop", "alter")
    },
}
