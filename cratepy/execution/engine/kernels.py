"""Kernels: Python functions over Arrow arrays, registered with the engine for the life of one fragment.

In: a row function (SQL values) or an Arrow function. Out: a DataFusion UDF with a name of its own. What a kernel raises
is noted in the fragment's :class:`Notes`, because the engine keeps the text of an exception only. A kernel also looks
whether the job is still wanted, which is one of the ways a running fragment is stopped.
"""

from __future__ import annotations

import decimal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from cratepy import limits
from cratepy.errors import CrateError, RowOverflow
from cratepy.model.arrow import TEXT_KINDS, UNCONSTRAINED_SCALE, arrow_type, from_arrow, to_arrow
from cratepy.model.types import DataType

if TYPE_CHECKING:
    from datafusion import ScalarUDF

_ROUNDING: Final = decimal.Context(prec=76, rounding=decimal.ROUND_HALF_UP)


class Notes:
    """What a fragment's kernels and its owner tell each other: the first error, and whether to stop."""

    __slots__ = ("_stop", "error")

    def __init__(self) -> None:
        self.error: CrateError | None = None
        self._stop = threading.Event()

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def wait(self, seconds: float) -> None:
        """Wait on a worker thread, not longer than the fragment is wanted. Raises Stopped."""
        if self._stop.wait(seconds):
            raise Stopped


class Stopped(Exception):
    """Raised inside the engine to end a fragment nobody wants any more."""


class BatchTooLarge(Exception):
    """What a function made of one batch of rows is more than the memory should hold at once."""


def weighed(values: Iterable[Any], data_type: DataType) -> list[Any]:
    """The values of a batch, as long as they take less than their limit. Raises BatchTooLarge."""
    if data_type.kind != "array" and data_type.kind not in TEXT_KINDS:
        return list(values)
    found: list[Any] = []
    taken = 0
    for value in values:
        found.append(value)
        taken += weight(value)
        if taken > limits.KERNEL_BATCH_BYTES_MAX:
            raise BatchTooLarge(f"{taken} bytes in {len(found)} rows")
    return found


def weight(value: Any) -> int:
    """About the bytes a value takes."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return 16 * len(value) + sum(map(weight, value))
    if isinstance(value, dict):
        return 16 * len(value) + sum(map(weight, value.values()))
    return 0


def encoded(values: list[Any], data_type: DataType) -> Any:
    """SQL values as an Arrow array of the type in flight; numerics are rounded to the digits it holds."""
    try:
        return to_arrow([_held(value, data_type) for value in values] if _has_numeric(data_type) else values, data_type)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise RowOverflow(f"value out of range of type {data_type.name}") from error


def _has_numeric(data_type: DataType) -> bool:
    return data_type.kind == "numeric" or (
        data_type.kind == "array" and data_type.element is not None and _has_numeric(data_type.element)
    )


def _held(value: Any, data_type: DataType) -> Any:
    if value is None:
        return None
    if data_type.kind == "array":
        assert data_type.element is not None
        return [_held(item, data_type.element) for item in value]
    scale = UNCONSTRAINED_SCALE if data_type.precision is None else data_type.scale or 0
    number = decimal.Decimal(value)
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > scale:
        number = number.quantize(decimal.Decimal(1).scaleb(-scale), context=_ROUNDING)
    return format(number, "f")


def row_kernel(
    compute: Callable[..., Any], arguments: Sequence[DataType], result: DataType, notes: Notes, *, takes_null: bool
) -> Callable[..., Any]:
    """A row function as a function over arrays. It looks before each row whether the fragment is still wanted, and after
    it whether the results are still few enough for the memory.
    """

    def wanted(rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            if notes.is_stopped:
                raise Stopped
            yield row

    def kernel(*arrays: Any) -> Any:
        columns = [from_arrow(array, kind) for array, kind in zip(arrays, arguments, strict=True)]
        if takes_null:
            values = (compute(*row) for row in wanted(zip(*columns, strict=True)))
        elif len(columns) == 1:
            values = (None if value is None else compute(value) for value in wanted(columns[0]))
        else:
            values = (None if None in row else compute(*row) for row in wanted(zip(*columns, strict=True)))
        return encoded(weighed(values, result), result)

    return kernel


def fallback_kernel(fast: Callable[..., Any], slow: Callable[..., Any]) -> Callable[..., Any]:
    """The fast kernel, and the slow one for batches it leaves alone."""

    def kernel(*arrays: Any) -> Any:
        found = fast(*arrays)
        return slow(*arrays) if found is None else found

    return kernel


def as_udf(
    name: str,
    kernel: Callable[..., Any],
    arguments: Sequence[Any],
    result: Any,
    notes: Notes,
    *,
    is_volatile: bool = False,
) -> ScalarUDF:
    """The kernel as a function of the engine; ``arguments`` and ``result`` are Arrow types."""
    from datafusion import udf  # as late as the engine's session

    def guarded(*arrays: Any) -> Any:
        if notes.is_stopped:
            raise Stopped
        try:
            return kernel(*arrays)
        except CrateError as error:
            if notes.error is None:
                notes.error = error
            raise

    return udf(guarded, list(arguments), result, "volatile" if is_volatile else "immutable", name)


def arrow_types(types: Sequence[DataType]) -> list[Any]:
    return [arrow_type(data_type) for data_type in types]
