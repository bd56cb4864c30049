"""Reads by key whose key is written in the text: ``SELECT a, b FROM t WHERE id = 7``, as clients without parameters send them.

In: a text and what it was compiled to. Out: the plan of a text that differs from it in nothing but the key, without compiling. psycopg2,
psql and everything else that speaks the simple protocol writes each key into its statement; compiling it costs ten times
what reading the row does. Its own room because what may be exchanged must be certain, so only one form is known here: columns
of one table, and a WHERE that is one equation of a column and a literal. The first text is compiled as usual; the plan says
whether the literal is the key, and of which type.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Final

import msgspec

from cratepy import limits
from cratepy.functions.values import INTEGER_RANGES
from cratepy.model.expressions import Literal
from cratepy.model.plan import CompiledStatement, GetPlan
from cratepy.model.state import ClusterState
from cratepy.model.types import DataType

_NAME: Final = r'(?:\w+|"\w+")'
#: Possessive throughout: no text takes more than a few passes.
_READ: Final = re.compile(
    rf"""
    (\s*+ select \s++ [\w,.*"][\w\s,.*"]* \s from \s++ (?:{_NAME}\.)?({_NAME}) \s++ where \s++ {_NAME}(?:\.{_NAME})?+ \s*+ = \s*+)
    ([0-9]{{1,18}} | '[ -&(-\[\]-~]*+')
    ((?:\s++ limit \s++ [0-9]++)?+ [\s;]*+)
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_INTEGERS: Final = frozenset({"byte", "smallint", "integer", "bigint"})
#: What is not part of a statement.
_AROUND: Final = " \t\n\r\f\v;"

#: What is before and behind the key, and the view of the session.
_Form = tuple[str, str, tuple[Any, ...]]


class KeysInTexts:
    """Belongs to a compiler, which clears it whenever its plans are good no more."""

    def __init__(self, entries_max: int = limits.PLAN_CACHE_ENTRIES_MAX) -> None:
        self._known: OrderedDict[_Form, CompiledStatement] = OrderedDict()
        self._entries_max = entries_max

    def clear(self) -> None:
        self._known.clear()

    def find(self, text: str, view_key: tuple[Any, ...]) -> CompiledStatement | None:
        """The statement, if one like it was learned and the key is of the same type."""
        found = _READ.fullmatch(text) if self._known and len(text) <= limits.COMPILE_INLINE_CHARS_MAX else None
        if found is None:
            return None
        before, _, written, behind = found.groups()
        known = self._known.get((before, behind, view_key))
        if known is None:
            return None
        plan = known.plan
        assert isinstance(plan, GetPlan)
        ((key,),) = plan.keys
        assert isinstance(key, Literal)
        value = _value(written, key.type)
        if value is None:
            return None
        plan = msgspec.structs.replace(plan, keys=((Literal(value, key.type),),))
        return msgspec.structs.replace(known, text=text.strip(_AROUND), plan=plan)

    def learn(self, text: str, compiled: CompiledStatement, view_key: tuple[Any, ...], state: ClusterState) -> None:
        """Remember what the text was compiled to for this state, if it is such a read."""
        plan = compiled.plan
        if type(plan) is not GetPlan or plan.residual is not None or plan.projection or plan.key_list is not None:
            return
        found = _READ.fullmatch(text) if len(text) <= limits.COMPILE_INLINE_CHARS_MAX else None
        if found is None or len(plan.keys) != 1 or len(plan.keys[0]) != 1 or not compiled.is_cacheable:
            return
        before, table, written, behind = found.groups()
        # Of a view nobody knows what else is asked of the key.
        names = {table.strip('"'), table.strip('"').lower()}
        if plan.table.name not in names or any(view.name.name in names for view in state.views.values()):
            return
        (key,) = plan.keys[0]
        # A key that its column cannot have is of another type, and the next one may not be.
        if not isinstance(key, Literal) or key.type != _key_type(state, plan):
            return
        if _value(written, key.type) != key.value:
            return
        self._known[before, behind, view_key] = compiled
        if len(self._known) > self._entries_max:
            self._known.popitem(last=False)


def _key_type(state: ClusterState, plan: GetPlan) -> DataType | None:
    table = state.tables.get(plan.table_uuid)
    if table is None or plan.is_by_id or len(table.definition.primary_key) != 1:
        return None
    column = table.definition.column(table.definition.primary_key[0])
    return None if column is None else column.type


def _value(written: str, data_type: DataType) -> int | str | None:
    """A literal as a key of the type; None if it has to be looked at more closely."""
    if written[0] == "'":
        return written[1:-1] if data_type.kind == "text" and data_type.length is None else None
    value = int(written)
    return value if data_type.kind in _INTEGERS and value <= INTEGER_RANGES[data_type.kind][1] else None
