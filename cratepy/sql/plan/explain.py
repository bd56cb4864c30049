"""EXPLAIN: the logical plan as a tree in CrateDB's words, then the phases, their nodes and how rows travel.

::

    GroupHashAggregate[g | count(*)] (rows=unknown)
      └ Collect[doc.ta | [g] | (a > 1)] (rows=unknown)
    Phase 0 on n1, n2, n3: hash by g to phase 1
      GroupHashAggregate[g | count(*)]
        └ Collect[doc.ta | [g] | (a > 1)]
    …

Tree form and operator names after CrateDB's ``PrintContext`` and ``ExplainPlan``; the phases are cratepy's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from cratepy.model.plan import Broadcast, CountPlan, Gather, GetPlan, HashPartition, Phase, QueryPlan
from cratepy.model.relations import (
    Aggregation,
    Apply,
    ExchangeInput,
    Filter,
    Join,
    Limit,
    OutputColumn,
    Project,
    ProjectSet,
    RecursiveQuery,
    RecursiveReference,
    Relation,
    Scan,
    ScanColumn,
    SetOperation,
    Sort,
    SystemScan,
    TableFunction,
    Values,
    WindowCalculation,
    children,
    output_columns,
)
from cratepy.model.state import ClusterState
from cratepy.sql.plan.joining import equal_pairs
from cratepy.sql.plan.optimizer import Optimized
from cratepy.sql.plan.text import expression_text, expressions_text, items_text, keys_text

#: What stands behind an operator's brackets, such as its estimated rows; empty for nothing.
Note = Callable[[Relation], str]


def no_note(_: Relation) -> str:
    return ""


def tree_text(relation: Relation, note: Note = no_note) -> str:
    """The tree, one line per operator."""
    return "\n".join(_lines(relation, note))


def _lines(relation: Relation, note: Note) -> list[str]:
    below = [_lines(child, note) for child in children(relation)]
    if isinstance(relation, Apply):
        below[1] = _nested("SubPlan", [below[1]])
    return _nested(operator_text(relation) + note(relation), below)


def _nested(head: str, below: Sequence[list[str]]) -> list[str]:
    lines = [head]
    for i, child in enumerate(below):
        is_last = i == len(below) - 1
        lines.append(f"  {'└' if is_last else '├'} {child[0]}")
        lines.extend(("  " if is_last else "  │") + line for line in child[1:])
    return lines


def operator_text(relation: Relation) -> str:
    """One operator, without what is below it."""
    match relation:
        case Scan() | SystemScan():
            return _scan_text(relation)
        case TableFunction():
            arguments = expressions_text(relation.arguments)
            return f"TableFunction[{relation.function}({arguments}) | [{_names(relation.columns)}] | true]"
        case Values():
            return _values_text(relation)
        case Filter():
            return f"Filter[{expression_text(relation.predicate)}]"
        case Project():
            return f"Eval[{items_text(relation.items)}]"
        case ProjectSet():
            return f"ProjectSet[{items_text(relation.items)} | {_names(output_columns(relation.child))}]"
        case Aggregation():
            if not relation.keys:
                return f"HashAggregate[{items_text(relation.aggregates)}]"
            aggregates = f" | {items_text(relation.aggregates)}" if relation.aggregates else ""
            return f"GroupHashAggregate[{items_text(relation.keys)}{aggregates}]"
        case WindowCalculation():
            return f"WindowAgg[{_names(output_columns(relation.child))}] | [{items_text(relation.items)}]"
        case Join():
            return _join_text(relation)
        case Apply():
            return _apply_text(relation)
        case Sort():
            return f"OrderBy[{keys_text(relation.keys)}]"
        case Limit():
            count = "ALL" if relation.count is None else expression_text(relation.count)
            return f"Limit[{count};{'0' if relation.offset is None else expression_text(relation.offset)}]"
        case SetOperation():
            name = {"union_all": "Union", "union": "UnionDistinct"}.get(relation.kind, relation.kind.capitalize())
            return f"{name}[{_names(relation.columns)}]"
        case RecursiveQuery():
            return f"Recursive[{relation.name} | {_names(relation.columns)}]"
        case RecursiveReference():
            return f"RecursiveReference[{relation.name} | {_names(relation.columns)}]"
        case ExchangeInput():
            return f"Receive[phase {relation.phase} | {_names(relation.columns)}]"
        case _:
            assert_never(relation)


def _names(columns: Sequence[OutputColumn | ScanColumn]) -> str:
    return ", ".join(column.name for column in columns)


def _scan_text(scan: Scan | SystemScan) -> str:
    condition = _condition_text(scan)
    limit = f" | limit {scan.limit}" if isinstance(scan, Scan) and scan.limit is not None else ""
    if isinstance(scan, Scan) and scan.best is not None:
        ties = " with ties" if scan.best.with_ties else ""
        limit = f" | best {expression_text(scan.best.count)}{ties} by _score"
    return f"Collect[{scan.table} | [{_names(scan.columns)}] | {condition}{limit}]"


def _condition_text(scan: Scan | SystemScan) -> str:
    """What every row satisfies: the matches asked of the text index, then the filter."""
    texts = [m.name for m in scan.matches if m.is_required] if isinstance(scan, Scan) else []
    if scan.filter is not None:
        texts.append(expression_text(scan.filter))
    if not texts:
        return "true"
    result = texts[0]
    for text in texts[1:]:
        result = f"({result} AND {text})"
    return result


def _values_text(values: Values) -> str:
    if not values.rows:
        return f"Empty[{_names(values.columns)}]"
    name = "empty_row" if len(values.rows) == 1 and not values.columns else "_values"
    return f"TableFunction[{name} | [{_names(values.columns)}] | true]"


def _join_text(join: Join) -> str:
    kind = join.kind.upper()
    if join.condition is None:
        return f"NestedLoopJoin[{kind}]"
    name = "HashJoin" if equal_pairs(join) else "NestedLoopJoin"
    return f"{name}[{kind} | {expression_text(join.condition)}]"


def _apply_text(apply: Apply) -> str:
    what = apply.kind.upper()
    if apply.operand is not None and apply.operator is not None:
        what = f"{expression_text(apply.operand)} {apply.operator.removeprefix('op_')} {what}"
    return f"CorrelatedJoin[{_names(output_columns(apply.left))} | {what}]"


# --- plans -----------------------------------------------------------------------------------------------------------


def logical_text(plan: QueryPlan | GetPlan | CountPlan, optimized: Optimized, note: Note = no_note) -> str:
    """The logical plan that the plan carries out."""
    match plan:
        case GetPlan():
            return _get_text(plan, optimized.relation)
        case CountPlan():
            return f"Count[{plan.table} | true]"
        case QueryPlan():
            main = _lines(optimized.relation, note)
            if optimized.subqueries:
                main = _nested("MultiPhase", [main, *(_lines(s.relation, note) for s in optimized.subqueries)])
            return "\n".join(main)
        case _:
            assert_never(plan)


def _get_text(plan: GetPlan, relation: Relation) -> str:
    keys = "; ".join(expressions_text(key) for key in plan.keys)
    if plan.key_list is not None:
        keys = f"ANY({expression_text(plan.key_list)})"
    output = items_text(plan.projection) if plan.projection else _names(plan.columns)
    scan = relation
    above: list[Relation] = []
    while not isinstance(scan, Scan):
        if isinstance(scan, Sort | Limit) and (plan.order or plan.offset or plan.count is not None):
            above.append(scan)
        (scan,) = children(scan)
    condition = "true" if scan.filter is None else expression_text(scan.filter)
    lines = [f"Get[{plan.table} | {output} | DocKeys{{{keys}}} | {condition}]"]
    for operator in reversed(above):
        lines = _nested(operator_text(operator), [lines])
    return "\n".join(lines)


def phases_text(plan: QueryPlan, state: ClusterState) -> str:
    """Every phase: its nodes, where its rows go, its tree."""
    lines: list[str] = []
    for subplan in plan.subplans:
        lines.append(f"Subquery #{subplan.slot} ({subplan.kind})")
        lines.extend("  " + line for phase in subplan.plan.phases for line in _phase_lines(phase, state))
    for phase in plan.phases:
        lines.extend(_phase_lines(phase, state))
    return "\n".join(lines)


def _phase_lines(phase: Phase, state: ClusterState) -> list[str]:
    nodes = ", ".join(state.nodes[node].name if node in state.nodes else node for node in phase.nodes)
    head = f"Phase {phase.id} on {nodes}: {_output_text(phase)}"
    return [head, *("  " + line for line in _lines(phase.relation, no_note))]


def _output_text(phase: Phase) -> str:
    match phase.output:
        case None:
            return "to the client"
        case Gather():
            return f"gather to phase {phase.output.phase}"
        case HashPartition():
            names = {column.id: column.name for column in output_columns(phase.relation)}
            return f"hash by {', '.join(names[key] for key in phase.output.keys)} to phase {phase.output.phase}"
        case Broadcast():
            return f"broadcast to phase {phase.output.phase}"
        case _:
            assert_never(phase.output)
