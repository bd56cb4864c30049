"""Types of written names, and implicit casts: an expression and a wanted type in, an expression of that type out.

A literal is converted on the spot, an untyped parameter takes the type, anything else gets a Cast. What cannot be cast
raises CrateDB's words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from cratepy.errors import ConversionError, CrateError, SQLParseError, UnsupportedFeature
from cratepy.functions import registry
from cratepy.functions.casts import convert, plain_text
from cratepy.functions.texts_of_literals import literal_text
from cratepy.functions.values import INTEGER_RANGES
from cratepy.model.expressions import Call, Cast, Column, Expression, Literal, Parameter
from cratepy.model.types import (
    ANY_JSON,
    DOUBLE,
    INTEGER_KINDS,
    REAL,
    TEXT,
    TYPE_NAMES,
    UNDEFINED,
    DataType,
    Field,
    array_of,
    common_type,
    object_of,
)
from cratepy.sql.analyze.context import Context
from cratepy.sql.parse.tree import ColumnDef, TypeName

#: Digits of a decimal that columns and the engine hold.
NUMERIC_DIGITS_MAX: Final = 38
#: Bits of the mantissa of the two floating point types.
REAL_BITS_MAX: Final = 24
DOUBLE_BITS_MAX: Final = 53
_LENGTH_MAX: Final = 2**31 - 1
_WITH_LENGTH: Final = frozenset({"text", "character", "bit", "float_vector"})


def data_type(written: TypeName) -> DataType:
    """The type a name stands for. Raises SQLParseError."""
    result = _scalar_type(written)
    for _ in range(written.depth):
        result = array_of(result)
    return result


def _scalar_type(written: TypeName) -> DataType:
    name = written.name if not written.is_quoted else f'"{written.name}"'
    known = TYPE_NAMES.get(name) or TYPE_NAMES.get(written.name)
    if known is None or written.name == "undefined":
        raise SQLParseError(f"Cannot find data type: {written.name}")
    arguments = written.arguments
    if known.kind == "object":
        fields = tuple(Field(column.name, _part_type(column)) for column in written.columns or ())
        return object_of(fields, written.policy or "dynamic")
    if not arguments:
        return known
    if known.kind in _WITH_LENGTH:
        return _with_length(known, arguments)
    if known.kind == "numeric":
        if len(arguments) > 2 or arguments[0] < 1:
            raise SQLParseError(f"Invalid precision or scale of numeric: {arguments}")
        if arguments[0] > NUMERIC_DIGITS_MAX:
            raise UnsupportedFeature(
                f"Precision for NUMERIC({arguments[0]}) is too large. Only up to {NUMERIC_DIGITS_MAX} can be stored"
            )
        scale = arguments[1] if len(arguments) == 2 else None
        if scale is not None and scale > arguments[0]:
            raise SQLParseError(f"Precision must be between 1 and {arguments[0]}")
        return DataType("numeric", precision=arguments[0], scale=scale)
    if written.name == "float" and len(arguments) == 1:
        # SQL's binary digits, which PostgreSQL's clients write (pandas: FLOAT(53)); CrateDB has no FLOAT(n).
        if not 1 <= arguments[0] <= DOUBLE_BITS_MAX:
            raise SQLParseError(f"Precision of float must be between 1 and {DOUBLE_BITS_MAX} bits: {arguments[0]}")
        return REAL if arguments[0] <= REAL_BITS_MAX else DOUBLE
    if known.is_timestamp or known.kind in ("time with time zone", "interval"):
        return known
    raise SQLParseError(f"The '{written.name}' type doesn't support type parameters.")


def _with_length(known: DataType, arguments: tuple[int, ...]) -> DataType:
    length = arguments[0]
    if length < 1:
        raise SQLParseError(f"The {known.kind} type length must be at least 1, received: {length}")
    if known.kind == "float_vector" and length > 2048:
        raise SQLParseError("Float vector type's length cannot exceed 2048")
    if length > _LENGTH_MAX:
        raise SQLParseError(f"The {known.kind} type length cannot exceed {_LENGTH_MAX}, received: {length}")
    return DataType(known.kind, length=length)


def _part_type(column: ColumnDef) -> DataType:
    if column.type is None:
        raise SQLParseError(
            f"Column [{column.name}]: data type needs to be provided or column should be defined as a generated expression"
        )
    return data_type(column.type)


# --- implicit casts --------------------------------------------------------------------------------------------------


def cast_to(context: Context, expression: Expression, target: DataType) -> Expression:
    """The expression as ``target``, implicitly. Raises ConversionError, SQLParseError."""
    source = expression.type
    if source.kind == "undefined" and isinstance(expression, Call) and expression.function == "subscript":
        # A key that is not declared: its value is read as whatever type the place wants.
        return Call("subscript", expression.arguments, target if target.kind != "undefined" else ANY_JSON)
    if source == target:
        return expression
    if target.kind == "undefined":
        return expression
    if source == ANY_JSON:
        return _read_as(expression, target)
    if isinstance(expression, Parameter) and source.kind == "undefined":
        return context.typed_parameter(expression, target)
    if isinstance(expression, Literal):
        return _cast_literal(expression, target)
    if not registry.can_cast(source, target, explicit=False):
        raise SQLParseError(f"Cannot cast expressions from type `{source.name}` to type `{target.name}`")
    if _is_wider(source, target):
        return _relabelled(expression, target)
    return Cast(expression, target, is_implicit=True)


def settled(expression: Expression) -> Expression:
    """A part that nothing gives a type is any JSON value."""
    if expression.type.kind == "undefined" and isinstance(expression, Call) and expression.function == "subscript":
        return Call("subscript", expression.arguments, ANY_JSON)
    return expression


def _read_as(expression: Expression, target: DataType) -> Expression:
    """A value of no known type, which came out of a subquery or a view, as the type that is wanted: as a part is read."""
    name = Literal("value", TEXT)
    carrier = Call("_map", (name, expression), object_of((Field("value", ANY_JSON),)))
    return Call("subscript", (carrier, name), target)


def resolved(
    resolve: Callable[[list[DataType]], registry.Resolution], arguments: Sequence[Expression]
) -> tuple[registry.Resolution, list[Expression]]:
    """The signature for the arguments, and they as it sees them.

    A part that nothing gives a type, taken by a parameter of any type, is any JSON value there: that changes what a
    function makes of it (an array of them).
    """
    known = list(arguments)
    types = [UNDEFINED if argument.type == ANY_JSON else argument.type for argument in known]
    chosen = resolve(types)
    taken = False
    for place, wanted in enumerate(chosen.argument_types):
        if wanted.kind == "undefined" and settled(known[place]).type == ANY_JSON:
            known[place], types[place], taken = settled(known[place]), ANY_JSON, True
    return (resolve(types) if taken else chosen), known


def _is_wider(source: DataType, target: DataType) -> bool:
    """Whether every value of the source is a value of the target as it is (``varchar(3)`` as ``text``)."""
    if source.kind == target.kind == "integer":
        return True
    return source.kind == target.kind == "text" and target.length is None


def _relabelled(expression: Expression, target: DataType) -> Expression:
    return msgspec.structs.replace(expression, type=target) if isinstance(expression, Column) else expression


def _cast_literal(literal: Literal, target: DataType) -> Expression:
    if literal.value is None:
        return Literal(None, target)
    if not registry.can_cast(literal.type, target, explicit=literal.type.kind == "text"):
        raise _no_conversion(literal, target)
    if target.kind == literal.type.kind == "bit" and target.length != len(literal.value):
        raise SQLParseError(f"bit string length {len(literal.value)} does not match type {target.name}")
    try:
        value = convert(literal.value, literal.type, target, is_implicit=True)
    except UnsupportedFeature:
        raise
    except CrateError as error:
        if "too long" in error.message or "length" in error.message:
            raise SQLParseError(error.message) from error
        raise _no_conversion(literal, target) from error
    return Literal(value, target)


def _fits(part: Any, source: DataType | None, target: DataType) -> bool:
    """Whether a part of an object can be what is wanted of it."""
    known = object_of(() if source is None else (Field("part", source),))
    try:
        convert({"part": part}, known, object_of((Field("part", target),)), is_implicit=True)
    except CrateError:
        return False
    return True


def _no_conversion(literal: Literal, target: DataType) -> ConversionError:
    """The refusal of a constant, in CrateDB's words."""
    value = literal.value
    if isinstance(value, dict) and target.kind == "object":
        for name, part in value.items():
            wanted = target.field(name)
            if wanted is not None and not _fits(part, literal.type.field(name), wanted):
                return ConversionError(
                    f"Cannot cast object element `{name}` with value `{plain_text(part)}` to type `{wanted.name}`"
                )
    if isinstance(value, list) and literal.type.element is not None and target.element is not None:
        # The element that does not fit says more than the whole array.
        for item in value:
            if item is not None and not _fits(item, literal.type.element, target.element):
                return _no_conversion(Literal(item, literal.type.element), target.element)
    if isinstance(value, str) and target.kind == "object" and literal.type.kind == "text":
        return ConversionError(f"Cannot cast value `{value}` to type `object`")
    shown = literal_text(value, literal.type)
    return ConversionError(f"Cannot cast `{shown}` of type `{literal.type.name}` to type `{target.name}`")


def merged(left: DataType, right: DataType) -> DataType:
    """The type two expressions are cast to: the one of higher precedence if it can take the other, else the other.

    If neither can, it is the former, and the cast will say so.
    """
    target = common_type(left, right)
    if ANY_JSON in (left, right):
        return target
    if registry.can_cast(left, target, explicit=False) and registry.can_cast(right, target, explicit=False):
        return target
    other = right if target == left else left
    return other if registry.can_cast(target, other, explicit=False) else target


def common(types: Sequence[DataType]) -> DataType:
    """The type that all of them are cast to."""
    result = UNDEFINED
    #: What changes nothing any more: lists of thousands of literals have one type or two.
    settling: DataType | None = None
    for one in types:
        if one is not settling:
            before, result = result, merged(result, one)
            settling = one if result == before else None
    return result


def same_types(
    context: Context, expressions: Sequence[Expression], *, keeps_column: bool = False
) -> tuple[Expression, ...]:
    """The expressions, all cast to their common type; with ``keeps_column`` constants that fit take the column's."""
    target = common([expression.type for expression in expressions])
    if target.kind == "undefined":
        return tuple(map(settled, expressions))
    if keeps_column:
        target = _fit_columns(expressions, target)
    return tuple(cast_to(context, expression, target) for expression in expressions)


def comparable(context: Context, left: Expression, right: Expression) -> tuple[Expression, Expression]:
    """Both sides of a comparison with one type.

    A whole number beside an integer column takes the column's type if it fits, so that the column stays bare: an index
    or a primary key can only be used on a bare column.
    """
    if left.type == right.type:
        return left, right
    narrowed = _narrowed(left, right)
    if narrowed is not None:
        return left, narrowed
    narrowed = _narrowed(right, left)
    if narrowed is not None:
        return narrowed, right
    # A text column beside a number: the number becomes text, as in CrateDB (no value of the column has to be a number).
    if isinstance(left, Column) and isinstance(right, Literal) and left.type.kind == "text" and right.type.is_numeric:
        return left, cast_to(context, right, left.type)
    if isinstance(right, Column) and isinstance(left, Literal) and right.type.kind == "text" and left.type.is_numeric:
        return cast_to(context, left, right.type), right
    target = merged(left.type, right.type)
    if ANY_JSON not in (left.type, right.type) and not (
        registry.can_cast(left.type, target, explicit=False) and registry.can_cast(right.type, target, explicit=False)
    ):
        # No overload takes them either, and its refusal names the whole comparison.
        return left, right
    return cast_to(context, left, target), cast_to(context, right, target)


def _narrowed(operand: Expression, literal: Expression) -> Literal | None:
    kind = operand.type.kind
    if not isinstance(literal, Literal) or isinstance(operand, Literal) or kind not in INTEGER_KINDS:
        return None
    value = literal.value
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value != value
        or value in (_INFINITE, -_INFINITE)
    ):
        return None
    low, high = INTEGER_RANGES[kind]
    if literal.type.is_numeric and value == int(value) and low <= value <= high:
        return Literal(int(value), operand.type)
    return None


#: What ``||`` joins with NULL of its own kind.
_JOINED: Final = frozenset({"text", "character", "array", "object", "json", "undefined"})


def appendable(operand: Expression, other: Expression) -> Expression:
    """An operand of ``||``: NULL beside what is neither text nor array nor object is an array, to which that is appended."""
    is_null = isinstance(operand, Literal) and operand.type == UNDEFINED
    return Literal(None, array_of(other.type)) if is_null and other.type.kind not in _JOINED else operand


_INFINITE: Final = float("inf")


def _fit_columns(expressions: Sequence[Expression], target: DataType) -> DataType:
    """The type of the only expression that is no constant, if all constants fit it (``id IN (1, 2)`` of a smallint)."""
    others = {e.type.kind: e.type for e in expressions if not isinstance(e, Literal | Parameter)}
    if len(others) != 1:
        return target
    (single,) = others.values()
    if single.kind not in INTEGER_KINDS or single == target:
        return target
    probe = next(e for e in expressions if e.type == single)
    for expression in expressions:
        if isinstance(expression, Literal) and expression.value is not None and expression.type != single:
            if _narrowed(probe, expression) is None:
                return target
    return single
