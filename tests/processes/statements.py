"""Statements over the flights data whose answers DuckDB knows: (SQL, DuckDB's text if it differs, rows are ordered).

One per kind of thing a query can do; together they pass every operator and both kinds of exchange.
"""

from __future__ import annotations

from typing import Final

Statement = tuple[str, str | None, bool]


def _any(sql: str, duckdb: str | None = None) -> Statement:
    return sql, duckdb, False


def _in_order(sql: str, duckdb: str | None = None) -> Statement:
    return sql, duckdb, True


STATEMENTS: Final = (
    # filters and three-valued logic
    _any("SELECT count(*) FROM flights"),
    _any("SELECT count(*) FROM flights WHERE dep_delay > 60"),
    _any("SELECT count(*) FROM flights WHERE NOT (dep_delay > 60)"),
    _any("SELECT count(*) FROM flights WHERE dep_delay IS NULL"),
    _any("SELECT count(*) FROM flights WHERE dep_delay <> arr_delay OR arr_delay IS NULL"),
    _any("SELECT count(*) FROM flights WHERE carrier IN ('AA', 'UA', NULL)"),
    _any("SELECT count(*) FROM flights WHERE carrier NOT IN ('AA', 'UA', NULL)"),
    _any("SELECT count(*) FROM flights WHERE month BETWEEN 3 AND 5 AND origin = 'JFK'"),
    _any("SELECT faa, name FROM airports WHERE name LIKE 'San %' OR name LIKE '%Field'"),
    _any("SELECT faa FROM airports WHERE name ILIKE '%intl%' AND NOT tz = -5"),
    _any("SELECT tailnum FROM planes WHERE year IS DISTINCT FROM 2004 AND seats > 300"),
    # expressions
    _any("SELECT carrier, upper(name), length(name), substr(name, 1, 3) FROM airlines"),
    _any("SELECT flight, distance * 1.609 AS km, air_time / 60 FROM flights WHERE dest = 'ANC'",
         "SELECT flight, distance * 1.609 AS km, air_time // 60 FROM flights WHERE dest = 'ANC'"),
    _any("SELECT flight, abs(dep_delay), dep_delay % 7, -arr_delay FROM flights WHERE dest = 'LEX' OR dest = 'SBN'"),
    _any("SELECT CASE WHEN dep_delay > 0 THEN 'late' WHEN dep_delay <= 0 THEN 'fine' ELSE '?' END, count(*) FROM flights GROUP BY 1"),
    _any("SELECT coalesce(tailnum, 'none'), nullif(origin, 'JFK') FROM flights WHERE dest = 'LGA' OR dest = 'HDN'"),
    _any("SELECT carrier || '-' || flight::text FROM flights WHERE dest = 'TVC' AND month = 8"),
    _any("SELECT lat::integer, round(lon) FROM airports WHERE alt > 6000",
         "SELECT trunc(lat)::integer, floor(lon + 0.5) FROM airports WHERE alt > 6000"),
    # aggregation
    _any("SELECT sum(distance), min(dep_delay), max(arr_delay), avg(air_time), count(tailnum) FROM flights"),
    _any("SELECT origin, carrier, count(*), avg(dep_delay), max(distance) FROM flights GROUP BY origin, carrier"),
    _any("SELECT dest, count(*) FROM flights GROUP BY dest HAVING count(*) > 10000"),
    _any("SELECT count(DISTINCT tailnum), count(DISTINCT dest) FROM flights"),
    _any("SELECT carrier, count(DISTINCT dest) FROM flights GROUP BY carrier"),
    _any("SELECT DISTINCT origin, month FROM flights"),
    _any("SELECT stddev_samp(dep_delay), variance(arr_delay) FROM flights WHERE month = 2",
         "SELECT stddev_samp(dep_delay), var_pop(arr_delay) FROM flights WHERE month = 2"),
    _any("SELECT tailnum, count(*), sum(distance) FROM flights GROUP BY tailnum"),
    _any("SELECT month, count(*) FILTER (WHERE dep_delay > 30), sum(distance) FILTER (WHERE origin = 'LGA') FROM flights GROUP BY month"),
    _any("SELECT max(carrier), min(tailnum) FROM flights WHERE month = 13"),
    # order and limit
    _in_order("SELECT carrier, flight, dep_delay FROM flights WHERE dep_delay IS NOT NULL ORDER BY dep_delay DESC, flight LIMIT 20"),
    _in_order("SELECT dest, count(*) AS n FROM flights GROUP BY dest ORDER BY n DESC, dest LIMIT 10 OFFSET 5"),
    _in_order("SELECT tailnum, speed FROM planes WHERE engines = 4 ORDER BY speed DESC NULLS LAST, tailnum"),
    _in_order("SELECT faa FROM airports ORDER BY lat DESC LIMIT 7"),
    # joins
    _any("SELECT a.name, count(*) FROM flights f JOIN airlines a ON f.carrier = a.carrier GROUP BY a.name"),
    _any("SELECT p.manufacturer, count(*) FROM flights f JOIN planes p ON p.tailnum = f.tailnum GROUP BY p.manufacturer"),
    _any("SELECT count(*), count(p.tailnum) FROM flights f LEFT JOIN planes p ON p.tailnum = f.tailnum"),
    _any("SELECT count(*), count(f.dest) FROM flights f RIGHT JOIN airports a ON a.faa = f.dest"),
    _any("SELECT count(*), count(f.dest), count(a.faa) FROM (SELECT DISTINCT dest FROM flights) f FULL JOIN airports a ON a.faa = f.dest"),
    _any("SELECT count(*) FROM airlines a CROSS JOIN airlines b WHERE a.carrier < b.carrier"),
    _any("SELECT a.faa, b.faa FROM airports a JOIN airports b ON a.lat < b.lat AND a.alt > 8000 AND b.lat > 70"),
    _any("SELECT w.origin, count(*), avg(f.dep_delay) FROM flights f JOIN weather w ON w.origin = f.origin AND w.month = f.month "
         "AND w.day = f.day AND w.hour = f.hour AND w.year = f.year WHERE w.precip > 0.2 GROUP BY w.origin"),
    _any("SELECT al.name, ap.name, count(*) FROM flights f JOIN airlines al ON al.carrier = f.carrier "
         "JOIN airports ap ON ap.faa = f.dest WHERE ap.tz = -8 GROUP BY al.name, ap.name"),
    _any("SELECT count(*) FROM flights f1 JOIN flights f2 ON f1.tailnum = f2.tailnum AND f1.month = 1 AND f2.month = 1 "
         "AND f1.day = 1 AND f2.day = 2"),
    _any("SELECT carrier, name, n FROM airlines JOIN (SELECT carrier, count(*) AS n FROM flights GROUP BY carrier) x USING (carrier)"),
    # subqueries
    _any("SELECT count(*) FROM flights WHERE arr_delay > (SELECT avg(arr_delay) FROM flights)"),
    _any("SELECT faa FROM airports WHERE faa IN (SELECT dest FROM flights WHERE distance > 2400)"),
    _any("SELECT count(*) FROM airports WHERE faa NOT IN (SELECT dest FROM flights)"),
    _any("SELECT carrier FROM airlines a WHERE EXISTS (SELECT 1 FROM flights f WHERE f.carrier = a.carrier AND f.dest = 'HNL')"),
    _any("SELECT carrier FROM airlines a WHERE NOT EXISTS (SELECT 1 FROM flights f WHERE f.carrier = a.carrier AND f.origin = 'LGA')"),
    _any("SELECT a.carrier, (SELECT max(f.distance) FROM flights f WHERE f.carrier = a.carrier) FROM airlines a"),
    _any("WITH busy AS (SELECT dest FROM flights GROUP BY dest HAVING count(*) > 12000) SELECT a.name FROM airports a JOIN busy b ON b.dest = a.faa"),
    _any("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n), count(*) FROM t"),
    # sets, windows, table functions
    _any("SELECT origin FROM flights WHERE month = 1 AND day = 1 UNION ALL SELECT faa FROM airports WHERE alt > 7000"),
    _any("SELECT dest FROM flights UNION SELECT faa FROM airports WHERE tz = -9"),
    _in_order("SELECT carrier, n, rank() OVER (ORDER BY n DESC) AS r FROM (SELECT carrier, count(*) AS n FROM flights GROUP BY carrier) x ORDER BY r"),
    _in_order("SELECT month, n, sum(n) OVER (ORDER BY month) AS running FROM (SELECT month, count(*) AS n FROM flights GROUP BY month) x ORDER BY month"),
    _in_order("SELECT g, g * g FROM generate_series(1, 20, 3) AS t(g) ORDER BY g"),
    # dates
    _any("SELECT date_trunc('month', time_hour), count(*) FROM flights GROUP BY 1"),
    _any("SELECT extract(hour FROM time_hour), count(*) FROM flights GROUP BY 1"),
    _any("SELECT count(*) FROM flights WHERE time_hour >= '2013-06-01T00:00:00Z' AND time_hour < '2013-06-01T00:00:00Z'::timestamptz + INTERVAL '36 hours'"),
    _any("SELECT min(time_hour), max(time_hour) FROM weather"),
)  # fmt: skip
