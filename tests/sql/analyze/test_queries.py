"""The relation of each kind of query, as text. Rewritten by ``pytest --update-goldens``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sql.analyze.helpers import plan_of

QUERIES = {
    "filter": "SELECT id, a FROM t WHERE id = 1",
    "group_having_order": "SELECT a, count(*), avg(n) FROM t WHERE d > 1 GROUP BY a HAVING count(*) > 1 ORDER BY 3 DESC, a LIMIT 5",
    "distinct": "SELECT DISTINCT a FROM t ORDER BY a",
    "order_hidden_column": "SELECT a FROM t ORDER BY n + 1 DESC NULLS LAST LIMIT 3 OFFSET 1",
    "left_join": "SELECT t.id, u.g FROM t LEFT JOIN u ON t.id = u.id AND u.w > 3",
    "join_using": "SELECT * FROM u JOIN t USING (id)",
    "correlated_scalar_and_exists": "SELECT id, (SELECT max(w) FROM u WHERE u.id < t.id) FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id)",
    "in_and_all": "SELECT id FROM t WHERE id IN (SELECT id FROM u) AND n > ALL (SELECT w FROM u)",
    "window": "SELECT a, row_number() OVER (PARTITION BY a ORDER BY n DESC) FROM t",
    "window_over_groups": "SELECT a, sum(count(*)) OVER () FROM t GROUP BY a",
    "set_returning": "SELECT id, unnest(tags) FROM t ORDER BY 2",
    "union_all_types": "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3.5",
    "union_order": "SELECT id FROM t UNION SELECT w FROM u ORDER BY 1 LIMIT 2",
    "with_twice": "WITH x AS (SELECT id FROM t) SELECT * FROM x a, x b WHERE a.id = b.id",
    "recursive": "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
    "count_star": "SELECT count(*) FROM t",
    "narrowed_literals": "SELECT id FROM t WHERE a = 5 AND id = 1.0 AND n IN (1, 2)",
    "case_simple": "SELECT CASE a WHEN 'x' THEN 1 ELSE 2.5 END FROM t",
    "subscripts": "SELECT o['p']['q'], tags[1] FROM t",
    "distinct_filter": "SELECT count(DISTINCT a) FILTER (WHERE id > 1) FROM t",
    "scalar_beside_aggregate": "SELECT (SELECT max(id) FROM u) + sum(id) FROM t",
    "order_by_subquery": "SELECT a FROM t GROUP BY a ORDER BY (SELECT max(w) FROM u)",
    "having_subquery": "SELECT max(id) FROM t HAVING max(id) > (SELECT min(id) FROM u)",
    "aggregate_of_subquery": "SELECT sum((SELECT max(w) FROM u WHERE u.id = t.id)) FROM t",
    "function_with_ordinality": "SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS g (x, i)",
    "values_renamed": "SELECT a + 1 FROM (VALUES (1), (2)) v (a)",
    "array_subquery": "SELECT ARRAY(SELECT id FROM u ORDER BY id)",
    "undeclared_keys": "SELECT i['x'], i['y'] || 'q' FROM t WHERE i['z'] = 5",
    "group_by_call": "SELECT upper(a) FROM t GROUP BY upper(a)",
    "group_by_alias": "SELECT a b, count(*) FROM t GROUP BY b",
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_becomes_these_operators(name: str, golden: Callable[[str, str], None]) -> None:
    golden(name, f"{QUERIES[name]}\n\n{plan_of(QUERIES[name])}")
