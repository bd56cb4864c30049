"""Names of relations, and the schemas that are always there."""

from __future__ import annotations

from typing import Final

import msgspec

DEFAULT_SCHEMA: Final = "doc"
SYSTEM_SCHEMAS: Final = frozenset({"sys", "information_schema", "pg_catalog", "blob"})
#: ``SHOW search_path``; the implicit schema in front is pg_catalog, as in PostgreSQL.
DEFAULT_SEARCH_PATH: Final = ("pg_catalog", "doc")
CATALOG_NAME: Final = "crate"


class RelationName(msgspec.Struct, frozen=True, order=True):
    """A schema and a name in it. Case matters; folding happened in the parser."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def quote_identifier(name: str) -> str:
    """The name as SQL text, quoted only if it has to be."""
    if name.isascii() and name.replace("_", "a").isalnum() and name == name.lower() and not name[0].isdigit():
        return name
    return '"' + name.replace('"', '""') + '"'
