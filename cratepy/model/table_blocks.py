"""Blocks of a table (settings ``blocks.*``, and being closed): which operations they leave.

In: a table's definition and an operation's name in CrateDB's words. Out: nothing, or the error that refuses it. In ``model``
because a block holds twice: where a statement is analyzed, for the words of the error, and at the primary, whose
definition may be newer than the one a running statement was compiled with. Source: CrateDB's ``Operation`` and ``sql/statements/create-table``
"blocks.*"; ``read_only_allow_delete`` leaves what frees space.
"""

from __future__ import annotations

from typing import Final

from cratepy.errors import OperationOnInaccessibleRelation
from cratepy.model.schema import TableDefinition

_READS: Final = frozenset({"READ", "COPY TO", "REFRESH", "OPTIMIZE"})
_WRITES: Final = frozenset({"INSERT", "UPDATE", "DELETE"})
#: ``ALTER BLOCKS`` is an ALTER that names blocks only: the way back out.
_ALTERS: Final = frozenset({"ALTER", "ALTER RENAME", "ALTER BLOCKS"})
#: A closed table can be opened, altered and dropped (CrateDB has it opened before it can be dropped).
_REFUSED_WHEN_CLOSED: Final = _READS | _WRITES
_ALLOWED: Final = {
    "blocks.read_only": _READS | {"ALTER BLOCKS"},
    "blocks.read_only_allow_delete": _READS | {"DELETE", "DROP", "ALTER BLOCKS"},
    "blocks.read": _WRITES | _ALTERS | {"DROP", "REFRESH", "OPTIMIZE"},
    "blocks.write": _READS | _ALTERS,
    "blocks.metadata": _READS - {"COPY TO"} | _WRITES | {"ALTER BLOCKS"},
}


def check_blocks(definition: TableDefinition, operation: str) -> None:
    """Raises OperationOnInaccessibleRelation if a block of the table does not allow the operation."""
    if definition.is_closed and operation in _REFUSED_WHEN_CLOSED:
        raise OperationOnInaccessibleRelation(
            f'The relation "{definition.name}" doesn\'t support or allow {operation} operations, as it is currently closed.'
        )
    settings = definition.settings
    if not settings:
        return
    for name, allowed in _ALLOWED.items():
        if settings.get(name) is True and operation not in allowed:
            raise OperationOnInaccessibleRelation(
                f'The relation "{definition.name}" doesn\'t support or allow {operation} operations'
            )
