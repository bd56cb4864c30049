"""The tour: queries a newcomer would ask, with the DuckDB text where the dialects differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Stop:
    """One query. ``is_ordered`` says that the order of the rows is part of the answer."""

    title: str
    sql: str
    duckdb: str | None = None
    is_ordered: bool = True


TOUR: Final = (
    Stop("How many flights?", "SELECT count(*) FROM flights"),
    Stop(
        "The carriers by number of flights",
        "SELECT carrier, count(*) AS flights, round(avg(arr_delay) * 100) / 100.0 AS delay FROM flights "
        "GROUP BY carrier ORDER BY flights DESC LIMIT 5",
    ),
    Stop(
        "A filter: New Year's first departures",
        "SELECT dep_time, carrier, flight, origin, dest FROM flights "
        "WHERE month = 1 AND day = 1 AND dep_time < 545 ORDER BY dep_time, flight",
    ),
    Stop(
        "A join of two tables: who flies late?",
        "SELECT a.name, count(*) AS late FROM flights f JOIN airlines a ON f.carrier = a.carrier "
        "WHERE f.arr_delay > 120 GROUP BY a.name ORDER BY late DESC, a.name LIMIT 5",
    ),
    Stop(
        "A join of three tables: seats to the busiest destinations",
        "SELECT ap.name, sum(p.seats) AS seats, count(DISTINCT f.carrier) AS carriers FROM flights f "
        "JOIN planes p ON f.tailnum = p.tailnum JOIN airports ap ON f.dest = ap.faa "
        "GROUP BY ap.name ORDER BY seats DESC LIMIT 5",
    ),
    Stop(
        "The weather at the worst hours: a join over five columns",
        "SELECT f.origin, f.month, f.day, f.hour, count(*) AS flights, max(f.dep_delay) AS worst, max(w.wind_speed) AS wind "
        "FROM flights f JOIN weather w ON w.origin = f.origin AND w.year = f.year AND w.month = f.month "
        "AND w.day = f.day AND w.hour = f.hour WHERE w.visib < 0.5 "
        "GROUP BY f.origin, f.month, f.day, f.hour ORDER BY worst DESC NULLS LAST, f.origin LIMIT 5",
    ),
    Stop(
        "Top-n: the longest delays",
        "SELECT carrier, flight, origin, dest, dep_delay FROM flights WHERE dep_delay IS NOT NULL "
        "ORDER BY dep_delay DESC, flight LIMIT 5",
    ),
    Stop(
        "Dates: flights per month",
        "SELECT date_trunc('month', time_hour) AS month, count(*) AS flights FROM flights GROUP BY 1 ORDER BY 1 LIMIT 6",
    ),
    Stop(
        "Date arithmetic: the week after the longest day",
        "SELECT count(*) FROM flights WHERE time_hour >= '2013-06-21'::timestamp with time zone "
        "AND time_hour < '2013-06-21'::timestamp with time zone + INTERVAL '7 days'",
    ),
    Stop(
        "Text: international airports of the west",
        "SELECT faa, name FROM airports WHERE name LIKE '%Intl%' AND lon < -115 ORDER BY lon LIMIT 5",
    ),
    Stop(
        "A sub-select: flights whose plane nobody described",
        "SELECT count(*) FROM flights WHERE tailnum NOT IN (SELECT tailnum FROM planes)",
    ),
    Stop(
        "A common table expression with a window",
        "WITH daily AS (SELECT origin, month, day, count(*) AS n FROM flights GROUP BY origin, month, day), "
        "ranked AS (SELECT origin, month, day, n, row_number() OVER (PARTITION BY origin ORDER BY n DESC, month, day) AS r FROM daily) "
        "SELECT origin, month, day, n FROM ranked WHERE r = 1 ORDER BY origin",
    ),
    Stop(
        "CASE and HAVING",
        "SELECT CASE WHEN distance < 500 THEN 'short' WHEN distance < 1500 THEN 'middle' ELSE 'long' END AS haul, "
        "count(*) AS n, avg(air_time) AS minutes FROM flights GROUP BY 1 HAVING count(*) > 1000 ORDER BY n DESC",
    ),
    Stop("One row by its key, read in real time", "SELECT name FROM airlines WHERE carrier = 'B6'"),
)
