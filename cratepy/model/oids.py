"""Object ids of the PostgreSQL catalog: schemas, relations, indexes, roles.

User tables and views carry their oid in the cluster state. Everything else gets a fixed one here: PostgreSQL's own where
clients know it by heart (``pg_class`` is 1259), a number below 16,384 for the other system tables, and a hash of the name
for schemas (they have no identity of their own). Every oid is positive and fits an int4.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Final

from cratepy.model.names import RelationName
from cratepy.model.state import ClusterState
from cratepy.model.system_tables import system_tables

#: PostgreSQL's oids of its catalog tables (src/include/catalog).
PG_CATALOG_OIDS: Final = {
    "pg_attrdef": 2604, "pg_attribute": 1249, "pg_auth_members": 1261, "pg_authid": 1260, "pg_cast": 2605,
    "pg_class": 1259, "pg_collation": 3456, "pg_constraint": 2606, "pg_conversion": 2607, "pg_database": 1262,
    "pg_default_acl": 826, "pg_depend": 2608, "pg_description": 2609, "pg_enum": 3501, "pg_event_trigger": 3466,
    "pg_extension": 3079, "pg_foreign_data_wrapper": 2328, "pg_foreign_server": 1417, "pg_foreign_table": 3118,
    "pg_index": 2610, "pg_inherits": 2611, "pg_language": 2612, "pg_namespace": 2615, "pg_opclass": 2616,
    "pg_operator": 2617, "pg_opfamily": 2753, "pg_partitioned_table": 3350, "pg_policy": 3256, "pg_proc": 1255,
    "pg_publication": 6104, "pg_publication_rel": 6106, "pg_range": 3541, "pg_rewrite": 2618, "pg_sequence": 2224,
    "pg_shdepend": 1214, "pg_shdescription": 2396, "pg_statistic_ext": 3381, "pg_subscription": 6100,
    "pg_tablespace": 1213, "pg_trigger": 2620, "pg_type": 1247, "pg_am": 2601, "pg_ts_config": 3602,
    "pg_ts_dict": 3600, "pg_ts_parser": 3601, "pg_ts_template": 3764, "pg_user_mapping": 1418,
}  # fmt: skip
SCHEMA_OIDS: Final = {"pg_catalog": 11, "doc": 2200, "information_schema": 13_000, "sys": 13_001, "blob": 13_002}
#: The superuser, as in PostgreSQL.
SUPERUSER_OID: Final = 10
DATABASE_OID: Final = 1
_FIRST_SYSTEM_OID: Final = 14_000
#: An index's oid is its table's plus this.
PRIMARY_KEY_INDEX_OFFSET: Final = 1_000_000_000


def constraint_oid(table_oid: int, name: str) -> int:
    """The oid of a constraint: it has no identity of its own but its table and name."""
    return 0x6000_0000 | (zlib.crc32(f"{table_oid} {name}".encode()) & 0x1FFF_FFFF)


def default_oid(table_oid: int, column: int) -> int:
    """The oid of a column's default (pg_attrdef)."""
    return 0x6000_0000 | (zlib.crc32(f"{table_oid}/{column}".encode()) & 0x1FFF_FFFF)


def procedure_oid(name: str) -> int:
    """The oid of a function: what ``'name'::regproc`` is, and pg_proc shows."""
    return zlib.crc32(name.encode()) & 0x7FFF_FFFF


def schema_oid(name: str) -> int:
    """The oid of a schema, the same on every node."""
    return SCHEMA_OIDS.get(name) or 0x4000_0000 | (zlib.crc32(name.encode()) & 0x3FFF_FFFF)


@cache
def system_relation_oids() -> dict[RelationName, int]:
    """The oids of all system tables."""
    oids: dict[RelationName, int] = {}
    for position, name in enumerate(sorted(system_tables())):
        known = PG_CATALOG_OIDS.get(name.name) if name.schema == "pg_catalog" else None
        oids[name] = known or _FIRST_SYSTEM_OID + position
    return oids


def relation_oid(state: ClusterState, name: RelationName) -> int | None:
    """The oid of a table, view or system table; None if there is none of that name."""
    system = system_relation_oids().get(name)
    if system is not None:
        return system
    table = state.table(name)
    if table is not None:
        return table.definition.oid
    view = state.views.get(str(name))
    return None if view is None else view.oid
