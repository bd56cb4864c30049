"""Objects on their way into a table: parts cast to their declared types, unknown keys by the object's policy.

In: the objects of one column (or arrays of objects) and the column's type. Out: the objects with every declared part cast,
and the type the column must have to hold them: for a dynamic object with new keys it has more fields than before, and the
caller asks the master for them before it writes. STRICT objects refuse unknown keys, IGNORED ones keep them as they are.
Its own room because the schema grows here and nowhere else.

Types of new keys: integers bigint, other numbers double precision, text, boolean, objects dynamic, arrays of these; a key
that only ever was NULL or ``[]`` has no type yet and adds nothing. Source: CrateDB's ``ObjectIndexer``,
``DynamicIndexer`` and its docs, "Data types / Objects".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cratepy import limits
from cratepy.errors import BadRequest, ConversionError, CrateError, InvalidColumnName, SQLParseError
from cratepy.execution.writes.values import convert_raw, plain_text
from cratepy.model.types import BIGINT, BOOLEAN, DOUBLE, TEXT, DataType, Field, array_of, common_type

_NEW_TYPES: Final[dict[type, DataType]] = {int: BIGINT, float: DOUBLE, str: TEXT, bool: BOOLEAN}


@dataclass(slots=True)
class _Object:
    """The shape of an object as known so far; ``parts`` grows under the dynamic policy."""

    policy: str
    parts: dict[str, _Shape]


@dataclass(slots=True)
class _Array:
    element: _Shape | None


_Shape = DataType | _Object | _Array


class _Mismatch(Exception):
    """A part does not fit; told with the name of the outermost part, as CrateDB does."""


def holds_objects(data_type: DataType) -> bool:
    """Whether values of the type are checked here: objects and arrays of them."""
    while data_type.kind == "array":
        assert data_type.element is not None
        data_type = data_type.element
    return data_type.kind == "object"


def fit_objects(
    values: list[Any], *, name: str, data_type: DataType, errors: dict[int, CrateError]
) -> tuple[list[Any], DataType]:
    """The values fitted to the column's type, and the type grown by their new keys (the same object if there are none)."""
    shape = _shape(data_type)
    fitter = _Fitter(name)
    fitted: list[Any] = []
    for row, value in enumerate(values):
        if value is None or row in errors:
            fitted.append(None)
            continue
        try:
            fitted.append(fitter.fit_column(value, shape))
        except CrateError as error:
            errors[row] = error
            fitted.append(None)
        except _Mismatch:
            errors[row] = ConversionError(f"Cannot cast value `{plain_text(value)}` to type `{data_type.name}`")
            fitted.append(None)
    return fitted, _grown(shape, data_type) if fitter.has_new_parts else data_type


class _Fitter:
    def __init__(self, name: str) -> None:
        self._name = name
        self.has_new_parts = False

    def fit_column(self, value: Any, shape: _Shape) -> Any:
        """A whole value of the column: the only place that names the outermost part in the message."""
        match shape:
            case _Object():
                return self._fit_object(_as_object(value), shape, self._name, depth=1)
            case _Array(element):
                if not isinstance(value, list):
                    raise _Mismatch
                assert element is not None
                return [None if item is None else self.fit_column(item, element) for item in value]
            case DataType():
                return convert_raw(value, shape)

    def _fit_object(self, value: dict[str, Any], shape: _Object, path: str, *, depth: int) -> dict[str, Any]:
        if depth > limits.OBJECT_DEPTH_MAX:
            raise BadRequest(
                f"Objects in column `{self._name}` are nested deeper than {limits.OBJECT_DEPTH_MAX} levels"
            )
        fitted: dict[str, Any] = {}
        for key, part in value.items():
            known = shape.parts.get(key)
            if known is None:
                fitted[key] = self._fit_new(key, part, shape, path, depth=depth)
            elif part is None:
                fitted[key] = None
            elif depth > 1:
                fitted[key] = self._fit(part, known, f"{path}['{key}']", depth=depth)
            else:
                try:
                    fitted[key] = self._fit(part, known, f"{path}['{key}']", depth=depth)
                except _Mismatch:
                    raise ConversionError(
                        f"Cannot cast object element `{key}` with value `{plain_text(part)}` to type "
                        f"`{_type_name(known)}`"
                    ) from None
        return fitted

    def _fit_new(self, key: str, part: Any, shape: _Object, path: str, *, depth: int) -> Any:
        if shape.policy == "strict":
            raise SQLParseError(f"Cannot add column `{key}` to strict object `{path}`")
        if shape.policy == "ignored":
            return part
        _check_key(key)
        found = None if part is None else self._shape_of(part, depth=depth)
        if found is None:
            return part
        fitted = self._fit(part, found, f"{path}['{key}']", depth=depth)
        shape.parts[key] = found
        self.has_new_parts = True
        return fitted

    def _fit(self, value: Any, shape: _Shape, path: str, *, depth: int) -> Any:
        """A value that is not None. Raises _Mismatch."""
        match shape:
            case _Object():
                return self._fit_object(_as_object(value), shape, path, depth=depth + 1)
            case _Array(element):
                if not isinstance(value, list):
                    raise _Mismatch
                if element is None:
                    return value
                return [None if item is None else self._fit(item, element, path, depth=depth) for item in value]
            case DataType():
                if _NEW_TYPES.get(type(value)) == shape:
                    return value
                try:
                    return convert_raw(value, shape)
                except CrateError:
                    raise _Mismatch from None

    def _shape_of(self, value: Any, *, depth: int) -> _Shape | None:
        """The shape a new key gets from its first value; None if the value does not tell."""
        if isinstance(value, dict):
            return _Object("dynamic", {})
        if isinstance(value, list):
            element: _Shape | None = None
            for item in value:
                element = _joined(element, None if item is None else self._shape_of(item, depth=depth))
            return None if element is None else _Array(element)
        return _NEW_TYPES[type(value)]


def _joined(left: _Shape | None, right: _Shape | None) -> _Shape | None:
    if left is None or right is None:
        return right if left is None else left
    if isinstance(left, DataType) and isinstance(right, DataType):
        return common_type(left, right)
    if isinstance(left, _Array) and isinstance(right, _Array):
        return _Array(_joined(left.element, right.element))
    if isinstance(left, _Object) and isinstance(right, _Object):
        return left
    raise _Mismatch


def _as_object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            raise _Mismatch from None
    if not isinstance(value, dict):
        raise _Mismatch
    return value


def _check_key(key: str) -> None:
    if "." in key:
        raise InvalidColumnName(f'"{key}" contains a dot')
    if "[" in key or "]" in key:
        raise InvalidColumnName(f'"{key}" conflicts with subscript pattern, square brackets are not allowed')


# --- types and shapes ------------------------------------------------------------------------------------------------


def _shape(data_type: DataType) -> _Shape:
    if data_type.kind == "object":
        return _Object(data_type.policy or "dynamic", {part.name: _shape(part.type) for part in data_type.fields})
    if data_type.kind == "array" and holds_objects(data_type):
        assert data_type.element is not None
        return _Array(_shape(data_type.element))
    return data_type


def _grown(shape: _Shape, data_type: DataType | None) -> DataType:
    """The type of a shape; what the declared type says beyond the shape (lengths, order of parts) is kept."""
    match shape:
        case _Object(policy, parts):
            before = {} if data_type is None else {part.name: part.type for part in data_type.fields}
            fields = tuple(Field(name, _grown(part, before.get(name))) for name, part in parts.items())
            return DataType("object", fields=fields, policy=policy)
        case _Array(element):
            assert element is not None
            return array_of(_grown(element, None if data_type is None else data_type.element))
        case DataType():
            return shape


def _type_name(shape: _Shape) -> str:
    return _grown(shape, None).name
