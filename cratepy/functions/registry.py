"""The front door of the functions: a name and argument types in, the chosen overload out.

Imported by ``sql`` for typing and by the engine for computing. The words of the refusals are CrateDB's:
``Unknown function: f(x)`` and ``Invalid arguments in: f(x) with (integer). Valid types: (text)``.

Every list of declarations is a visible tuple in its own module; nothing registers itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from cratepy.errors import FunctionUnknown
from cratepy.functions import (
    aggregates,
    arithmetic,
    arrays,
    bits,
    catalog,
    conditional,
    datetimes,
    formatting,
    geo,
    mathematics,
    objects,
    operators,
    patterns,
    procedure_texts,
    system,
    tables,
    texts,
    urls,
    windows,
)
from cratepy.functions.conversions import can_cast
from cratepy.functions.signatures import Binding, Declaration, Signature, bind
from cratepy.model.types import DataType, array_of

__all__ = [
    "Resolution",
    "can_cast",
    "declaration_of",
    "is_aggregate",
    "is_scalar",
    "is_table_function",
    "is_window",
    "resolve",
    "resolve_aggregate",
    "resolve_table_function",
    "resolve_window",
]

SCALARS: Final[tuple[Declaration, ...]] = (
    *arithmetic.DECLARATIONS,
    *operators.DECLARATIONS,
    *conditional.DECLARATIONS,
    *bits.DECLARATIONS,
    *mathematics.DECLARATIONS,
    *texts.DECLARATIONS,
    *urls.DECLARATIONS,
    *patterns.DECLARATIONS,
    *datetimes.DECLARATIONS,
    *formatting.DECLARATIONS,
    *arrays.DECLARATIONS,
    *objects.DECLARATIONS,
    *geo.DECLARATIONS,
    *system.DECLARATIONS,
    *catalog.DECLARATIONS,
    *procedure_texts.DECLARATIONS,
)


class Resolution(msgspec.Struct, frozen=True):
    """The overload chosen for a call. Arguments whose type differs from ``argument_types`` need an implicit cast."""

    function: str
    argument_types: tuple[DataType, ...]
    result_type: DataType
    is_deterministic: bool = True
    returns_set: bool = False


def _by_name(declarations: Iterable[Declaration]) -> dict[str, Declaration]:
    found: dict[str, Declaration] = {}
    for declaration in declarations:
        for name in (declaration.name, *declaration.aliases):
            assert name not in found, name
            found[name] = declaration
    return found


_SCALARS: Final = _by_name(SCALARS)
_AGGREGATES: Final = _by_name(aggregates.DECLARATIONS)
_WINDOWS: Final = _by_name(windows.DECLARATIONS)
_TABLES: Final = {name: t for t in tables.TABLE_FUNCTIONS for name in (t.name, *t.aliases)}


def declaration_of(name: str) -> Declaration:
    """The declaration of a canonical scalar name in a plan."""
    return _SCALARS[name]


def aggregate_of(name: str) -> Declaration:
    return _AGGREGATES[name]


def window_of(name: str) -> Declaration | None:
    """The declaration of a window function in a plan; None for an aggregate."""
    return _WINDOWS.get(name)


def table_function_of(name: str) -> tables.TableFunctionDeclaration:
    return _TABLES[name]


#: Scalars whose context has to bring the relations of the cluster state.
CATALOG_READERS: Final = frozenset(declaration.name for declaration in SCALARS if declaration.reads_catalog)


def is_scalar(name: str) -> bool:
    return _plain(name) in _SCALARS


def is_aggregate(name: str) -> bool:
    return _plain(name) in _AGGREGATES


def is_window(name: str) -> bool:
    """Whether it is a window function that is no aggregate; aggregates may have OVER, too."""
    return _plain(name) in _WINDOWS


def is_table_function(name: str) -> bool:
    return _plain(name) in _TABLES


def function_names() -> list[str]:
    """Every name a user may call, sorted (pg_proc, completion)."""
    names = [*_SCALARS, *_AGGREGATES, *_WINDOWS, *_TABLES]
    return sorted({name for name in names if not name.startswith(("op_", "_"))})


def procedures() -> list[tuple[str, str, Signature]]:
    """Every function by name: its kind (``f``, ``a`` aggregate, ``w`` window, ``s`` gives a set) and first signature."""
    found: list[tuple[str, str, Signature]] = []
    for name in function_names():
        if name in _AGGREGATES:
            found.append((name, "a", _AGGREGATES[name].signatures[0]))
        elif name in _WINDOWS:
            found.append((name, "w", _WINDOWS[name].signatures[0]))
        elif name in _SCALARS:
            found.append((name, "f", _SCALARS[name].signatures[0]))
        else:
            found.append((name, "s", _TABLES[name].signatures[0]))
    return found


def resolve(name: str, argument_types: Sequence[DataType], *, shown: str | None = None) -> Resolution:
    """The overload of a scalar (or of a table function in the select list: ``returns_set``).

    ``shown`` is the call as the error prints it, e.g. ``abs('x')``; without it the types stand for the arguments.
    Raises FunctionUnknown.
    """
    plain = _plain(name)
    declaration = _SCALARS.get(plain)
    if declaration is None:
        table = _TABLES.get(plain)
        if table is not None:
            return _resolve_set(table, argument_types, shown)
        raise _unknown(name, argument_types, shown)
    binding = _bound(declaration.name, declaration.signatures, tuple(argument_types), shown)
    return Resolution(declaration.name, binding.parameters, binding.result, declaration.is_deterministic)


def resolve_aggregate(
    name: str, argument_types: Sequence[DataType], *, is_distinct: bool = False, shown: str | None = None
) -> Resolution:
    """The overload of an aggregate. Raises FunctionUnknown."""
    declaration = _AGGREGATES.get(_plain(name))
    if declaration is None:
        raise _unknown(name, argument_types, shown)
    binding = _bound(declaration.name, declaration.signatures, tuple(argument_types), shown)
    return Resolution(declaration.name, binding.parameters, binding.result)


def resolve_window(name: str, argument_types: Sequence[DataType], *, shown: str | None = None) -> Resolution:
    """The overload of a window function or of an aggregate with OVER. Raises FunctionUnknown."""
    declaration = _WINDOWS.get(_plain(name))
    if declaration is None:
        return resolve_aggregate(name, argument_types, shown=shown)
    binding = _bound(declaration.name, declaration.signatures, tuple(argument_types), shown)
    return Resolution(declaration.name, binding.parameters, binding.result)


class TableResolution(msgspec.Struct, frozen=True):
    """A table function's overload: the types its arguments are cast to, and its columns (name, type)."""

    function: str
    argument_types: tuple[DataType, ...]
    columns: tuple[tuple[str, DataType], ...]


def resolve_table_function(
    name: str, argument_types: Sequence[DataType], *, shown: str | None = None
) -> TableResolution:
    """The overload of a function in FROM. Raises FunctionUnknown."""
    plain = _plain(name)
    declaration = _TABLES.get(plain)
    if declaration is None:
        raise _unknown(name, argument_types, shown)
    binding = _table_binding(declaration, argument_types, shown)
    columns = declaration.columns(binding.parameters, binding.result)
    return TableResolution(declaration.name, binding.parameters, columns)


def _resolve_set(
    declaration: tables.TableFunctionDeclaration, argument_types: Sequence[DataType], shown: str | None
) -> Resolution:
    binding = _table_binding(declaration, argument_types, shown)
    columns = declaration.columns(binding.parameters, binding.result)
    result = columns[0][1] if len(columns) == 1 else DataType("record")
    return Resolution(declaration.name, binding.parameters, result, True, True)


def _table_binding(
    declaration: tables.TableFunctionDeclaration, argument_types: Sequence[DataType], shown: str | None
) -> Binding:
    if declaration.takes_arrays:
        _refuse_non_arrays(declaration, argument_types, shown)
        return Binding(tuple(_array(t) for t in argument_types), DataType("record"))
    return _bound(declaration.name, declaration.signatures, tuple(argument_types), shown)


def _refuse_non_arrays(
    declaration: tables.TableFunctionDeclaration, argument_types: Sequence[DataType], shown: str | None
) -> None:
    for argument in argument_types:
        if argument.kind not in ("array", "undefined"):
            raise _invalid(declaration.name, declaration.signatures, argument_types, shown)


def _array(data_type: DataType) -> DataType:
    return array_of(data_type) if data_type.kind == "undefined" else data_type


@functools.lru_cache(maxsize=4096)
def _cached_bind(candidates: tuple[Signature, ...], argument_types: tuple[DataType, ...]) -> Binding | None:
    return bind(candidates, argument_types)


def _bound(
    name: str, candidates: tuple[Signature, ...], argument_types: tuple[DataType, ...], shown: str | None
) -> Binding:
    binding = _cached_bind(candidates, argument_types)
    if binding is None:
        raise _invalid(name, candidates, argument_types, shown)
    return binding


def _plain(name: str) -> str:
    """Without the schema: every function lives in pg_catalog and in no schema."""
    prefix, _, plain = name.rpartition(".")
    return plain if prefix in ("", "pg_catalog", "information_schema") else name


def _call_text(name: str, argument_types: Sequence[DataType], shown: str | None) -> str:
    return shown if shown is not None else f"{name}({', '.join(t.name for t in argument_types)})"


def _unknown(name: str, argument_types: Sequence[DataType], shown: str | None) -> FunctionUnknown:
    return FunctionUnknown(f"Unknown function: {_call_text(name, argument_types, shown)}")


def _invalid(
    name: str, candidates: tuple[Signature, ...], argument_types: Sequence[DataType], shown: str | None
) -> FunctionUnknown:
    valid = ", ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    given = ", ".join(t.name for t in argument_types)
    return FunctionUnknown(
        f"Invalid arguments in: {_call_text(name, argument_types, shown)} with ({given}). Valid types: {valid}"
    )
