"""PostgreSQL's types as pg_type shows them: a table of facts, kept as text in ``pg_types.txt`` beside this module.

Its own room because the rows of pg_type, the names of ``regtype`` and ``regproc`` and the wire's text of both have to agree.
Source: src/include/catalog/pg_type.dat of PostgreSQL 15.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Final

from cratepy.model.oids import procedure_oid

#: The columns of the text, in its order.
_FIELDS: Final = (
    "oid", "typname", "typlen", "typbyval", "typtype", "typcategory", "typelem", "typarray", "typinput", "typoutput",
    "typreceive", "typsend", "typalign", "typstorage", "typdelim", "typisdefined",
)  # fmt: skip
_NUMBERS: Final = frozenset({"oid", "typlen", "typelem", "typarray"})
_FLAGS: Final = frozenset({"typbyval", "typisdefined"})
_PROCEDURES: Final = ("typinput", "typoutput", "typreceive", "typsend")


@cache
def pg_type_facts() -> tuple[dict[str, Any], ...]:
    """One mapping per type, by the names of pg_type's columns. A procedure is its name, None if there is none."""
    text = resources.files("cratepy.model").joinpath("pg_types.txt").read_text(encoding="ascii")
    rows: list[dict[str, Any]] = []
    for line in text.splitlines():
        row: dict[str, Any] = {}
        for name, value in zip(_FIELDS, line.split(" "), strict=True):
            if name in _NUMBERS:
                row[name] = int(value)
            elif name in _FLAGS:
                row[name] = value == "t"
            else:
                row[name] = None if name in _PROCEDURES and value == "-" else value
        rows.append(row)
    return tuple(rows)


@cache
def _procedure_names() -> dict[int, str]:
    """The functions of types and those that a statement may call, ``procedures.txt``, which ``functions`` declares."""
    names = {row[field] for row in pg_type_facts() for field in _PROCEDURES if row[field] is not None}
    names.update(resources.files("cratepy.model").joinpath("procedures.txt").read_text(encoding="ascii").split())
    return {procedure_oid(name): name for name in names}


def is_procedure(oid: int) -> bool:
    return oid in _procedure_names()


def procedure_text(oid: int) -> str:
    """What ``regproc`` prints: the name of a function; other numbers as they are, 0 as ``-``."""
    return _procedure_names().get(oid) or (str(oid) if oid else "-")
