"""Declarations of SQL functions, and the binding of an overload to argument types.

In: a declaration (name, signatures, how it is computed) and the types of a call's arguments. Out: the chosen
signature with every type variable bound. Its own room because typing (``sql``) and computing (the engine) read the same
declaration and neither may guess.

Binding follows CrateDB's ``SignatureBinder``: first exactly, then casting arguments only to types of higher precedence,
then by any implicit cast; among several the one whose parameters have the lowest precedence wins. A type variable is a
:class:`DataType` whose kind starts with ``$``; all arguments it stands for get their common type (``V``: each its own).

A function is computed in up to three ways, which must agree:

* ``row``: Python on SQL values, one row at a time; every scalar has it. Constants, defaults and checks use it.
* ``sql``: a template over rendered arguments in the engine's SQL (``{0}``, ``{1}``, ``{args}``), for speed.
* ``arrow``: a kernel over Arrow arrays, for speed where the engine's SQL has another meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

from cratepy.functions.conversions import can_cast
from cratepy.model.types import TYPE_FACTS, TYPE_NAMES, DataType, array_of, common_type
from cratepy.records import dataclass

#: Chooses a template by the types of the arguments and of the result; None: no template for them.
TemplateChooser = Callable[[tuple[DataType, ...], DataType], str | None]
#: Chooses a row function by the types of the arguments and of the result.
RowMaker = Callable[[tuple[DataType, ...], DataType], Callable[..., Any]]
#: Chooses an Arrow kernel in the same way; None: none for these types. A kernel that gives None leaves its batch to the
#: row function.
ArrowMaker = Callable[[tuple[DataType, ...], DataType], Callable[..., Any] | None]


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters and result. The last ``variadic`` parameters repeat, one or more times; ``is_strict`` forbids casts."""

    parameters: tuple[DataType, ...]
    result: DataType
    variadic: int = 0
    is_strict: bool = False

    def __str__(self) -> str:
        return "(" + ", ".join(_shown(parameter) for parameter in self.parameters) + ")"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A SQL function. ``row`` takes SQL values and is called for rows without NULL only, unless ``takes_null``.

    ``row_of`` makes the row function from the types of a call instead; with ``takes_context`` the statement's context
    comes first. ``doc`` is one line for people.
    """

    name: str
    signatures: tuple[Signature, ...]
    aliases: tuple[str, ...] = ()
    row: Callable[..., Any] | None = None
    row_of: RowMaker | None = None
    sql: str | TemplateChooser | None = None
    arrow: ArrowMaker | None = None
    takes_null: bool = False
    takes_context: bool = False
    #: Its context has to bring the relations of the cluster state.
    reads_catalog: bool = False
    is_deterministic: bool = True
    #: One call may take longer than a millisecond: constants are left to the execution, which may be stopped.
    is_costly: bool = False
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """A signature with its type variables bound; one type per argument."""

    parameters: tuple[DataType, ...]
    result: DataType


def signatures(*texts: str, is_strict: bool = False) -> tuple[Signature, ...]:
    """Signatures from texts such as ``"text,integer -> text"``, ``"E... -> E"``, ``"E[],E -> E[]"``."""
    return tuple(_signature(text, is_strict) for text in texts)


@functools.cache
def _signature(text: str, is_strict: bool) -> Signature:
    left, _, right = text.partition("->")
    parts = [part.strip() for part in left.split(",") if part.strip()]
    variadic = sum(part.endswith("...") for part in parts)
    parameters = tuple(_parse_type(part.removesuffix("...")) for part in parts)
    return Signature(parameters, _parse_type(right.strip()), variadic, is_strict)


def _parse_type(text: str) -> DataType:
    if text.endswith("[]"):
        return array_of(_parse_type(text[:-2]))
    if len(text) == 1 and text.isupper():
        return DataType(f"${text}")
    return TYPE_NAMES[text] if text != "record" else DataType("record")


def _shown(parameter: DataType) -> str:
    if parameter.kind == "array":
        assert parameter.element is not None
        return f"array({_shown(parameter.element)})"
    return parameter.kind.removeprefix("$")


#: A type variable that is another one for every argument.
_EACH: Final = DataType("$V")
#: Loosest last. ``exact``: no casts; ``precedence``: casts to higher types only; ``any``: every implicit cast.
COERCIONS: Final = ("exact", "precedence", "any")


def bind(candidates: Sequence[Signature], arguments: Sequence[DataType]) -> Binding | None:
    """The best overload for the arguments, or None if none takes them.

    A NULL literal among two is taken to be of the other's type, as long as there is such an overload.
    """
    preferred: Sequence[Signature] = ()
    if len(arguments) == 2 and any(argument.kind == "undefined" for argument in arguments):
        preferred = [s for s in candidates if len(s.parameters) == 2 and s.parameters[0] == s.parameters[1]]
    for choice in (preferred, candidates):
        for coercion in COERCIONS:
            bound = [binding for s in choice if (binding := _bind_one(s, arguments, coercion)) is not None]
            if bound:
                return min(bound, key=lambda binding: _specificity(binding, arguments))
    return None


def _specificity(binding: Binding, arguments: Sequence[DataType]) -> tuple[int, int]:
    """Fewer arguments of another kind first, then lower parameters."""
    casts = sum(p.kind != a.kind for p, a in zip(binding.parameters, arguments, strict=True))
    return casts, sum(_precedence(parameter) for parameter in binding.parameters)


def _precedence(data_type: DataType) -> int:
    if data_type.kind == "array":
        assert data_type.element is not None
        return TYPE_FACTS["array"].precedence + _precedence(data_type.element)
    return TYPE_FACTS[data_type.kind].precedence


_TIMES: Final = frozenset({"timestamp with time zone", "timestamp without time zone", "date"})


def _is_refused(parameters: Sequence[DataType], arguments: Sequence[DataType], coercion: str) -> bool:
    """Casts that would surprise: a number to a timestamp beside an interval, anything to a single character, what may
    have a time of day to a date."""
    if len(parameters) == 1 and parameters[0].kind == "date":
        return arguments[0].kind not in ("date", "undefined")
    if len(parameters) == 2 and any(parameter.kind == "interval" for parameter in parameters):
        pairs = zip(parameters, arguments, strict=True)
        return any(p.kind in _TIMES and a.kind not in _TIMES and a.kind != "undefined" for p, a in pairs)
    if coercion == "any" and any(parameter.kind == "character" for parameter in parameters):
        return not any(argument.kind in ("character", "undefined") for argument in arguments)
    return False


def _expanded(signature: Signature, count: int) -> tuple[DataType, ...] | None:
    parameters = signature.parameters
    if not signature.variadic:
        return parameters if len(parameters) == count else None
    group = parameters[len(parameters) - signature.variadic :]
    fixed = parameters[: len(parameters) - signature.variadic]
    repeats, rest = divmod(count - len(fixed), len(group))
    if repeats < 1 or rest:
        return None
    return fixed + group * repeats


def _bind_one(signature: Signature, arguments: Sequence[DataType], coercion: str) -> Binding | None:
    parameters = _expanded(signature, len(arguments))
    if parameters is None or _is_refused(parameters, arguments, coercion):
        return None
    if signature.is_strict and any(
        p.kind != a.kind and a.kind != "undefined" for p, a in zip(parameters, arguments, strict=True)
    ):
        return None
    variables: dict[str, DataType] = {}
    for parameter, argument in zip(parameters, arguments, strict=True):
        if not _collect(parameter, argument, variables, coercion):
            return None
    bound = tuple(
        argument if parameter == _EACH else _substitute(parameter, variables)
        for parameter, argument in zip(parameters, arguments, strict=True)
    )
    for parameter, declared, argument in zip(bound, parameters, arguments, strict=True):
        if not _accepts(parameter, argument, coercion, is_variable=_has_variable(declared)):
            return None
    return Binding(_keep_lengths(bound, parameters, arguments), _substitute(signature.result, variables))


def _keep_lengths(
    bound: tuple[DataType, ...], declared: tuple[DataType, ...], arguments: Sequence[DataType]
) -> tuple[DataType, ...]:
    """An argument of the parameter's kind stays as it is: ``numeric(5,2)`` for ``numeric`` needs no cast."""
    return tuple(
        argument
        if argument.kind == parameter.kind and parameter.kind != "array" and not _has_variable(d)
        else parameter
        for parameter, d, argument in zip(bound, declared, arguments, strict=True)
    )


def _has_variable(data_type: DataType) -> bool:
    if data_type.kind == "array":
        assert data_type.element is not None
        return _has_variable(data_type.element)
    return data_type.kind.startswith("$")


def _collect(parameter: DataType, argument: DataType, variables: dict[str, DataType], coercion: str) -> bool:
    """Note what the argument says about the parameter's type variables."""
    if parameter.kind == "array" and _has_variable(parameter):
        assert parameter.element is not None
        if argument.kind == "undefined":
            return coercion != "exact"
        if argument.kind != "array":
            return False
        assert argument.element is not None
        return _collect(parameter.element, argument.element, variables, coercion)
    if not parameter.kind.startswith("$") or parameter == _EACH:
        return True
    known = variables.get(parameter.kind)
    if known is None:
        variables[parameter.kind] = argument
        return True
    common = _common(known, argument, coercion)
    if common is None:
        return False
    variables[parameter.kind] = common
    return True


def _common(left: DataType, right: DataType, coercion: str) -> DataType | None:
    if left == right:
        return left
    if coercion == "exact":
        return None
    common = common_type(left, right)
    other = right if common == left else left
    if can_cast(left, common, explicit=False) and can_cast(right, common, explicit=False):
        return common
    if coercion == "any" and can_cast(common, other, explicit=False):
        return other
    return None


def _substitute(data_type: DataType, variables: dict[str, DataType]) -> DataType:
    if data_type.kind == "array":
        assert data_type.element is not None
        return array_of(_substitute(data_type.element, variables)) if _has_variable(data_type) else data_type
    if data_type.kind.startswith("$"):
        return variables.get(data_type.kind, TYPE_NAMES["undefined"])
    return data_type


def _accepts(parameter: DataType, argument: DataType, coercion: str, *, is_variable: bool) -> bool:
    if parameter == argument or (is_variable and argument.kind == "undefined" and coercion != "exact"):
        return True
    if coercion == "exact":
        return parameter.kind == argument.kind and parameter.kind != "array" and not is_variable
    if not can_cast(argument, parameter, explicit=False):
        return False
    if coercion == "precedence" and not is_variable and parameter.kind != argument.kind:
        return _precedence(argument) < _precedence(parameter)
    return True
