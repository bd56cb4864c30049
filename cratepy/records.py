"""``dataclass`` as the standard library's, made in a quarter of the time: a start makes 170 of them.

In: a class, and of the arguments of :func:`dataclasses.dataclass` those that are used here. Out: what the standard one would
make (fields, slots, ``__match_args__``, ``replace`` and ``fields`` of :mod:`dataclasses` work on it). The standard one writes
the text of five or six methods for each class and compiles each by itself, which was 0.15 s of the 0.55 s of CPU that the
imports of a node take; here only ``__init__`` is text, the others are closures over the names of the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        cls: type | None = None, /, *, frozen: bool = False, slots: bool = False, kw_only: bool = False
    ) -> Any:
        """Decorate a class, with arguments or without."""

        def decorate(decorated: type) -> type:
            return _made(decorated, is_frozen=frozen, has_slots=slots, is_kw_only=kw_only)

        return decorate if cls is None else decorate(cls)


def _made(cls: type, *, is_frozen: bool, has_slots: bool, is_kw_only: bool) -> type:
    own = cls.__dict__.keys()
    has_hash = "__hash__" in own and not (cls.__dict__["__hash__"] is None and "__eq__" in own)
    added = {"__init__", "__repr__", "__eq__"} - own
    made: type[Any] = dataclasses.dataclass(init=False, repr=False, eq=False, slots=has_slots, kw_only=is_kw_only)(cls)
    fields = dataclasses.fields(made)
    methods: dict[str, Any] = {
        "__init__": _initializer(made, fields, is_frozen=is_frozen, has_slots=has_slots),
        "__repr__": _representation(fields),
        "__eq__": _equality(fields),
    }
    for name in added:
        _add(made, name, methods[name])
    if is_frozen:
        _freeze(made, fields)
        if has_slots:
            _keep_copyable(made, fields)
    if not has_hash:
        if is_frozen:
            _add(made, "__hash__", _hash(fields))
        else:
            made.__hash__ = None  # type: ignore[assignment]
    return made


def _add(cls: type[Any], name: str, method: Any) -> None:
    method.__name__ = name
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    method.__module__ = cls.__module__
    setattr(cls, name, method)


_Fields = tuple[dataclasses.Field[Any], ...]


def _initializer(cls: type, fields: _Fields, *, is_frozen: bool, has_slots: bool) -> Any:
    """The one method that is text: arguments by position and by name, and their defaults, are quickest that way."""
    scope: dict[str, Any] = {"_record_set": object.__setattr__, "_record_missing": dataclasses.MISSING}
    positional, named, body = ["self"], ["*"], []
    for field in fields:
        name, value = field.name, field.name
        parameter = name
        if field.default is not dataclasses.MISSING:
            scope[f"_default_{name}"] = field.default
            parameter = f"{name}=_default_{name}"
            value = name if field.init else f"_default_{name}"
        elif field.default_factory is not dataclasses.MISSING:
            scope[f"_factory_{name}"] = field.default_factory
            parameter = f"{name}=_record_missing"
            value = f"_factory_{name}()"
            if field.init:
                value = f"{value} if {name} is _record_missing else {name}"
        elif not field.init:
            continue
        if field.init:
            (named if field.kw_only else positional).append(parameter)
        elif field.default is not dataclasses.MISSING and not has_slots:
            continue
        body.append(f" _record_set(self, {name!r}, {value})" if is_frozen else f" self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    parameters = ", ".join(positional + (named if len(named) > 1 else []))
    exec("\n".join([f"def __init__({parameters}):", *(body or [" pass"])]), scope)
    return scope["__init__"]


def _values(fields: _Fields) -> Callable[[Any], tuple[Any, ...]]:
    """All values of an object as a tuple."""
    names = [field.name for field in fields]
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    get = attrgetter(*names)
    return lambda one: (get(one),)


def _representation(fields: _Fields) -> Any:
    names = [field.name for field in fields if field.repr]

    @recursive_repr("...")
    def represent(self: Any) -> str:
        return f"{self.__class__.__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in names])})"

    return represent


def _equality(fields: _Fields) -> Any:
    values = _values(tuple(field for field in fields if field.compare))

    def equals(self: Any, other: object) -> Any:
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    return equals


def _hash(fields: _Fields) -> Any:
    values = _values(tuple(field for field in fields if (field.compare if field.hash is None else field.hash)))

    def hash_of(self: Any) -> int:
        return hash(values(self))

    return hash_of


def _freeze(cls: type[Any], fields: _Fields) -> None:
    names = frozenset(field.name for field in fields)

    def refuse_setting(self: Any, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def refuse_deleting(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    _add(cls, "__setattr__", refuse_setting)
    _add(cls, "__delattr__", refuse_deleting)


def _keep_copyable(cls: type, fields: _Fields) -> None:
    """What copies and pickles restore, they would restore by setting attributes."""
    names = [field.name for field in fields]

    def state_of(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    def restore(self: Any, state: list[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    _add(cls, "__getstate__", state_of)
    _add(cls, "__setstate__", restore)
