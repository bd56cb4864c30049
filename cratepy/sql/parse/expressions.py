"""The grammar of expressions: a cursor in, a node of the tree out.

Precedence, high to low (CrateDB's SqlBaseParser): ``::`` ``[]`` ``.field``; unary ``+ -``; ``^``; ``* / %``; ``+ -``;
``& | #``; ``||``; ``&&``; predicates (comparison, BETWEEN, IN, LIKE, IS); NOT; AND; OR. Chains of one operator are loops,
so only nesting recurses, and nesting is bounded on the tokens. Special forms of function calls are in ``parse.calls``.
"""

from __future__ import annotations

import re
from typing import Final

from cratepy import limits
from cratepy.errors import StatementTooComplex
from cratepy.functions.keywords import RESERVED
from cratepy.limits import STATEMENT_NESTING_MAX
from cratepy.sql.parse import tree
from cratepy.sql.parse.calls import parse_call
from cratepy.sql.parse.tokens import BITS, NUMBER, PARAMETER, QUOTED, STRING, Cursor
from cratepy.sql.parse.tree import Node, Query
from cratepy.sql.parse.typenames import TYPE_WORDS, is_typed_literal, parse_type
from cratepy.sql.parse.words import FUNCTION_WORDS

_COMPARISONS: Final = {
    "=": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "~": "~", "~*": "~*", "!~": "!~",
    "!~*": "!~*", "<<": "<<", "~~": "like", "~~*": "ilike", "!~~": "not like", "!~~*": "not ilike", "@>": "@>", "<@": "<@",
    "->": "->", "->>": "->>", ">>": ">>",
}  # fmt: skip
_PREDICATE_WORDS: Final = frozenset(
    {"is", "in", "between", "like", "ilike", "not", "operator", "isnull", "notnull", "collate"}
)
_LEVELS: Final[tuple[frozenset[str], ...]] = (
    frozenset({"&&"}),
    frozenset({"||"}),
    frozenset({"&", "|", "#"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
    frozenset({"^"}),
)
_TRUTHS: Final[dict[str, bool | None]] = {"true": True, "false": False, "unknown": None}
_LEVEL_OF: Final = {operator: level for level, operators in enumerate(_LEVELS) for operator in operators}
#: Operators of one chain like ``1 + 1 + …``: each makes the tree one deeper.
_CHAIN_MAX: Final = STATEMENT_NESTING_MAX
_POSTFIX: Final = frozenset({"::", "[", ".", "at"})
_ITEM_ENDS: Final = frozenset({",", ")", "]"})
_NUMBER_WORD: Final = re.compile(r"[\w.]+")


def parse_expression(cursor: Cursor) -> Node:
    """OR, the loosest."""
    first = _conjunction(cursor)
    if cursor.key != "or":
        return first
    operands = [first]
    while cursor.take("or"):
        operands.append(_conjunction(cursor))
    return tree.Logic("or", tuple(operands))


def _conjunction(cursor: Cursor) -> Node:
    first = _negation(cursor)
    if cursor.key != "and":
        return first
    operands = [first]
    while cursor.take("and"):
        operands.append(_negation(cursor))
    return tree.Logic("and", tuple(operands))


def _negation(cursor: Cursor) -> Node:
    if cursor.take("not"):
        return tree.Unary("not", _negation(cursor))
    return _predicate(cursor)


def _predicate(cursor: Cursor) -> Node:
    node = parse_value(cursor)
    for _ in range(_CHAIN_MAX):
        key = cursor.key
        operator = _COMPARISONS.get(key)
        if operator is not None:
            cursor.advance()
            node = _compared(cursor, operator, node)
        elif key in _PREDICATE_WORDS:
            following = _worded_predicate(cursor, node)
            if following is None:
                return node
            node = following
        else:
            return node
    raise StatementTooComplex(f"More than {_CHAIN_MAX} predicates in a chain")


def _compared(cursor: Cursor, operator: str, left: Node) -> Node:
    if cursor.key in ("any", "some", "all"):
        quantifier = "all" if cursor.advance() == "all" else "any"
        cursor.expect("(")
        right = _query_or_expression(cursor)
        cursor.expect(")")
        return tree.Quantified(operator, left, quantifier, right)
    right_value = parse_value(cursor)
    match operator:
        case "like" | "ilike" | "not like" | "not ilike":
            return tree.Like(left, right_value, None, operator.startswith("not"), operator.endswith("ilike"))
        case "!~" | "!~*":
            return tree.Unary("not", tree.Binary(operator[1:], left, right_value))
        case _:
            return tree.Binary(operator, left, right_value)


def _query_or_expression(cursor: Cursor) -> Node | Query:
    return parse_subquery(cursor) if starts_query(cursor) else parse_expression(cursor)


def _worded_predicate(cursor: Cursor, node: Node) -> Node | None:
    key = cursor.key
    if key == "is":
        return _is(cursor, node)
    if key == "isnull" or key == "notnull":
        cursor.advance()
        return tree.IsNull(node, key == "notnull")
    if key == "collate":
        cursor.advance()
        _qualified(cursor)
        return node
    if key == "operator":
        if cursor.peek() != "(":
            return None
        return _qualified_operator(cursor, node)
    is_negated = key == "not"
    if is_negated:
        if cursor.peek() not in ("in", "between", "like", "ilike"):
            return None
        cursor.advance()
    word = cursor.advance()
    if word == "in":
        return _in(cursor, node, is_negated)
    if word == "between":
        is_symmetric = cursor.take("symmetric")
        if not is_symmetric:
            cursor.take("asymmetric")
        low = parse_value(cursor)
        cursor.expect("and")
        return tree.Between(node, low, parse_value(cursor), is_negated, is_symmetric)
    if cursor.key in ("any", "some", "all"):
        return _compared(cursor, f"not {word}" if is_negated else word, node)
    pattern = parse_value(cursor)
    escape = parse_value(cursor) if cursor.take("escape") else None
    return tree.Like(node, pattern, escape, is_negated, word == "ilike")


def _is(cursor: Cursor, node: Node) -> Node:
    cursor.advance()
    is_negated = cursor.take("not")
    if cursor.take("null"):
        return tree.IsNull(node, is_negated)
    if cursor.take_words("distinct", "from"):
        return tree.IsDistinct(node, parse_value(cursor), is_negated)
    if cursor.key not in _TRUTHS:
        raise cursor.error("expecting {'NULL', 'TRUE', 'FALSE', 'DISTINCT'}")
    return tree.IsTruth(node, _TRUTHS[cursor.advance()], is_negated)


def _in(cursor: Cursor, node: Node, is_negated: bool) -> Node:
    if cursor.key != "(":
        return tree.Quantified(
            "=" if not is_negated else "<>", node, "all" if is_negated else "any", parse_value(cursor)
        )
    cursor.expect("(")
    if starts_query(cursor):
        query = parse_subquery(cursor)
        cursor.expect(")")
        return tree.InSubquery(node, query, is_negated)
    items = parse_list(cursor)
    cursor.expect(")")
    return tree.InItems(node, items, is_negated)


def _qualified_operator(cursor: Cursor, left: Node) -> Node:
    """``OPERATOR(pg_catalog.~)``, as psql writes."""
    cursor.advance()
    cursor.expect("(")
    while cursor.is_name() and cursor.peek() == ".":
        cursor.advance()
        cursor.advance()
    key = cursor.key
    if key in _COMPARISONS:
        cursor.advance()
        cursor.expect(")")
        return _compared(cursor, _COMPARISONS[key], left)
    if key in _LEVEL_OF:
        cursor.advance()
        cursor.expect(")")
        return tree.Binary(key, left, parse_value(cursor))
    raise cursor.error()


def parse_value(cursor: Cursor) -> Node:
    """An expression without predicates and logic (the operands of a comparison)."""
    return _binary(cursor, 0)


def _binary(cursor: Cursor, lowest: int) -> Node:
    """Precedence climbing over left-associative operators."""
    node = _unary(cursor)
    chain = 0
    while True:
        level = _LEVEL_OF.get(cursor.key)
        if level is None or level < lowest:
            return node
        chain += 1
        if chain > _CHAIN_MAX:
            raise StatementTooComplex(f"More than {_CHAIN_MAX} operators in a chain")
        operator = cursor.advance()
        node = tree.Binary(operator, node, _binary(cursor, level + 1))


def _unary(cursor: Cursor) -> Node:
    key = cursor.key
    if key == "-":
        cursor.advance()
        return tree.Unary("-", _unary(cursor))
    if key == "+":
        cursor.advance()
        return _unary(cursor)
    return _postfixed(cursor)


def _postfixed(cursor: Cursor) -> Node:
    node = _primary(cursor)
    if cursor.key not in _POSTFIX:
        return node
    for _ in range(_CHAIN_MAX):
        if cursor.take("::"):
            node = tree.CastNode(node, parse_type(cursor))
        elif cursor.take("["):
            node = _subscript(cursor, node)
        elif cursor.key == "." and not isinstance(node, tree.Name):
            cursor.advance()
            node = tree.FieldOf(node, cursor.any_word())
        elif cursor.key == "at" and cursor.peek() == "time" and cursor.take_words("at", "time", "zone"):
            node = tree.Function(("timezone",), (_unary(cursor), node))
        else:
            return node
    raise StatementTooComplex(f"More than {_CHAIN_MAX} casts or subscripts in a chain")


def _subscript(cursor: Cursor, base: Node) -> Node:
    if cursor.take(":"):
        high = None if cursor.key == "]" else parse_value(cursor)
        cursor.expect("]")
        return tree.Slice(base, None, high)
    index = parse_value(cursor)
    if cursor.take(":"):
        high = None if cursor.key == "]" else parse_value(cursor)
        cursor.expect("]")
        return tree.Slice(base, index, high)
    cursor.expect("]")
    return tree.Subscript(base, index)


# --- primaries -------------------------------------------------------------------------------------------------------


def _primary(cursor: Cursor) -> Node:
    key = cursor.key
    if key == NUMBER:
        return tree.NumberWord(_number(cursor))
    if key == STRING:
        return tree.StringWord(cursor.advance())
    if key == PARAMETER or key == "?":
        return _parameter(cursor)
    if key == "(":
        return _parenthesis(cursor)
    if key == "[":
        cursor.advance()
        return tree.ArrayNode(_closed_list(cursor, "]"))
    if key == "{":
        return _object(cursor)
    if key == BITS:
        return tree.BitsWord(cursor.advance())
    if key == "." and cursor.peek() == NUMBER:
        cursor.advance()
        return tree.NumberWord("0." + cursor.advance())
    if key == "*":
        cursor.advance()
        return tree.Star()
    return _worded_primary(cursor)


def _number(cursor: Cursor) -> str:
    start, text = cursor.start, cursor.advance()
    word = _NUMBER_WORD.match(cursor.source, start)
    end = start if word is None else word.end()
    if cursor.start < end and cursor.start > start and cursor.key not in (".", "e"):
        # ``1a``: an identifier that starts with a digit.
        raise cursor.error("expecting {<EOF>, ';'}")
    return text.replace("_", "")


def _parameter(cursor: Cursor) -> Node:
    if cursor.key == "?":
        cursor.advance()
        index = cursor.positional
        cursor.positional += 1
    else:
        digits = cursor.text[1:]
        if not digits.isdigit() or not 1 <= int(digits[:9]) <= limits.PARAMETERS_MAX:
            raise cursor.error(f"expecting a parameter from $1 to ${limits.PARAMETERS_MAX}")
        cursor.advance()
        index = int(digits[:9]) - 1
    cursor.parameters = max(cursor.parameters, index + 1)
    return tree.ParameterWord(index)


def _parenthesis(cursor: Cursor) -> Node:
    cursor.advance()
    if starts_query(cursor):
        query = parse_subquery(cursor)
        cursor.expect(")")
        return tree.ScalarSubquery(query)
    first = parse_expression(cursor)
    if cursor.key == ",":
        items = [first]
        while cursor.take(","):
            items.append(parse_expression(cursor))
        cursor.expect(")")
        return tree.RowNode(tuple(items))
    cursor.expect(")")
    # ``(t).x``: a name in parentheses has fields, not columns.
    if cursor.key == "." and isinstance(first, tree.Name):
        cursor.advance()
        return tree.FieldOf(first, cursor.any_word())
    return first


def _object(cursor: Cursor) -> Node:
    cursor.advance()
    entries: list[tuple[str, Node]] = []
    while not cursor.take("}"):
        if entries:
            cursor.expect(",")
        name = cursor.string() if cursor.key == STRING else cursor.any_word()
        if not cursor.take("="):
            cursor.expect(":")
        entries.append((name, parse_expression(cursor)))
    return tree.ObjectNode(tuple(entries))


def _worded_primary(cursor: Cursor) -> Node:
    key = cursor.key
    match key:
        case "null":
            cursor.advance()
            return tree.NullWord()
        case "true" | "false":
            cursor.advance()
            return tree.BooleanWord(key == "true")
        case "case":
            return _case(cursor)
        case "default":
            cursor.advance()
            return tree.DefaultWord()
        case "array" if cursor.peek() == "[":
            cursor.advance()
            cursor.advance()
            return tree.ArrayNode(_closed_list(cursor, "]"))
        case "array" if cursor.peek() == "(":
            cursor.advance()
            cursor.advance()
            query = parse_subquery(cursor)
            cursor.expect(")")
            return tree.ArraySubquery(query)
        case "exists" if cursor.peek() == "(":
            cursor.advance()
            cursor.advance()
            query = parse_subquery(cursor)
            cursor.expect(")")
            return tree.ExistsNode(query)
        case "row" if cursor.peek() == "(":
            cursor.advance()
            cursor.advance()
            return tree.RowNode(_closed_list(cursor, ")"))
    if key in TYPE_WORDS and is_typed_literal(cursor):
        written = parse_type(cursor)
        return tree.CastNode(tree.StringWord(cursor.string()), written)
    special = parse_call(cursor)
    if special is not None:
        return special
    if key == QUOTED or cursor.is_name() or (key in FUNCTION_WORDS and cursor.peek() == "("):
        return _name_or_call(cursor)
    raise cursor.error()


def _name_or_call(cursor: Cursor) -> Node:
    start = cursor.start
    parts = [cursor.advance()]
    while cursor.key == ".":
        if cursor.peek() == "*":
            cursor.advance()
            cursor.advance()
            return tree.Star(tuple(parts))
        cursor.advance()
        parts.append(cursor.any_word())
    if cursor.key == "(":
        from cratepy.sql.parse.functions import parse_function  # calls and queries need each other

        return parse_function(cursor, tuple(parts))
    return tree.Name(tuple(parts), start)


def _case(cursor: Cursor) -> Node:
    cursor.advance()
    operand = None if cursor.key == "when" else parse_expression(cursor)
    branches: list[tuple[Node, Node]] = []
    while cursor.take("when"):
        condition = parse_expression(cursor)
        cursor.expect("then")
        branches.append((condition, parse_expression(cursor)))
    if not branches:
        raise cursor.error("expecting 'WHEN'")
    default = parse_expression(cursor) if cursor.take("else") else None
    cursor.expect("end")
    return tree.CaseNode(operand, tuple(branches), default)


def _qualified(cursor: Cursor) -> None:
    cursor.any_word()
    while cursor.take("."):
        cursor.any_word()


def _closed_list(cursor: Cursor, closing: str) -> tuple[Node, ...]:
    if cursor.take(closing):
        return ()
    items = parse_list(cursor)
    cursor.expect(closing)
    return items


def parse_list(cursor: Cursor) -> tuple[Node, ...]:
    """Expressions separated by commas, at least one."""
    items = [_list_item(cursor)]
    while cursor.take(","):
        items.append(_list_item(cursor))
    return tuple(items)


def _list_item(cursor: Cursor) -> Node:
    """An item that is nothing but a literal, as most of long lists are, needs no walk through the operators."""
    if cursor.peek() in _ITEM_ENDS and cursor.key in (NUMBER, STRING):
        return _primary(cursor)
    return parse_expression(cursor)


def starts_query(cursor: Cursor) -> bool:
    """Whether a query begins here, maybe in parentheses."""
    ahead = 0
    while (cursor.peek(ahead) if ahead else cursor.key) == "(":
        ahead += 1
    key = cursor.peek(ahead) if ahead else cursor.key
    return key in ("select", "with") or (key == "values" and cursor.peek(ahead + 1) == "(")


def parse_subquery(cursor: Cursor) -> Query:
    from cratepy.sql.parse.queries import parse_query  # queries hold expressions and expressions hold queries

    return parse_query(cursor)


def is_reserved(key: str) -> bool:
    return key in RESERVED
