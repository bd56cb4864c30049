"""Names of relations and columns, and the schemas that are always there."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from cratepy.errors import InvalidColumnName
from cratepy.limits import IDENTIFIER_BYTES_MAX

DEFAULT_SCHEMA: Final = "doc"
SYSTEM_SCHEMAS: Final = frozenset({"sys", "information_schema", "pg_catalog", "blob"})
#: ``SHOW search_path``; the implicit schema in front is pg_catalog, as in PostgreSQL.
DEFAULT_SEARCH_PATH: Final = ("pg_catalog", "doc")
CATALOG_NAME: Final = "crate"
#: The user who may do everything.
SUPERUSER: Final = "crate"


class RelationName(msgspec.Struct, frozen=True, gc=False, order=True):
    """A schema and a name in it. Case matters; folding happened in the parser."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


_SUBSCRIPT: Final = re.compile(r"\['.*'\]|\[\d+\]", re.DOTALL)


def check_column_name(name: str) -> None:
    """Whether a column may have this name, system columns aside. Raises InvalidColumnName."""
    if "." in name:
        raise InvalidColumnName(f'"{name}" contains a dot')
    if _SUBSCRIPT.search(name):
        raise InvalidColumnName(f'"{name}" conflicts with subscript pattern, square brackets are not allowed')
    _check_length(name)


def check_key_name(name: str) -> None:
    """Whether a key of a dynamic object may become a sub-column; any bracket is one too many. Raises InvalidColumnName."""
    if "." in name:
        raise InvalidColumnName(f'"{name}" contains a dot')
    if "[" in name or "]" in name:
        raise InvalidColumnName(f'"{name}" conflicts with subscript pattern, square brackets are not allowed')
    _check_length(name)


def _check_length(name: str) -> None:
    if len(name) > IDENTIFIER_BYTES_MAX // 4 and len(name.encode()) > IDENTIFIER_BYTES_MAX:
        raise InvalidColumnName(f'"{name}" is longer than {IDENTIFIER_BYTES_MAX} bytes')


def quote_identifier(name: str) -> str:
    """The name as SQL text, quoted only if it has to be."""
    if name.isascii() and name.replace("_", "a").isalnum() and name == name.lower() and not name[0].isdigit():
        return name
    return '"' + name.replace('"', '""') + '"'
