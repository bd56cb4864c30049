"""What a function takes and gives, as PostgreSQL's clients ask for it (psql's ``\\df``): texts by the function's oid.

In: an oid of pg_proc. Out: ``anyarray, integer``, ``SETOF bigint``; NULL for a number that is no function. Its own room because
these functions are about the registry that declares them. A name has one oid, so it is described by its first overload.
"""

from __future__ import annotations

import functools
from typing import Final

from cratepy.functions.catalog_names import format_type
from cratepy.functions.signatures import Declaration, Signature, signatures
from cratepy.model.oids import procedure_oid
from cratepy.model.types import DataType, type_oid

#: PostgreSQL's pseudo types for what may be of any type.
_ANY_ELEMENT: Final = 2283
_ANY_ARRAY: Final = 2277
_RECORD: Final = 2249
_SHOWN: Final = {_ANY_ELEMENT: "anyelement", _ANY_ARRAY: "anyarray", _RECORD: "record"}


def pseudo_type_oid(data_type: DataType) -> int:
    """The oid of a parameter or result; a type variable is PostgreSQL's anyelement or anyarray."""
    element = data_type.element if data_type.kind == "array" else data_type
    if element is not None and element.kind.startswith("$"):
        return _ANY_ELEMENT if data_type.kind != "array" else _ANY_ARRAY
    return type_oid(data_type)


@functools.cache
def _by_oid() -> dict[int, tuple[str, Signature]]:
    from cratepy.functions import registry  # which declares the functions below

    return {procedure_oid(name): (kind, signature) for name, kind, signature in registry.procedures()}


def _type_text(data_type: DataType) -> str:
    if data_type.kind == "text":
        return "text"  # as the documentation writes it; its oid is that of varchar
    if data_type.element is not None and data_type.element.kind == "text":
        return "text[]"
    oid = pseudo_type_oid(data_type)
    return _SHOWN.get(oid) or str(format_type(oid, None))


def _result(oid: int) -> str | None:
    kind, signature = _by_oid().get(oid, ("", None))
    if signature is None:
        return None
    return f"SETOF {_type_text(signature.result)}" if kind == "s" else _type_text(signature.result)


def _arguments(oid: int) -> str | None:
    _, signature = _by_oid().get(oid, ("", None))
    if signature is None:
        return None
    plain = len(signature.parameters) - signature.variadic
    texts = [_type_text(parameter) for parameter in signature.parameters]
    return ", ".join(text if index < plain else f"VARIADIC {text}" for index, text in enumerate(texts))


def _is_visible(oid: int) -> bool:
    return oid in _by_oid()


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(name="pg_get_function_result", signatures=signatures("integer -> text"), row=_result),
    Declaration(name="pg_get_function_arguments", signatures=signatures("integer -> text"), row=_arguments),
    Declaration(name="pg_get_function_identity_arguments", signatures=signatures("integer -> text"), row=_arguments),
    Declaration(name="pg_function_is_visible", signatures=signatures("integer -> boolean"), row=_is_visible),
)
