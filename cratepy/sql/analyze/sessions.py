"""Statements about the session and the cluster's settings: their plans need no query.

SET values are literals; session settings keep what was written, whether the session knows them is its question.
"""

from __future__ import annotations

import re
from typing import Any, Final, assert_never

from cratepy.errors import SQLParseError, UnsupportedFeature
from cratepy.model.commands import SetClusterSettings
from cratepy.model.expressions import Expression, Literal
from cratepy.model.plan import (
    ClosePlan,
    ClusterPlan,
    CommandPlan,
    DeallocatePlan,
    FetchPlan,
    KillPlan,
    NoOperationPlan,
    Plan,
    ResetPlan,
    SetPlan,
    TransactionPlan,
)
from cratepy.model.schema import SettingValue
from cratepy.model.types import TEXT
from cratepy.sql.analyze.context import Context
from cratepy.sql.analyze.expressions import ExpressionAnalyzer
from cratepy.sql.analyze.missing import check_role
from cratepy.sql.analyze.scope import Scope
from cratepy.sql.analyze.settings import check_cluster_setting, cluster_value, constant, settings_below
from cratepy.sql.analyze.statements import AnalyzedDirect, AnalyzedStatement
from cratepy.sql.analyze.typing import cast_to
from cratepy.sql.parse import tree

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_TAGS: Final = {
    "begin": "BEGIN",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "savepoint": "SAVEPOINT",
    "release": "RELEASE",
    "rollback_to": "ROLLBACK",
}

_Node = (
    tree.SetStatement
    | tree.ResetStatement
    | tree.TransactionStatement
    | tree.KillStatement
    | tree.AlterClusterStatement
    | tree.DeallocateStatement
    | tree.FetchStatement
    | tree.CloseStatement
    | tree.CopyOtherNode
    | tree.NoOperation
)


def direct(context: Context, node: _Node) -> tuple[AnalyzedStatement, str]:
    """The statement's plan and its command tag."""
    match node:
        case tree.SetStatement():
            return _set(context, node)
        case tree.ResetStatement():
            return _reset(node)
        case tree.TransactionStatement():
            return _plan(TransactionPlan(action=node.action, name=node.name), _TAGS[node.action])
        case tree.KillStatement():
            return _plan(_kill(context, node), "KILL")
        case tree.AlterClusterStatement():
            node_name = None if node.node is None else _node_name(context, node.node)
            return _plan(ClusterPlan(action=node.action, node=node_name), "ALTER")
        case tree.DeallocateStatement():
            tag = "DISCARD" if node.discards_session else "DEALLOCATE"
            return _plan(DeallocatePlan(name=node.name, discards_session=node.discards_session), tag)
        case tree.FetchStatement():
            plan = FetchPlan(name=node.name, direction=node.direction, count=node.count, is_move=node.is_move)
            return _plan(plan, "MOVE" if node.is_move else "FETCH")
        case tree.CloseStatement():
            return _plan(ClosePlan(name=node.name), "CLOSE")
        case tree.CopyOtherNode():
            raise UnsupportedFeature(node.reason)
        case tree.NoOperation():
            return _plan(NoOperationPlan(rowcount=node.rowcount), node.tag)
        case _:
            assert_never(node)


def _plan(plan: Plan, tag: str) -> tuple[AnalyzedStatement, str]:
    return AnalyzedDirect(plan=plan, columns=None, tag=tag), tag


def _set(context: Context, node: tree.SetStatement) -> tuple[AnalyzedStatement, str]:
    if node.scope.startswith("global"):
        return _plan(CommandPlan(command=_set_global(context, node)), "SET")
    values: list[tuple[str, Expression | None]] = []
    for name, nodes in node.values:
        if nodes is None:
            values.append((name, None))
        elif len(nodes) == 1:
            value = _session_value(context, nodes[0])
            if name == "session_authorization" and isinstance(value, Literal):
                check_role(_text(value.value))
            values.append((name, value))
        else:
            joined = ", ".join(_text(constant(context, item)) for item in nodes)
            values.append((name, Literal(joined, TEXT)))
    return _plan(SetPlan(values=tuple(values), is_local=node.scope == "local"), "SET")


def _session_value(context: Context, node: tree.Node) -> Expression:
    a = ExpressionAnalyzer(context, Scope(), place="SET")
    expression = a.analyze(node)
    if expression.type.kind == "undefined":
        return cast_to(context, expression, TEXT)
    if isinstance(expression, Literal):
        return expression
    (folded,) = context.fold([expression])
    return folded


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _set_global(context: Context, node: tree.SetStatement) -> SetClusterSettings:
    settings: dict[str, SettingValue] = {}
    for name, nodes in node.values:
        if nodes is None:
            check_cluster_setting(name)
            settings[name] = None
            continue
        value = constant(context, nodes[0]) if len(nodes) == 1 else [constant(context, item) for item in nodes]
        for key, part in _flattened(name, value):
            check_cluster_setting(key)
            settings[key] = cluster_value(key, part)
    context.is_cacheable = False
    return SetClusterSettings(settings=settings, is_persistent=node.scope == "global persistent")


def _flattened(name: str, value: Any) -> list[tuple[str, Any]]:
    """``stats = {jobs_log_size = 1}`` is ``stats.jobs_log_size = 1``."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, part in value.items() for pair in _flattened(f"{name}.{key}", part)]


def _reset(node: tree.ResetStatement) -> tuple[AnalyzedStatement, str]:
    if node.is_global:
        assert node.names is not None
        for name in node.names:
            check_cluster_setting(name)
        names = [found for name in node.names for found in settings_below(name)]
        return _plan(CommandPlan(command=SetClusterSettings(settings=dict.fromkeys(names))), "RESET")
    return _plan(ResetPlan(name=None if node.names is None else node.names[0]), "RESET")


def _node_name(context: Context, node: tree.Node) -> Expression:
    return cast_to(context, ExpressionAnalyzer(context, Scope(), place="ALTER CLUSTER").analyze(node), TEXT)


def _kill(context: Context, node: tree.KillStatement) -> KillPlan:
    if node.job_id is None:
        return KillPlan(job_id=None)
    a = ExpressionAnalyzer(context, Scope(), place="KILL")
    job_id = cast_to(context, a.analyze(node.job_id), TEXT)
    if isinstance(job_id, Literal) and not _UUID.match(str(job_id.value)):
        raise SQLParseError(f"Can not parse job ID: '{job_id.value}'")
    return KillPlan(job_id=job_id)
