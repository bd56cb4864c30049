"""Plans of MATCH, as EXPLAIN shows them: what is asked of the text index and what is read."""

from __future__ import annotations

import msgspec
import pytest

from cratepy.execution.engine.constants import fold
from cratepy.model.plan import CountPlan, DeletePlan, ExplainPlan, GetPlan, Plan, QueryPlan
from cratepy.model.relations import Scan
from cratepy.model.schema import ColumnDefinition, TableDefinition
from cratepy.model.search import IndexDefinition
from cratepy.model.state import ClusterState
from cratepy.model.types import INTEGER, TEXT
from cratepy.sql.compiler import compile_text
from cratepy.sql.plan.walk import operators
from cratepy.sql.session_view import SessionView
from tests.sql.plan.building import state


def _with_text(cluster: ClusterState) -> ClusterState:
    """Table ta has full-text columns title and body, and a plain index of g."""
    table = cluster.tables["uuid-ta"]
    definition: TableDefinition = msgspec.structs.replace(
        table.definition,
        columns=(
            ColumnDefinition(oid=1, name="id", type=INTEGER, is_nullable=False),
            ColumnDefinition(oid=2, name="title", type=TEXT, index="fulltext", analyzer="standard"),
            ColumnDefinition(oid=3, name="body", type=TEXT, index="fulltext", analyzer="english"),
            ColumnDefinition(oid=4, name="n", type=INTEGER),
            ColumnDefinition(oid=5, name="g", type=TEXT),
        ),
        primary_key=("id",),
        indexes=(IndexDefinition(oid=6, name="exact", columns=("g",), method="plain"),),
    )
    return msgspec.structs.replace(
        cluster, tables={**cluster.tables, "uuid-ta": msgspec.structs.replace(table, definition=definition)}
    )


def plan(text: str, nodes: int = 1) -> Plan:
    (compiled,) = compile_text(
        text,
        parameter_types=(),
        session=SessionView(),
        state=_with_text(state(nodes)),
        handler_id="n1",
        fold=fold,
        new_id=lambda: "new",
        now_ms=0,
    )
    return compiled.plan


def explained(text: str, nodes: int = 1) -> str:
    explain = plan(f"EXPLAIN (COSTS false) {text}", nodes)
    assert isinstance(explain, ExplainPlan)
    return explain.lines[0][0].partition("\nPhase 0")[0]


def scan_of(text: str) -> Scan:
    query = plan(text)
    query = query.find if isinstance(query, DeletePlan) else query
    assert isinstance(query, QueryPlan)
    (scan,) = [operator for operator in operators(query.phases[0].relation) if isinstance(operator, Scan)]
    return scan


MATCH_TITLE = "MATCH((title NULL), 'x') USING best_fields WITH ({})"


def test_a_conjunct_is_asked_of_the_index_and_the_rest_stays_a_filter() -> None:
    assert explained("select id from ta where n > 1 and match(title, 'x')") == (
        f"Eval[id]\n  └ Collect[doc.ta | [n, id] | ({MATCH_TITLE} AND (n > 1))]"
    )
    scan = scan_of("select id from ta where n > 1 and match(title, 'x')")
    assert [match.is_required for match in scan.matches] == [True]
    assert [column.source for column in scan.columns] == ["c4", "c1"]


@pytest.mark.parametrize("condition", ["match(title, 'x') or n = 1", "not match(title, 'x')"])
def test_below_or_and_not_a_match_is_a_column(condition: str) -> None:
    scan = scan_of(f"select id from ta where {condition}")
    assert [match.is_required for match in scan.matches] == [False]
    assert "_match_0" in [column.source for column in scan.columns]


def test_the_best_by_score_are_asked_of_the_index() -> None:
    assert explained("select id, _score from ta where match(title, 'x') order by _score desc limit 10 offset 5") == (
        f"Limit[10::bigint;5::bigint]\n  └ OrderBy[_score DESC]\n    └ Collect[doc.ta | [id, _score] | {MATCH_TITLE} | "
        "best 15::bigint by _score]"
    )


def test_the_order_of_equal_scores_needs_all_of_them() -> None:
    scan = scan_of("select id from ta where match(title, 'x') order by _score desc, id limit 10")
    assert scan.best is not None
    assert scan.best.with_ties


def test_a_filter_beside_the_match_is_tested_on_the_best() -> None:
    scan = scan_of("select id from ta where match(title, 'x') and n = 1 order by _score desc limit 10")
    assert scan.best is not None
    assert scan.best.tests_filter


def test_a_parameter_as_the_limit_is_known_when_the_statement_runs() -> None:
    scan = scan_of("select id from ta where match(title, $1) order by _score desc limit $2")
    assert scan.best is not None
    assert not scan.best.with_ties


@pytest.mark.parametrize(
    "text",
    [
        "select id from ta where match(title, 'x') order by _score limit 10",
        "select id from ta where match(title, 'x') order by _score desc",
        "select id from ta where match(title, 'x') and n = 1 order by _score desc, id limit 10",
        "select id from ta where match(title, 'x') or n = 1 order by _score desc limit 10",
        "select id from ta order by _score desc limit 10",
        "select id from ta where match(title, 'x') order by id, _score desc limit 10",
    ],
)
def test_other_orders_and_filters_take_all_that_match(text: str) -> None:
    assert scan_of(text).best is None


def test_every_node_gives_its_best() -> None:
    query = plan("select id from ta where match(title, 'x') order by _score desc limit 10", 3)
    assert isinstance(query, QueryPlan)
    (scan,) = [operator for operator in operators(query.phases[0].relation) if isinstance(operator, Scan)]
    assert scan.best is not None
    assert len(query.phases) == 2


def test_counting_matches_reads_no_column() -> None:
    text = "select count(*) from ta where match(title, 'x')"
    assert not isinstance(plan(text), CountPlan)
    assert [column.source for column in scan_of(text).columns] == ["_match_0"]


def test_a_key_with_a_match_is_searched() -> None:
    assert not isinstance(plan("select title from ta where id = 1 and match(title, 'x')"), GetPlan)


def test_a_match_nobody_asks_for_is_not_computed() -> None:
    scan = scan_of("select id from ta where n = 1 and (match(title, 'x') or true)")
    assert scan.matches == ()


def test_a_delete_finds_its_rows_by_the_index() -> None:
    scan = scan_of("delete from ta where match(title, 'x') and n = 1")
    assert [match.is_required for match in scan.matches] == [True]
    assert [column.source for column in scan.columns] == ["c4", "_id", "_seq_no", "_primary_term"]


def test_a_join_asks_the_index_of_its_side() -> None:
    text = explained("select ta.id from ta left join tb on ta.id = tb.ta_id where match(ta.title, 'x')")
    assert f"Collect[doc.ta | [id] | {MATCH_TITLE}]" in text


def test_a_limit_without_an_order_stops_the_search_early() -> None:
    assert scan_of("select id from ta where match(title, 'x') limit 3").limit == 3


def test_a_scan_knows_the_exact_indexes_of_its_table() -> None:
    assert scan_of("select id from ta where g = 'x'").exact_indexes == (("c5", "c6"),)


def test_one_of_several_matches_is_asked_of_the_index_too() -> None:
    text = "select id from ta where (match(title, 'x') or match(body, 'y')) {} order by _score desc limit 5"
    scan = scan_of(text.format(""))
    assert scan.any_of == ("_match_0", "_match_1")
    assert scan.best is not None
    assert scan_of(text.format("and n = 1")).best is None
    assert scan_of(text.format("and n = 1")).any_of == ("_match_0", "_match_1")
    assert scan_of(text.format("and match(title, 'z')")).any_of == ()
    assert scan_of("select id from ta where match(title, 'x') or match(body, 'y') or n = 1").any_of == ()
