"""The vectorised engine and the row-by-row evaluation in Python are twins: for every function and cast that the engine
computes with SQL or an Arrow kernel of its own, both give the same values and fail alike, over edge values of every type.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from cratepy.errors import CrateError
from cratepy.execution.engine.casting import native_cast
from cratepy.execution.engine.engine import Engine
from cratepy.execution.engine.inputs import FragmentInput, rows_input
from cratepy.functions.conversions import can_cast
from cratepy.functions.evaluate import value_of
from cratepy.functions.registry import SCALARS
from cratepy.functions.signatures import Declaration
from cratepy.model.arrow import from_arrow
from cratepy.model.expressions import Call, Cast, Column, Expression, Literal
from cratepy.model.plan import StatementContext
from cratepy.model.relations import ExchangeInput, Item, OutputColumn, Project
from cratepy.model.types import (
    BIGINT,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    INTEGER,
    INTERVAL,
    IP,
    NUMERIC,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    DataType,
    numeric,
)

CONTEXT = StatementContext(job_id="job", handler_id="node", user="crate", text="", now_ms=1_700_000_000_000)
DAY = 86_400_000
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False, None],
    "byte": [0, 1, -1, 127, -128, None],
    "smallint": [0, 1, -1, 7, 32_767, -32_768, None],
    "integer": [0, 1, -1, 7, -7, 2**31 - 1, -(2**31), None],
    "bigint": [0, 1, -1, 7, -7, 2**53 + 1, 2**63 - 1, -(2**63), None],
    "real": [0.0, -0.0, 1.5, -2.5, math.inf, math.nan, None],
    "double precision": [0.0, -0.0, 1.5, -2.5, 0.1, 1e300, -1e300, math.inf, -math.inf, math.nan, None],
    "numeric": ["0", "1.5", "-2.25", "12345678901234567890", "0.000000000000000001", None],
    "text": ["", "a", "A", "äÖ😀", "a%b", "_x\\", "line\nbreak", "x" * 40, None],
    "ip": ["127.0.0.1", "::1", None],
    "uuid": ["00000000-0000-0000-0000-000000000001", None],
    "timestamp with time zone": [0, 1_577_836_800_123, -1, -DAY, 4_102_444_800_000, None],
    "timestamp without time zone": [0, 1_582_934_400_000, -1, 1_590_000_000_999, None],
    "date": [0, 1_582_934_400_000, -DAY, 19_000 * DAY, None],
    "interval": [[0, 0, 0], [1, 0, 0], [0, 1, 1000], [-13, 2, -5], None],
}
KINDS = (BOOLEAN, BYTE, SMALLINT, INTEGER, BIGINT, REAL, DOUBLE, NUMERIC, TEXT, IP, UUID, TIMESTAMP, TIMESTAMPTZ, DATE)
#: Short numerics have a native path of their own.
MONEY = numeric(10, 2)
MONEY_VALUES = ["0.00", "1.50", "-99999999.99", None]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = Engine(memory_bytes=64 * 1024 * 1024, spill_path=Path(tmp_path_factory.mktemp("spill")), partitions=1)
    yield made
    made.close()


def values_of(data_type: DataType) -> list[Any]:
    if data_type == MONEY:
        return MONEY_VALUES
    return VALUES[data_type.kind]


def same(left: Any, right: Any, data_type: DataType) -> bool:
    if left is None or right is None:
        return left is None and right is None
    if data_type.kind in ("real", "double precision"):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right or math.isclose(left, right, rel_tol=1e-6 if data_type.kind == "real" else 1e-14)
    if data_type.kind == "numeric":
        return float(left) == float(right) and abs(float(left) - float(right)) == 0
    return bool(left == right)


def expected(expression: Expression, row: dict[int, Any]) -> Any:
    try:
        return value_of(expression, row, CONTEXT)
    except CrateError as error:
        return type(error)


async def computed(engine: Engine, expression: Expression, given: FragmentInput) -> Any:
    project = Project(ExchangeInput(0, given.columns), (Item(1000, "x", expression),))
    try:
        batches = await engine.run_small(project, [given], CONTEXT)
    except CrateError as error:
        return type(error)
    return [value for batch in batches for value in from_arrow(batch.column(0), expression.type)]


def compare(engine: Engine, expression: Expression, types: tuple[DataType, ...]) -> None:
    """Rows that succeed are computed together; each row that fails, alone."""
    columns = tuple(OutputColumn(number, f"x{number}", kind) for number, kind in enumerate(types, 1))
    rows = list(itertools.product(*(values_of(kind) for kind in types)))
    wanted = [expected(expression, dict(enumerate(row, 1))) for row in rows]
    good = [(row, value) for row, value in zip(rows, wanted, strict=True) if not isinstance(value, type)]
    bad = [(row, value) for row, value in zip(rows, wanted, strict=True) if isinstance(value, type)]

    async def main() -> None:
        found = await computed(engine, expression, rows_input(columns, [row for row, _ in good])) if good else []
        assert not isinstance(found, type), found
        for (row, value), answer in zip(good, found, strict=True):
            assert same(answer, value, expression.type), (row, answer, value)
        for row, error in bad[:12]:
            assert await computed(engine, expression, rows_input(columns, [row])) is error, row

    trio.run(main)


def calls() -> Iterator[tuple[Declaration, tuple[DataType, ...], DataType]]:
    for declaration in SCALARS:
        if declaration.sql is None and declaration.arrow is None:
            continue
        if not declaration.is_deterministic:
            continue
        for signature in declaration.signatures:
            variables = any(p.kind.startswith("$") for p in signature.parameters)
            for kind in KINDS if variables else (TEXT,):
                types = tuple(kind if p.kind.startswith("$") else p for p in signature.parameters)
                result = kind if signature.result.kind.startswith("$") else signature.result
                if all(t.kind in VALUES for t in types) and types:
                    yield declaration, types, result


CALLS = [
    pytest.param(declaration.name, types, result, id=f"{declaration.name}({','.join(t.name for t in types)})")
    for declaration, types, result in calls()
    if not declaration.name.startswith("op_any") and not declaration.name.startswith("op_all")
]


def has_own_way(name: str, types: tuple[DataType, ...], result: DataType) -> bool:
    declaration = next(d for d in SCALARS if d.name == name)
    template = declaration.sql if isinstance(declaration.sql, str | None) else declaration.sql(types, result)
    return template is not None or (declaration.arrow is not None and declaration.arrow(types, result) is not None)


@pytest.mark.parametrize(("name", "types", "result"), CALLS)
def test_a_function_is_the_same_in_the_engine_and_in_python(
    engine: Engine, name: str, types: tuple[DataType, ...], result: DataType
) -> None:
    if not has_own_way(name, types, result):
        pytest.skip("computed by the row function in both")
    arguments = tuple(Column(number, f"x{number}", kind) for number, kind in enumerate(types, 1))
    compare(engine, Call(name, arguments, result), types)


CASTS = [
    pytest.param(source, target, id=f"{source.name} to {target.name}")
    for source in (*KINDS, MONEY, INTERVAL)
    for target in (*KINDS, MONEY, numeric(38, 0))
    if source != target and can_cast(source, target, explicit=True)
]


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_a_cast_is_the_same_in_the_engine_and_in_python(engine: Engine, source: DataType, target: DataType) -> None:
    if native_cast("x", source, target) is None and not (target.is_integer and source.is_numeric):
        pytest.skip("computed by the row function in both")
    compare(engine, Cast(Column(1, "x1", source), target), (source,))


@pytest.mark.parametrize("symbol", ["+", "-", "*"])
@pytest.mark.parametrize("left", [numeric(10, 2), numeric(5, 0), numeric(18, 9)])
def test_short_numerics_are_computed_exactly(engine: Engine, symbol: str, left: DataType) -> None:
    values = ["0.00", "1.50", "-99999999.99", "12345678.90", None]

    async def main() -> None:
        columns = (OutputColumn(1, "a", MONEY), OutputColumn(2, "b", MONEY))
        rows = list(itertools.product(values, values))
        call = Call(f"op_{symbol}", (Column(1, "a", MONEY), Column(2, "b", MONEY)), NUMERIC)
        found = await computed(engine, call, rows_input(columns, rows))
        assert found == [value_of(call, {1: a, 2: b}, CONTEXT) for a, b in rows]

    trio.run(main)


UNITS = ("second", "Minute", "hour", "day", "week", "month", "quarter", "year")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("source", [TIMESTAMP, TIMESTAMPTZ, DATE])
def test_a_known_unit_is_truncated_alike(engine: Engine, unit: str, source: DataType) -> None:
    call = Call("date_trunc", (Literal(unit, TEXT), Column(1, "x1", source)), TIMESTAMPTZ)
    compare(engine, call, (source,))


PATTERNS = (
    "a",
    "^a",
    "b.*k$",
    "(a)(%)",
    "x+",
    "[^a]",
    "a|A",
    "(?i)a",
    "line\nb",
    "(?=a)",
    "(.)\\1",
    "\\w",
    "a$",
    "x{2,}",
    "(",
)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("replacement", "flags"), [("<$1>", ""), ("-", "g"), ("\\$0", "g"), ("$9", "")])
def test_a_known_pattern_is_replaced_alike(engine: Engine, pattern: str, replacement: str, flags: str) -> None:
    arguments = (Column(1, "x1", TEXT), *(Literal(part, TEXT) for part in (pattern, replacement, flags)))
    compare(engine, Call("regexp_replace", arguments, TEXT), (TEXT,))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_known_pattern_matches_alike(engine: Engine, pattern: str) -> None:
    compare(engine, Call("op_~", (Column(1, "x1", TEXT), Literal(pattern, TEXT)), BOOLEAN), (TEXT,))
