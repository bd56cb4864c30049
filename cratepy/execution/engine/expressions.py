"""Typed expressions as the engine's SQL text.

In: an expression and the fragment's :class:`Text` (names of parameters, kernels). Out: SQL in DataFusion's PostgreSQL
dialect, every constant typed, every cast written out, nothing left for the engine to guess. Constants are computed here
in Python and travel as parameters (``$p1``), so that no value is ever quoted.

What the engine's SQL cannot say or says differently becomes a kernel (``k1(…)``): an Arrow function or the row function
of :mod:`cratepy.functions`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final, assert_never

import pyarrow as pa

from cratepy import limits
from cratepy.errors import CircuitBreaking, CrateError
from cratepy.execution.engine.casting import arrow_cast, arrow_name, native_cast
from cratepy.execution.engine.kernels import Notes, arrow_types, as_udf, encoded, fallback_kernel, row_kernel, weight
from cratepy.execution.engine.quantified import (
    ITEMS_INLINE_MAX,
    deciding_value,
    differ,
    has_plain_values,
    membership,
    repeated,
)
from cratepy.functions.casts import convert, tried
from cratepy.functions.evaluate import NO_COLUMNS, has_columns, is_volatile, row_function, value_of
from cratepy.functions.patterns import like_pattern
from cratepy.functions.registry import declaration_of, table_function_of
from cratepy.model.arrow import arrow_type
from cratepy.model.expressions import (
    Aggregate,
    Call,
    Case,
    Cast,
    Column,
    Expression,
    InList,
    Literal,
    OuterColumn,
    Parameter,
    SortKey,
    SubqueryValue,
    Window,
)
from cratepy.model.plan import StatementContext
from cratepy.model.types import DataType
from cratepy.records import dataclass

if TYPE_CHECKING:
    from datafusion import ScalarUDF

#: An argument for kernels that have none: its length is the number of rows.
_ROW_COUNTER: Final = "random()"
#: Rows a set-returning function in the select list may make of one row.
_SET_ROWS_MAX: Final = 5_000_000


@dataclass(slots=True)
class Text:
    """What the text of a fragment refers to: the values of its parameters and its kernels."""

    context: StatementContext
    notes: Notes
    #: What kernels over whole groups may take at once.
    memory_bytes: int = limits.ENGINE_MEMORY_BYTES
    parameters: dict[str, Any] = field(default_factory=dict)
    kernels: list[ScalarUDF] = field(default_factory=list)
    #: What the constants take that were computed for the fragment.
    constant_bytes: int = 0
    #: Values whose identity names a kernel.
    kept: list[Any] = field(default_factory=list)
    _known_kernels: dict[Any, str] = field(default_factory=dict)

    def parameter(self, scalar: Any) -> str:
        name = f"p{len(self.parameters) + 1}"
        self.parameters[name] = scalar
        return f"${name}"

    def kernel(
        self,
        key: Any,
        make: Callable[[], Callable[..., Any]],
        arguments: Sequence[Any],
        result: Any,
        *,
        is_volatile: bool = False,
    ) -> str:
        """The name of a kernel; equal keys share one."""
        name = self._known_kernels.get(key)
        if name is None:
            name = f"k{len(self.kernels) + 1}"
            self.kernels.append(as_udf(name, make(), arguments, result, self.notes, is_volatile=is_volatile))
            self._known_kernels[key] = name
        return name


def render(expression: Expression, text: Text) -> str:
    """The expression as SQL of the Arrow type of its SQL type."""
    if not isinstance(expression, Literal | Column) and not has_columns(expression) and not is_volatile(expression):
        constant = _constant(expression, text)
        if constant is not None:
            return constant
    match expression:
        case Literal():
            return literal(expression.value, expression.type, text)
        case Column():
            return f"c{expression.id}"
        case OuterColumn():
            raise AssertionError(f"outer column {expression.name} was not bound")
        case Parameter():
            return literal(text.context.parameters[expression.index], expression.type, text)
        case SubqueryValue():
            return literal(text.context.subquery_values[expression.slot], expression.type, text)
        case Cast():
            return _cast(expression, text)
        case Call():
            return _call(expression, text)
        case Case():
            branches = " ".join(
                f"WHEN {render(branch.condition, text)} THEN {render(branch.value, text)}"
                for branch in expression.branches
            )
            return f"CASE {branches} ELSE {render(expression.default, text)} END"
        case InList():
            return _in_list(expression, text)
        case Aggregate() | Window():
            raise AssertionError(f"{expression.function} stands inside of an expression")
        case _:
            assert_never(expression)


def _constant(expression: Expression, text: Text) -> str | None:
    """The value of an expression without columns; None leaves an error to the rows it concerns."""
    try:
        value = value_of(expression, NO_COLUMNS, text.context)
    except CrateError:
        return None
    text.constant_bytes += weight(value)
    if text.constant_bytes > limits.RESULT_ROW_BYTES_MAX:
        raise CircuitBreaking(f"Constants take more than the limit of {limits.RESULT_ROW_BYTES_MAX} bytes")
    return literal(value, expression.type, text)


def literal(value: Any, data_type: DataType, text: Text) -> str:
    """A typed constant."""
    if value is None:
        return arrow_cast("NULL", data_type)
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if data_type.kind == "bigint" and value > -(2**63):
        return f"CAST({value} AS BIGINT)"
    if data_type.kind == "integer":
        return f"CAST({value} AS INT)"
    if data_type.kind == "array" and len(value) > ITEMS_INLINE_MAX:
        key = ("array", id(value))
        text.kept.append(value)
        name = text.kernel(key, lambda: repeated(value, data_type), [pa.float64()], arrow_type(data_type))
        return f"{name}({_ROW_COUNTER})"
    scalar = encoded([value], data_type)[0]
    return f"arrow_cast({text.parameter(scalar)}, '{arrow_name(data_type)}')"


# --- casts and calls -------------------------------------------------------------------------------------------------


def _cast(expression: Cast, text: Text) -> str:
    source, target = expression.argument.type, expression.type
    argument = render(expression.argument, text)
    native = native_cast(argument, source, target)
    if native is not None:
        return native

    def convert_value(value: Any) -> Any:
        return convert(value, source, target, is_implicit=expression.is_implicit)

    def make() -> Callable[..., Any]:
        compute = (lambda value: tried(value, source, target)) if expression.is_try else convert_value
        slow = row_kernel(compute, (source,), target, text.notes, takes_null=False)
        return _fast_cast(source, target, slow)

    key = ("cast", source, target, expression.is_try, expression.is_implicit)
    name = text.kernel(key, make, arrow_types((source,)), arrow_type(target))
    return f"{name}({argument})"


def _fast_cast(source: DataType, target: DataType, slow: Callable[..., Any]) -> Callable[..., Any]:
    """Arrow's checked cast where it means the same; what it refuses is judged row by row."""
    if not target.is_integer or not (source.is_integer or source.kind in ("real", "double precision")):
        return slow
    wanted = arrow_type(target)
    is_float = not source.is_integer

    def kernel(array: Any) -> Any:
        try:
            return (pa.compute.trunc(array) if is_float else array).cast(wanted)
        except pa.ArrowInvalid:
            return slow(array)

    return kernel


def _call(expression: Call, text: Text) -> str:
    if expression.function == "pg_sleep" and not has_columns(expression):
        return _waited(expression, text)
    if expression.function.startswith(("op_any_", "op_all_")):
        quantified = _quantified(expression, text)
        if quantified is not None:
            return quantified
    declaration = declaration_of(expression.function)
    types = tuple(argument.type for argument in expression.arguments)
    result = expression.type
    template = declaration.sql if isinstance(declaration.sql, str | None) else declaration.sql(types, result)
    arguments = [render(argument, text) for argument in expression.arguments]
    if expression.function == "date_trunc" and len(types) == 2:
        template = _truncation(expression, text)
    if template is not None and expression.function in _PATTERNS and not _is_good_pattern(expression, text):
        template = None
    if template is not None:
        return template.format(*arguments, args=", ".join(arguments))
    return _kernel_call(expression.function, types, result, arguments, text)


def _quantified(expression: Call, text: Text) -> str | None:
    """operand OP ANY/ALL (constant array); None if it has to be judged row by row."""
    operand, array = expression.arguments
    symbol, is_all = expression.function[len("op_any_") :], expression.function.startswith("op_all_")
    if array.type.element != operand.type or not has_plain_values(operand.type) or symbol not in _ORDERS:
        return None
    if has_columns(array) or is_volatile(array) or not has_columns(operand):
        return None
    values = value_of(array, NO_COLUMNS, text.context)
    if values is None:
        return None
    if symbol == ("<>" if is_all else "="):
        return _member(operand, values, text, is_all=is_all)
    if symbol in ("<>", "=") and differ(values):
        return f"(CASE WHEN {render(operand, text)} IS NULL THEN NULL ELSE {'FALSE' if is_all else 'TRUE'} END)"
    value = deciding_value(symbol, values, is_all=is_all)
    if value is None:
        return None
    answer = render(Call(f"op_{symbol}", (operand, Literal(value, operand.type)), expression.type), text)
    return f"({answer} {'AND' if is_all else 'OR'} NULL::BOOLEAN)" if None in values else answer


_ORDERS: Final = frozenset({"=", "<>", "<", "<=", ">", ">="})


def _member(operand: Expression, values: Sequence[Any], text: Text, *, is_all: bool) -> str:
    text.kept.append(values)
    name = text.kernel(
        ("member", id(values), is_all),
        lambda: membership(values, operand.type, is_all=is_all),
        [arrow_type(operand.type)],
        pa.bool_(),
    )
    return f"{name}({render(operand, text)})"


_PATTERNS: Final = frozenset({"op_like", "op_ilike"})


def _is_good_pattern(expression: Call, text: Text) -> bool:
    """Whether the pattern is known and well-formed; the engine's LIKE takes any pattern."""
    if has_columns(expression.arguments[1]):
        return False
    pattern = value_of(expression.arguments[1], NO_COLUMNS, text.context)
    if pattern is not None:
        like_pattern(pattern, "\\", ignores_case=False)
    return True


_UNITS: Final = frozenset({"second", "minute", "hour", "day", "week", "month", "quarter", "year"})


def _truncation(expression: Call, text: Text) -> str | None:
    """The engine's date_trunc for a unit known beforehand."""
    if has_columns(expression.arguments[0]):
        return None
    unit = value_of(expression.arguments[0], NO_COLUMNS, text.context)
    if not isinstance(unit, str) or unit.lower() not in _UNITS:
        return None
    timestamps = arrow_cast("{1}", expression.type)
    return arrow_cast(f"date_trunc('{unit.lower()}', {timestamps})", expression.type)


def _waited(expression: Call, text: Text) -> str:
    """pg_sleep waits while the fragment is prepared: there it blocks a worker thread of ours, none of the engine's."""
    seconds = value_of(expression.arguments[0], NO_COLUMNS, text.context)
    if seconds is not None:
        value_of(expression, NO_COLUMNS, text.context)
        text.notes.wait(seconds)
    return arrow_cast("NULL", expression.type)


def _kernel_call(name: str, types: tuple[DataType, ...], result: DataType, arguments: list[str], text: Text) -> str:
    declaration = declaration_of(name)

    def make() -> Callable[..., Any]:
        fast = declaration.arrow(types, result) if declaration.arrow is not None else None
        compute = row_function(name, types, result)
        if declaration.takes_context:
            bound = compute
            compute = lambda *values: bound(text.context, *values)  # noqa: E731
        if not types:
            return lambda counter: encoded([compute() for _ in range(len(counter))], result)
        slow = row_kernel(compute, types, result, text.notes, takes_null=declaration.takes_null)
        return slow if fast is None else fallback_kernel(fast, slow)

    is_changing = not declaration.is_deterministic and not declaration.takes_context
    inputs = arrow_types(types) if types else [pa.float64()]
    kernel_name = text.kernel((name, types, result), make, inputs, arrow_type(result), is_volatile=is_changing)
    return f"{kernel_name}({', '.join(arguments) if types else _ROW_COUNTER})"


def set_call(expression: Expression, text: Text) -> str:
    """A set-returning call as an array of what it returns for the row."""
    assert isinstance(expression, Call)
    name, types = expression.function, tuple(argument.type for argument in expression.arguments)
    result = DataType("array", element=expression.type)
    if name == "unnest" and types == (result,):
        return render(expression.arguments[0], text)
    rows = table_function_of(name).rows
    is_record = expression.type.kind == "record"

    def values(*arguments: Any) -> list[Any]:
        found = itertools.islice(rows(arguments, types), _SET_ROWS_MAX + 1)
        items = [list(row) if is_record else row[0] for row in found]
        if len(items) > _SET_ROWS_MAX:
            raise CircuitBreaking(f"{name} made more than the limit of {_SET_ROWS_MAX} rows for one row")
        return items

    def make() -> Callable[..., Any]:
        if types:
            return row_kernel(values, types, result, text.notes, takes_null=True)
        return lambda counter: encoded([values() for _ in range(len(counter))], result)

    inputs = arrow_types(types) if types else [pa.float64()]
    kernel = text.kernel(("set", name, types, result), make, inputs, arrow_type(result))
    arguments = ", ".join(render(argument, text) for argument in expression.arguments)
    return f"{kernel}({arguments or _ROW_COUNTER})"


def _in_list(expression: InList, text: Text) -> str:
    operand = expression.operand
    template = declaration_of("op_=").sql
    assert callable(template)
    if not expression.items:
        return "FALSE"
    if template((operand.type, operand.type), expression.type) is None:
        parts = [Call("op_=", (operand, item), expression.type) for item in expression.items]
        return "(" + " OR ".join(render(part, text) for part in parts) + ")"
    if len(expression.items) > ITEMS_INLINE_MAX and has_plain_values(operand.type):
        if not any(has_columns(item) or is_volatile(item) for item in expression.items):
            values = [value_of(item, NO_COLUMNS, text.context) for item in expression.items]
            return _member(operand, values, text, is_all=False)
    rendered = [(render(item, text), arrow_cast("NULL", item.type)) for item in expression.items]
    items = [item for item, null in rendered if item != null]
    # A NULL among them is put beside: the engine makes `a NOT IN (NULL) AND a IN (1)` to `a IN (1)`.
    null = "" if len(items) == len(rendered) else arrow_cast("NULL", expression.type)
    if not items:
        return null
    found = f"({render(operand, text)} IN ({', '.join(items)}))"
    return f"({found} OR {null})" if null else found


# --- order --------------------------------------------------------------------------------------


def sort_keys(keys: Sequence[SortKey], text: Text) -> str:
    return ", ".join(_sort_key(key, text) for key in keys)


def _sort_key(key: SortKey, text: Text) -> str:
    expression = key.expression
    if expression.type.kind == "interval":
        expression = Call("_interval_length", (expression,), DataType("bigint"))
    direction = "DESC" if key.is_descending else "ASC"
    nulls = "NULLS FIRST" if key.nulls_first else "NULLS LAST"
    return f"{render(expression, text)} {direction} {nulls}"
