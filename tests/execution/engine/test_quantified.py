"""Known arrays beside columns: the same answers as row by row, and memory that does not grow with rows × elements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cratepy.execution.engine.engine import Engine
from cratepy.functions.evaluate import value_of
from cratepy.model.arrow import arrow_schema, to_arrow
from cratepy.model.expressions import Call, Column, Expression, InList, Literal
from cratepy.model.relations import Item, OutputColumn
from cratepy.model.types import DataType
from tests.execution.engine.test_stopping import BIGINT, BOOLEAN, CONTEXT, TEXT

DOUBLE = DataType("double precision")
VALUES: dict[DataType, list[Any]] = {
    BIGINT: [1, 2, 3, None, -5, 2**40],
    TEXT: ["a", "b", "", None, "ä", "zz"],
    DOUBLE: [1.0, -0.0, 0.0, None, 1e300, -7.5],
}
ARRAYS = {
    BIGINT: [[], [None], [1], [1, 2], [2, 2], [3, None], [1, 2, 3, -5, None], list(range(500))],
    TEXT: [[], [None], ["a"], ["a", None], ["ä", "zz", ""], [f"t{i}" for i in range(500)]],
    DOUBLE: [[], [0.0], [-0.0, None], [1.0, 1e300], [i / 2 for i in range(500)]],
}


def evaluated(engine: Engine, expression: Expression, values: list[Any], data_type: DataType) -> list[Any]:
    batch = pa.RecordBatch.from_arrays(
        [to_arrow(values, data_type)], schema=arrow_schema((OutputColumn(1, "x", data_type),))
    )
    found = engine.evaluate((Item(9, "y", expression),), batch, CONTEXT).column("c9").to_pylist()
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("symbol", ["=", "<>", "<", "<=", ">", ">="])
@pytest.mark.parametrize("word", ["any", "all"])
@pytest.mark.parametrize("data_type", list(VALUES), ids=lambda data_type: data_type.name)
def test_the_engine_answers_as_the_row_function(word: str, symbol: str, data_type: DataType, tmp_path: Path) -> None:
    engine = Engine(memory_bytes=2**28, spill_path=tmp_path, partitions=2)
    values = VALUES[data_type] * 50
    for array in ARRAYS[data_type]:
        literal = Literal(array, DataType("array", element=data_type))
        call = Call(f"op_{word}_{symbol}", (Column(1, "x", data_type), literal), BOOLEAN)
        expected = [value_of(call, {1: value}, CONTEXT) for value in VALUES[data_type]] * 50
        assert evaluated(engine, call, values, data_type) == expected, array
    engine.close()


def test_a_long_in_list_is_a_set(tmp_path: Path) -> None:
    engine = Engine(memory_bytes=2**28, spill_path=tmp_path, partitions=2)
    items = tuple(Literal(i * 2, BIGINT) for i in range(50_000))
    found = evaluated(engine, InList(Column(1, "x", BIGINT), items), [4, 5, None] * 200, BIGINT)
    assert found == [True, False, None] * 200
    engine.close()


def test_a_huge_array_is_not_repeated_for_every_row(tmp_path: Path) -> None:
    engine = Engine(memory_bytes=2**28, spill_path=tmp_path, partitions=2)
    array = Literal(list(range(300_000)), DataType("array", element=BIGINT))
    call = Call("op_any_=", (Column(1, "x", BIGINT), array), BOOLEAN)
    allocated = pa.total_allocated_bytes()
    assert evaluated(engine, call, [7, -7] * 20_000, BIGINT) == [True, False] * 20_000
    assert pa.total_allocated_bytes() - allocated < 2**26
    engine.close()
