"""Objects of kinds that this server has none of: dropping or altering one says that it is not there.

In: a MissingObject, or the privileges that somebody is to have. Out: nothing to do, if it need not be there; else the error. Row counts of nothing to do are CrateDB's:
those of users and blob tables count what was dropped.
"""

from __future__ import annotations

from typing import Final

from cratepy.errors import (
    CrateError,
    OperationOnInaccessibleRelation,
    PublicationUnknown,
    RelationUnknown,
    RepositoryUnknown,
    ResourceUnknown,
    RoleUnknown,
    SQLParseError,
    SubscriptionUnknown,
    UnsupportedFeature,
    UserFunctionUnknown,
)
from cratepy.model.names import SUPERUSER
from cratepy.model.plan import NoOperationPlan
from cratepy.model.schema import ViewDefinition
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.statements import AnalyzedDirect, AnalyzedStatement
from cratepy.sql.analyze.typing import data_type
from cratepy.sql.parse import tree

#: Query, data manipulation, data definition, administration.
_PRIVILEGES: Final = frozenset({"dql", "dml", "ddl", "al"})


def missing_object(context: Context, node: tree.MissingObject) -> tuple[AnalyzedStatement, str]:
    """Nothing to do, or the error that there is no such object."""
    if node.kind == "role" and node.name == (SUPERUSER,):
        verb = "drop" if node.tag == "DROP" else "alter"
        raise UnsupportedFeature(f"Cannot {verb} a superuser '{SUPERUSER}'")
    if not node.if_exists:
        raise _error(context, node)
    plan = NoOperationPlan(rowcount=0 if node.kind in ("role", "blob table") else 1)
    return AnalyzedDirect(plan=plan, columns=None, tag=node.tag), node.tag


def refused_privileges(context: Context, node: tree.PrivilegesNode) -> CrateError:
    """Why a GRANT, DENY or REVOKE cannot be: there is one user, and that has everything. Raises what is wrong before that."""
    if node.verb != "revoke":
        for name in node.objects:
            _check_securable(context, node.kind, name)
    if not node.kind and node.names and not _PRIVILEGES.issuperset(node.names):
        for role in node.names:
            check_role(role)
        raise SQLParseError("Cannot GRANT a USER to a ROLE")
    unknown = [name for name in node.names if name not in _PRIVILEGES]
    if unknown:
        raise SQLParseError(f"Unknown privilege type '{unknown[0]}'")
    for role in node.roles:
        check_role(role)
    return UnsupportedFeature(f"Cannot alter privileges for superuser '{SUPERUSER}'")


def check_role(name: str) -> None:
    """Raises RoleUnknown unless it is the one role there is."""
    if name != SUPERUSER:
        raise RoleUnknown(f"Role '{name}' does not exist")


def _check_securable(context: Context, kind: str, name: tuple[str, ...]) -> None:
    if name[0] == "information_schema":
        raise UnsupportedFeature("GRANT/DENY/REVOKE Privileges on information_schema is not supported")
    if kind == "schema":
        return
    found = context.catalog.relation(name)
    is_view = isinstance(found, ViewDefinition)
    if is_view != (kind == "view"):
        raise OperationOnInaccessibleRelation(
            f"Expected {found.name} to be a {kind.upper()} securable but got a relation of type "
            f"{'VIEW' if is_view else 'BASE_TABLE'}"
        )


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
