"""``cratepy.records.dataclass`` makes what the standard one makes."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any, ClassVar

import pytest

from cratepy import records

Decorate = Callable[..., Any]


@records.dataclass(frozen=True, slots=True)
class Point:
    """At the top of the module, so that it can be pickled."""

    x: int
    y: int = 0


@pytest.fixture(params=[dataclasses.dataclass, records.dataclass], ids=["standard", "ours"])
def dataclass(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("options", [{}, {"slots": True}, {"frozen": True}, {"frozen": True, "slots": True}])
def test_arguments_and_defaults(dataclass: Any, options: dict[str, bool]) -> None:
    @dataclass(**options)
    class Thing:
        kind: ClassVar[str] = "thing"
        a: int
        b: list[int] = field(default_factory=list)
        c: str = "c"
        d: int = field(default=4, init=False)
        e: list[int] = field(default_factory=lambda: [5], init=False)
        f: int = field(default=6, kw_only=True)

    thing = Thing(1)
    assert (thing.a, thing.b, thing.c, thing.d, thing.e, thing.f) == (1, [], "c", 4, [5], 6)
    assert Thing(1).b is not thing.b
    thing = Thing(1, [2], c="x", f=7)
    assert (thing.a, thing.b, thing.c, thing.f) == (1, [2], "x", 7)
    assert Thing.__match_args__ == ("a", "b", "c")
    assert hasattr(thing, "__dict__") is not options.get("slots", False)
    assert [one.name for one in dataclasses.fields(thing)] == ["a", "b", "c", "d", "e", "f"]
    assert dataclasses.replace(thing, a=9).a == 9
    made: Any = Thing
    for given, named in (((), {}), ((1,), {"z": 2}), ((1, [], "c", 6), {})):
        with pytest.raises(TypeError):
            made(*given, **named)


def test_keywords_only(dataclass: Any) -> None:
    @dataclass(kw_only=True)
    class Thing:
        b: int
        a: int = 1

    assert Thing(b=2) == Thing(a=1, b=2)
    made: Any = Thing
    with pytest.raises(TypeError):
        made(1, 2)


def test_equality_hash_and_representation(dataclass: Any) -> None:
    @dataclass(frozen=True, slots=True)
    class Thing:
        a: float
        b: list[int] = field(default_factory=list, compare=False, repr=False)
        c: str = field(default="c", hash=False)

    @dataclass(frozen=True)
    class Single:
        a: float

    @dataclass(slots=True)
    class Changing:
        a: Any

    nan = float("nan")
    assert Thing(1, [1]) == Thing(1, [2]) != Thing(1, c="d")
    assert hash(Thing(1, [1])) == hash(Thing(1, [2], c="d"))
    assert Single(nan) == Single(nan)
    assert hash(Single(1)) != hash(Single(2))
    assert Single(1).__eq__(Thing(1)) is NotImplemented
    assert repr(Thing(1)) == "test_equality_hash_and_representation.<locals>.Thing(a=1, c='c')"
    assert repr(Single(1)).endswith("Single(a=1)")
    assert Changing.__hash__ is None
    one = Changing(1)
    one.a = one
    assert repr(one).endswith("Changing(a=...)")


def test_frozen_ones_refuse_changes(dataclass: Any) -> None:
    @dataclass(frozen=True, slots=True)
    class Thing:
        a: int

    thing = Thing(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'a'"):
        thing.a = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'a'"):
        del thing.a
    assert thing.a == 1


def test_what_a_class_defines_itself_stays_and_what_it_inherits_is_there(dataclass: Any) -> None:
    @dataclass(frozen=True)
    class Base:
        a: int
        b: int = 2

        def __post_init__(self) -> None:
            assert self.a > 0

        def __repr__(self) -> str:
            return "mine"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    @dataclass(frozen=True)
    class Derived(Base):
        c: int = 3

    assert repr(Base(1)) == "mine"
    assert Base(1) == Base(2)
    assert hash(Base(1)) == 7
    derived = Derived(1, c=4)
    assert (derived.a, derived.b, derived.c) == (1, 2, 4)
    assert repr(derived).endswith("Derived(a=1, b=2, c=4)")
    assert derived != Derived(1)
    assert hash(derived) != 7
    with pytest.raises(AssertionError):
        Derived(0)


def test_copies_and_pickles() -> None:
    point = Point(1, 2)
    assert copy.copy(point) == copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
