"""Objects of kinds that this server has none of: dropping or altering one says that it is not there.

In: a MissingObject. Out: nothing to do, if it need not be there; else the error. Row counts of nothing to do are CrateDB's:
those of users and blob tables count what was dropped.
"""

from __future__ import annotations

from cratepy.errors import (
    CrateError,
    PublicationUnknown,
    RelationUnknown,
    RepositoryUnknown,
    ResourceUnknown,
    RoleUnknown,
    SubscriptionUnknown,
    UnsupportedFeature,
    UserFunctionUnknown,
)
from cratepy.model.names import SUPERUSER
from cratepy.model.plan import NoOperationPlan
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.statements import AnalyzedDirect, AnalyzedStatement
from cratepy.sql.analyze.typing import data_type
from cratepy.sql.parse import tree


def missing_object(context: Context, node: tree.MissingObject) -> tuple[AnalyzedStatement, str]:
    """Nothing to do, or the error that there is no such object."""
    if node.kind == "role" and node.name == (SUPERUSER,):
        verb = "drop" if node.tag == "DROP" else "alter"
        raise UnsupportedFeature(f"Cannot {verb} a superuser '{SUPERUSER}'")
    if not node.if_exists:
        raise _error(context, node)
    plan = NoOperationPlan(rowcount=0 if node.kind in ("role", "blob table") else 1)
    return AnalyzedDirect(plan=plan, columns=None, tag=node.tag), node.tag


def _error(context: Context, node: tree.MissingObject) -> CrateError:
    name = node.name[-1]
    match node.kind:
        case "role":
            return RoleUnknown(f"Role '{name}' does not exist")
        case "repository" | "snapshot":
            return RepositoryUnknown(f"[{node.name[0]}] missing")
        case "publication":
            return PublicationUnknown(f"Publication '{name}' unknown")
        case "subscription":
            return SubscriptionUnknown(f"Subscription '{name}' unknown")
        case "server":
            return ResourceUnknown(f"Server `{name}` not found")
        case "function":
            types = ", ".join(data_type(written).name for written in node.types)
            return UserFunctionUnknown(
                f"Cannot resolve user defined function: '{context.catalog.new_name(node.name)}({types})'"
            )
        case "blob table":
            return RelationUnknown(f"Relation 'blob.{name}' unknown")
        case _:
            return RelationUnknown(f"Relation '{context.catalog.new_name(node.name)}' unknown")
