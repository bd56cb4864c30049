"""The SQL handler's front door: text in, compiled statements out. Pure and synchronous.

::

    text ─ parse ─► statements ─ analyze ─► AnalyzedStatement ─ plan ─► CompiledStatement (plan, columns, tag, types)

Every statement of the text is compiled against the same cluster state; a plan is good while the state has that version
(``state_version``), because schema and routing are baked in. Errors are CrateErrors with CrateDB's words; one statement
that cannot be compiled fails the whole text before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cratepy.model.plan import CompiledStatement
from cratepy.model.state import ClusterState
from cratepy.model.types import DataType
from cratepy.sql.analyze.analyzer import analyze
from cratepy.sql.analyze.catalog import CatalogView
from cratepy.sql.parse.parser import parse
from cratepy.sql.plan.estimates import Estimates
from cratepy.sql.plan.planner import Surroundings, plan_statement
from cratepy.sql.plan.rules.constants import Fold
from cratepy.sql.session_view import SessionView


def compile_text(
    text: str,
    *,
    parameter_types: Sequence[DataType | None],
    session: SessionView,
    state: ClusterState,
    handler_id: str,
    fold: Fold,
    new_id: Callable[[], str],
    now_ms: int,
    estimates: Mapping[str, int] = {},
) -> list[CompiledStatement]:
    """Every statement of the text with its plan.

    ``fold`` computes constant calls, ``new_id`` makes the uuids of new tables, ``estimates`` are rows by table uuid, as far
    as the caller knows them (they decide where rows travel, never what is answered). Cost: a few milliseconds for a plain
    statement; callers keep the result by (text, parameter types, session view, state version) if ``is_cacheable``.
    """
    around = Surroundings(state=state, handler_id=handler_id, fold=fold, estimates=Estimates(estimates))
    catalog = CatalogView(state, session.search_path)
    compiled: list[CompiledStatement] = []
    for parsed in parse(text):
        analysis = analyze(parsed, catalog, parameter_types=parameter_types, session=session, fold=fold, new_id=new_id)
        planned = plan_statement(analysis.statement, around)
        compiled.append(
            CompiledStatement(
                text=parsed.text,
                plan=planned.plan,
                columns=planned.columns,
                parameter_types=analysis.parameter_types,
                tag=analysis.tag,
                is_cacheable=analysis.is_cacheable,
                state_version=state.version,
                reads_catalog=analysis.reads_catalog,
            )
        )
    return compiled
