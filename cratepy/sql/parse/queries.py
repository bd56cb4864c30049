"""The grammar of queries: SELECT, VALUES, set operations, WITH, FROM, joins."""

from __future__ import annotations

from typing import Final

from cratepy.errors import UnsupportedFeature
from cratepy.sql.parse import tree
from cratepy.sql.parse.expressions import parse_expression, parse_list, parse_value, starts_query
from cratepy.sql.parse.functions import parse_sort_items, parse_window
from cratepy.sql.parse.tokens import QUOTED, Cursor
from cratepy.sql.parse.tree import Node, Query, QueryBody, SelectItem, TableNode
from cratepy.sql.parse.words import FUNCTION_WORDS, NO_IMPLICIT_ALIAS

_ITEM_ENDS: Final = frozenset(
    {"", ")", "from", "where", "group", "having", "order", "limit", "offset", "union", "intersect", "except", "fetch"}
)
#: What stands after a query in parentheses that is part of a larger query.
_QUERY_GOES_ON: Final = frozenset({")", "", "union", "intersect", "except", "order", "limit", "offset", "fetch"})
_JOIN_WORDS: Final = frozenset({"join", "inner", "left", "right", "full", "cross", "natural"})


def parse_query(cursor: Cursor) -> Query:
    """A query with its WITH, ORDER BY, LIMIT and OFFSET."""
    with_items: list[tree.WithItem] = []
    is_recursive = False
    if cursor.take("with"):
        is_recursive = cursor.take("recursive")
        with_items.append(_with_item(cursor))
        while cursor.take(","):
            with_items.append(_with_item(cursor))
    body = _set_operation(cursor)
    order_by = parse_sort_items(cursor) if cursor.take_words("order", "by") else ()
    if cursor.key == "order":
        cursor.advance()
        cursor.expect("by")
    limit, offset = _limit(cursor)
    return Query(body, tuple(with_items), is_recursive, order_by, limit, offset)


def _with_item(cursor: Cursor) -> tree.WithItem:
    name = cursor.name()
    columns = _names(cursor) if cursor.key == "(" else ()
    cursor.expect("as")
    if not cursor.take_words("not", "materialized"):
        cursor.take("materialized")
    cursor.expect("(")
    query = parse_query(cursor)
    cursor.expect(")")
    return tree.WithItem(name, columns, query)


def _names(cursor: Cursor) -> tuple[str, ...]:
    cursor.expect("(")
    names = [cursor.name()]
    while cursor.take(","):
        names.append(cursor.name())
    cursor.expect(")")
    return tuple(names)


def _limit(cursor: Cursor) -> tuple[Node | None, Node | None]:
    limit = offset = None
    while True:
        if cursor.key == "limit" and limit is None:
            cursor.advance()
            limit = tree.NullWord() if cursor.take("all") else _bound(cursor)
        elif cursor.key == "offset" and offset is None:
            cursor.advance()
            offset = _bound(cursor)
            if not cursor.take("rows"):
                cursor.take("row")
        elif cursor.key == "fetch" and limit is None:
            cursor.advance()
            if not cursor.take("next"):
                cursor.expect("first")
            limit = tree.NumberWord("1") if cursor.key in ("row", "rows") else _bound(cursor)
            if not cursor.take("rows"):
                cursor.expect("row")
            cursor.expect("only")
        else:
            return limit, offset


def _bound(cursor: Cursor) -> Node:
    start = cursor.index
    node = parse_value(cursor)
    inner = node
    while isinstance(inner, tree.CastNode):
        inner = inner.operand
    is_count = isinstance(inner, tree.NumberWord) and inner.text.isdigit()
    if not is_count and not isinstance(inner, tree.ParameterWord | tree.NullWord | tree.ScalarSubquery):
        # Drivers that put values into the text write '2', which PostgreSQL reads as the number.
        if not isinstance(inner, tree.StringWord) or (inner is node and not inner.value.isdecimal()):
            cursor.rewind(start)
            raise cursor.error()
    return node


def _set_operation(cursor: Cursor) -> QueryBody:
    left = _intersection(cursor)
    while cursor.key in ("union", "except"):
        kind = cursor.advance()
        is_all = cursor.take("all")
        if not is_all:
            cursor.take("distinct")
        left = tree.SetNode(kind, is_all, left, _intersection(cursor))
    return left


def _intersection(cursor: Cursor) -> QueryBody:
    left = _query_term(cursor)
    while cursor.take("intersect"):
        is_all = cursor.take("all")
        if not is_all:
            cursor.take("distinct")
        left = tree.SetNode("intersect", is_all, left, _query_term(cursor))
    return left


def _query_term(cursor: Cursor) -> QueryBody:
    if cursor.key == "select":
        return _select(cursor)
    if cursor.key == "values":
        cursor.advance()
        return parse_values(cursor)
    if cursor.key == "(" and starts_query(cursor):
        cursor.advance()
        query = parse_query(cursor)
        cursor.expect(")")
        return query
    if cursor.key == "table" and cursor.peek() != "(":
        cursor.advance()
        name = _table_name(cursor)
        return tree.Select((SelectItem(tree.Star()),), tables=(name,))
    raise cursor.error("expecting {'SELECT', 'VALUES', 'WITH', '('}")


def parse_values(cursor: Cursor) -> tree.ValuesNode:
    """Rows in parentheses; VALUES is behind the cursor."""
    rows = [_row(cursor)]
    while cursor.take(","):
        rows.append(_row(cursor))
    return tree.ValuesNode(tuple(rows))


def _row(cursor: Cursor) -> tuple[Node, ...]:
    cursor.expect("(")
    row = parse_list(cursor)
    cursor.expect(")")
    return row


def _select(cursor: Cursor) -> tree.Select:
    cursor.advance()
    is_distinct = cursor.take("distinct")
    if not is_distinct:
        cursor.take("all")
    items = parse_select_items(cursor)
    tables: list[TableNode] = []
    if cursor.take("from"):
        tables.append(_table_expression(cursor))
        while cursor.take(","):
            tables.append(_table_expression(cursor))
    where = parse_expression(cursor) if cursor.take("where") else None
    group_by: tuple[Node, ...] = ()
    groups_all = False
    if cursor.take_words("group", "by"):
        groups_all = cursor.take("all")
        if not groups_all:
            group_by = parse_list(cursor)
    having = parse_expression(cursor) if cursor.take("having") else None
    windows: list[tuple[str, tree.WindowDef]] = []
    if cursor.take("window"):
        windows.append(_named_window(cursor))
        while cursor.take(","):
            windows.append(_named_window(cursor))
    return tree.Select(items, is_distinct, tuple(tables), where, group_by, groups_all, having, tuple(windows))


def _named_window(cursor: Cursor) -> tuple[str, tree.WindowDef]:
    name = cursor.name()
    cursor.expect("as")
    return name, parse_window(cursor)


def parse_select_items(cursor: Cursor) -> tuple[SelectItem, ...]:
    """The select list (or RETURNING); may be empty."""
    if cursor.key in _ITEM_ENDS:
        return ()
    items = [_select_item(cursor)]
    while cursor.take(","):
        items.append(_select_item(cursor))
    return tuple(items)


def _select_item(cursor: Cursor) -> SelectItem:
    expression = parse_expression(cursor)
    if cursor.take("as"):
        return SelectItem(expression, cursor.any_word())
    if cursor.key == QUOTED or (cursor.is_name() and cursor.key not in NO_IMPLICIT_ALIAS):
        return SelectItem(expression, cursor.advance())
    return SelectItem(expression)


# --- FROM ------------------------------------------------------------------------------------------------------------


def _table_expression(cursor: Cursor) -> TableNode:
    left = _table(cursor)
    while cursor.key in _JOIN_WORDS:
        left = _join(cursor, left)
    return left


def _join(cursor: Cursor, left: TableNode) -> TableNode:
    is_natural = cursor.take("natural")
    kind = "inner"
    if cursor.key in ("left", "right", "full"):
        kind = cursor.advance()
        cursor.take("outer")
    elif cursor.key in ("inner", "cross"):
        kind = cursor.advance()
    cursor.expect("join")
    right = _table(cursor)
    if kind == "cross" or is_natural:
        return tree.JoinTable(kind, left, right, is_natural=is_natural)
    # ``a JOIN b JOIN c ON … ON …``: the inner join is finished first.
    while cursor.key in _JOIN_WORDS:
        right = _join(cursor, right)
    if cursor.take("using"):
        return tree.JoinTable(kind, left, right, using=_names(cursor))
    cursor.expect("on")
    return tree.JoinTable(kind, left, right, on=parse_expression(cursor))


def _table(cursor: Cursor) -> TableNode:
    if cursor.key == "lateral" and _is_lateral(cursor.peek(), cursor.peek(2)):
        raise UnsupportedFeature("LATERAL is not supported")
    if cursor.key == "(":
        cursor.advance()
        if _holds_query(cursor):
            query = parse_query(cursor)
            cursor.expect(")")
            alias, columns = _alias(cursor)
            return tree.DerivedTable(query, alias, columns)
        inner = _table_expression(cursor)
        cursor.expect(")")
        return inner
    if cursor.key == "values" and cursor.peek() == "(":
        cursor.advance()
        values = parse_values(cursor)
        alias, columns = _alias(cursor)
        return tree.DerivedTable(Query(values), alias, columns)
    is_call = _is_call(cursor)
    if is_call or (cursor.key in FUNCTION_WORDS and not cursor.is_name()):
        return _function_table(cursor)
    return _table_name(cursor)


def _is_lateral(following: str, second: str) -> bool:
    """Whether the word before a query or a call is the key word; a table may be called so."""
    is_word = following[:1].isalpha() and following not in _ITEM_ENDS | _JOIN_WORDS
    return following == "(" or (is_word and second == "(")


def _holds_query(cursor: Cursor) -> bool:
    """Whether the parenthesis just opened holds a query, or tables: ``((select 1) union …)`` or ``((select 1) a join …)``.

    Told by what follows the innermost query, so that nothing is ever parsed twice.
    """
    if not starts_query(cursor):
        return False
    inner = 0
    while cursor.peek(inner) == "(":
        inner += 1
    if not inner:
        return True
    place = _after_closing(cursor, inner)
    for _ in range(inner - 1):
        if cursor.peek(place) not in _QUERY_GOES_ON:
            return False
        place = _after_closing(cursor, place)
    return cursor.peek(place) in _QUERY_GOES_ON


def _after_closing(cursor: Cursor, place: int) -> int:
    """The place after the parenthesis that closes what is open at ``place``."""
    depth = 1
    while depth:
        key = cursor.peek(place)
        if key == "":
            return place
        depth += (key == "(") - (key == ")")
        place += 1
    return place


def _is_call(cursor: Cursor) -> bool:
    ahead = 0
    while cursor.peek(ahead + 1) == ".":
        ahead += 2
    return cursor.peek(ahead + 1) == "("


def _function_table(cursor: Cursor) -> TableNode:
    call = parse_value(cursor)
    with_ordinality = cursor.take_words("with", "ordinality")
    alias, columns = _alias(cursor)
    return tree.FunctionTable(call, alias, columns, with_ordinality)


def _table_name(cursor: Cursor) -> tree.TableName:
    start = cursor.start
    parts = parse_qualified_name(cursor)
    alias, columns = _alias(cursor)
    return tree.TableName(parts, alias, columns, start)


def parse_qualified_name(cursor: Cursor) -> tuple[str, ...]:
    """``a.b.c``."""
    parts = [cursor.name()]
    while cursor.key == ".":
        cursor.advance()
        parts.append(cursor.any_word())
    return tuple(parts)


def _alias(cursor: Cursor) -> tuple[str | None, tuple[str, ...]]:
    alias = None
    if cursor.take("as"):
        alias = cursor.name()
    elif cursor.key == QUOTED or (cursor.is_name() and cursor.key not in NO_IMPLICIT_ALIAS):
        alias = cursor.advance()
    if alias is not None and cursor.key == "(":
        return alias, _alias_columns(cursor)
    return alias, ()


def _alias_columns(cursor: Cursor) -> tuple[str, ...]:
    """``(a, b)``; types after the names (PostgreSQL's functions in FROM) are read over."""
    cursor.expect("(")
    names: list[str] = []
    while True:
        names.append(cursor.name())
        if cursor.key not in (",", ")"):
            from cratepy.sql.parse.typenames import parse_type  # only for this rare form

            parse_type(cursor)
        if not cursor.take(","):
            cursor.expect(")")
            return tuple(names)
