"""Expressions in a schema: their text as it is stored, and the text analyzed again where it is used.

DEFAULT, GENERATED and CHECK are kept as SQL with every column name quoted (CrateDB prints them so in SHOW CREATE TABLE).
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

import msgspec

from cratepy.model.expressions import Expression
from cratepy.model.leaves import split_path
from cratepy.model.relations import Item
from cratepy.model.schema import PartDefault, TableDefinition
from cratepy.model.search import part_path
from cratepy.model.types import BOOLEAN, DataType
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.naming import printed
from cratepy.sql.analyze.scope import Scope, TableSource
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.parse import tree
from cratepy.sql.parse.parser import parse

_PIECES: Final = re.compile(r"""'(?:[^']|'')*'|(?P<word>[A-Za-z_][\w@$]*|"(?:[^"]|"")*")""")
#: Before a stored text, to make a statement of it.
_SELECT: Final = "SELECT "
_IDENTIFIER: Final = re.compile(r'[A-Za-z_][\w@$]*|"(?:[^"]|"")*"')


def stored_text(node: tree.Node, text: str, start: int) -> str:
    """The expression's text with column names quoted. ``start`` is where the text begins in the statement."""
    pieces: list[str] = []
    place = 0
    for position in sorted({name.start - start for name in _names(node) if name.start >= start}):
        found = _IDENTIFIER.match(text, position)
        if found is None or position < place:
            continue
        pieces.append(text[place:position])
        word = found[0]
        pieces.append(word if word[0] == '"' else f'"{word.lower()}"')
        place = found.end()
    pieces.append(text[place:])
    return _without_outer_parentheses("".join(pieces))


def names_in(text: str) -> frozenset[str]:
    """The columns that a stored text names."""
    return frozenset(name.parts[-1] for name in _names(_parsed(text)))


def shown_text(text: str) -> str:
    """A stored text as output names show expressions."""
    return printed(_parsed(text))


def renamed_text(text: str, old: str, new: str) -> str:
    """A stored text with another name of a column."""
    pieces: list[str] = []
    place = 0
    offset = len(_SELECT)
    named = (name for name in _names(_parsed(text)) if name.parts[-1] == old)
    for position in sorted({name.start - offset for name in named}):
        found = _IDENTIFIER.match(text, position)
        assert found is not None, f"no name at {position} of {text}"
        pieces += (text[place:position], _quoted(new))
        place = found.end()
    return "".join((*pieces, text[place:]))


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def first_name_offset(node: tree.Node, text: str) -> int:
    """Where the text began in its statement: the place of its first column name less that name's place in the text.

    The first identifier of the text that is spelled like the name is it, unless it stands inside a string or is a function
    of the same name; then nothing is quoted.
    """
    names = sorted((name for name in _names(node) if name.start >= 0), key=lambda name: name.start)
    if not names:
        return 0
    first = names[0]
    for found in _PIECES.finditer(text):
        word = found["word"]
        if word is None:
            continue
        plain = word[1:-1].replace('""', '"') if word[0] == '"' else word.lower()
        if plain == first.parts[0] and text[found.end() :].lstrip()[:1] != "(":
            return first.start - found.start()
    return first.start + len(text)


def _names(node: Any) -> list[tree.Name]:
    found: list[tree.Name] = []
    stack: list[Any] = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, tree.Name):
            found.append(current)
        elif isinstance(current, msgspec.Struct):
            stack.extend(getattr(current, name) for name in current.__struct_fields__)
        elif isinstance(current, tuple):
            stack.extend(current)
    return found


def _without_outer_parentheses(text: str) -> str:
    text = text.strip()
    while text.startswith("(") and text.endswith(")") and "'" not in text and _closes_last(text):
        text = text[1:-1].strip()
    return text


def _closes_last(text: str) -> bool:
    """Whether the first parenthesis is closed by the last one."""
    depth = 0
    for char in text[:-1]:
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return False
    return True


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> tree.Node:
    (statement,) = parse(_SELECT + text)
    query = statement.tree
    assert isinstance(query, tree.Query)
    assert isinstance(query.body, tree.Select)
    return query.body.items[0].expression


def table_scope(context: Context, definition: TableDefinition, alias: str | None = None) -> tuple[Scope, TableSource]:
    """A scope of one table whose columns have their oids as ids."""
    source = TableSource(
        context,
        definition,
        alias if alias is not None else definition.name.name,
        None if alias is not None else definition.name.schema,
        by_oid=True,
    )
    return Scope(sources=[source]), source


def default_expression(context: Context, text: str, target: DataType) -> Expression:
    a = ExpressionAnalyzer(context, Scope(), place="DEFAULT")
    return cast_to(context, a.analyze(_parsed(text)), target)


def defaults(context: Context, definition: TableDefinition, targets: tuple[str, ...]) -> tuple[Item, ...]:
    """Defaults of the columns that are no targets, and of parts of object columns (named by path)."""
    of_columns = tuple(
        Item(column.oid, column.name, default_expression(context, column.default_sql, column.type))
        for column in definition.columns
        if column.default_sql is not None and column.name not in targets
    )
    return (*of_columns, *(_part_default(context, definition, part) for part in definition.part_defaults))


def _part_default(context: Context, definition: TableDefinition, part: PartDefault) -> Item:
    base, keys = split_path(part.path)
    column = definition.column(base)
    kind = None if column is None else column.type
    for key in keys:
        kind = None if kind is None else kind.field(key)
    assert kind is not None, f"no part {part.path}"
    return Item(context.next_id(), part.path, default_expression(context, part.sql, kind))


def generated(context: Context, definition: TableDefinition) -> tuple[Item, ...]:
    """Generated columns, over columns by oid."""
    items: list[Item] = []
    scope, _ = table_scope(context, definition)
    for column in definition.columns:
        if column.generated_sql is not None:
            a = ExpressionAnalyzer(context, scope, place="a generated column")
            expression = cast_to(context, a.analyze(_parsed(column.generated_sql)), column.type)
            items.append(Item(column.oid, column.name, expression))
    return tuple(items)


def checks(context: Context, definition: TableDefinition) -> tuple[Item, ...]:
    """CHECK constraints and NOT NULL of parts, over columns by oid; the item's name is the constraint's, or the part's path."""
    items: list[Item] = []
    scope, _ = table_scope(context, definition)
    for check in definition.checks:
        a = ExpressionAnalyzer(context, scope, place="CHECK")
        items.append(Item(context.next_id(), check.name, cast_to(context, a.analyze(_parsed(check.sql)), BOOLEAN)))
    for path in definition.required_parts:
        base, keys = split_path(path)
        a = ExpressionAnalyzer(context, scope, place="CHECK")
        items.append(
            Item(context.next_id(), path, a.analyze(_parsed(f"{part_path(_quoted(base), *keys)} IS NOT NULL")))
        )
    return tuple(items)
