"""The grammar of function calls: arguments, DISTINCT, ORDER BY, FILTER, OVER; and of window definitions."""

from __future__ import annotations

from cratepy.sql.parse import tree
from cratepy.sql.parse.expressions import parse_expression, parse_list, parse_value, starts_query
from cratepy.sql.parse.tokens import Cursor
from cratepy.sql.parse.tree import Node


def parse_function(cursor: Cursor, name: tuple[str, ...]) -> Node:
    """A call; the cursor stands on its opening parenthesis."""
    cursor.expect("(")
    is_distinct = is_star = False
    arguments: tuple[Node, ...] = ()
    order_by: tuple[tree.SortItem, ...] = ()
    if cursor.key == "*" and cursor.peek() == ")":
        cursor.advance()
        is_star = True
    elif cursor.key != ")":
        is_distinct = cursor.take("distinct")
        if not is_distinct and cursor.key == "all" and cursor.peek() not in ("(", ","):
            cursor.advance()
        arguments = (_query_argument(cursor),) if starts_query(cursor) and cursor.key != "(" else parse_list(cursor)
        if cursor.take_words("order", "by"):
            order_by = parse_sort_items(cursor)
    cursor.expect(")")
    condition = None
    if cursor.key == "filter" and cursor.peek() == "(":
        cursor.advance()
        cursor.advance()
        cursor.expect("where")
        condition = parse_expression(cursor)
        cursor.expect(")")
    ignores_nulls = cursor.take_words("ignore", "nulls")
    if not ignores_nulls:
        cursor.take_words("respect", "nulls")
    over = None
    if cursor.key == "over" and (cursor.peek() == "(" or cursor.peek()[:1].isalpha() or cursor.peek() == '"'):
        cursor.advance()
        over = _over(cursor)
    return tree.Function(
        name,
        arguments,
        is_distinct=is_distinct,
        is_star=is_star,
        order_by=order_by,
        filter=condition,
        over=over,
        ignores_nulls=ignores_nulls,
    )


def _query_argument(cursor: Cursor) -> Node:
    from cratepy.sql.parse.queries import parse_query  # queries hold calls and calls hold queries

    return tree.ScalarSubquery(parse_query(cursor))


def parse_sort_items(cursor: Cursor) -> tuple[tree.SortItem, ...]:
    """What stands after ORDER BY."""
    items = [_sort_item(cursor)]
    while cursor.take(","):
        items.append(_sort_item(cursor))
    return tuple(items)


def _sort_item(cursor: Cursor) -> tree.SortItem:
    expression = parse_expression(cursor)
    is_descending = cursor.take("desc")
    if not is_descending:
        cursor.take("asc")
    nulls_first: bool | None = None
    if cursor.take("nulls"):
        if cursor.take("first"):
            nulls_first = True
        else:
            cursor.expect("last")
            nulls_first = False
    return tree.SortItem(expression, is_descending, nulls_first)


def _over(cursor: Cursor) -> tree.WindowDef:
    if cursor.key != "(":
        return tree.WindowDef(base=cursor.name())
    return parse_window(cursor)


def parse_window(cursor: Cursor) -> tree.WindowDef:
    """A window specification in parentheses."""
    cursor.expect("(")
    base = None
    partition_by: tuple[Node, ...] = ()
    order_by: tuple[tree.SortItem, ...] = ()
    if cursor.is_name() and cursor.key not in ("partition", "rows", "range", "groups"):
        base = cursor.name()
    if cursor.take_words("partition", "by"):
        partition_by = parse_list(cursor)
    if cursor.take_words("order", "by"):
        order_by = parse_sort_items(cursor)
    frame = _frame(cursor) if cursor.key in ("rows", "range", "groups") else None
    cursor.expect(")")
    return tree.WindowDef(base, partition_by, order_by, frame)


def _frame(cursor: Cursor) -> tuple[str, tree.FrameEdge, tree.FrameEdge]:
    unit = cursor.advance()
    if cursor.take("between"):
        start = _edge(cursor)
        cursor.expect("and")
        return unit, start, _edge(cursor)
    return unit, _edge(cursor), tree.FrameEdge("current_row")


def _edge(cursor: Cursor) -> tree.FrameEdge:
    if cursor.take("unbounded"):
        direction = cursor.any_word()
        if direction not in ("preceding", "following"):
            raise cursor.error("expecting {'PRECEDING', 'FOLLOWING'}")
        return tree.FrameEdge(f"unbounded_{direction}")
    if cursor.take_words("current", "row"):
        return tree.FrameEdge("current_row")
    offset = parse_value(cursor)
    direction = cursor.any_word()
    if direction not in ("preceding", "following"):
        raise cursor.error("expecting {'PRECEDING', 'FOLLOWING'}")
    return tree.FrameEdge(direction, offset)
