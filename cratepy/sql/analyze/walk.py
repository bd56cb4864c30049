"""What the analyzer asks of expressions and relations; taking them apart is ``sql.plan.walk``'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from cratepy.model.expressions import Column, Expression, OuterColumn
from cratepy.sql.plan.walk import parts


def nodes(expression: Expression) -> Iterator[Expression]:
    """The expression and everything in it, outermost first."""
    stack = [expression]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(parts(current))


def column_ids(expression: Expression) -> set[int]:
    return {node.id for node in nodes(expression) if isinstance(node, Column)}


def key_of(expression: Expression) -> bytes:
    """Equal expressions have equal keys (they may hold lists and so have no hash)."""
    return msgspec.msgpack.encode(expression)


def outer_ids(relation: Any) -> set[int]:
    """The ids that OuterColumns anywhere in a relation name."""
    found: set[int] = set()
    stack: list[Any] = [relation]
    while stack:
        current = stack.pop()
        if isinstance(current, OuterColumn):
            found.add(current.id)
        elif isinstance(current, msgspec.Struct):
            stack.extend(getattr(current, name) for name in current.__struct_fields__)
        elif isinstance(current, tuple):
            stack.extend(current)
    return found
