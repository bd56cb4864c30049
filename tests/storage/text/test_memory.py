"""Builds of text indexes share a budget: no more than it at once, nobody waits for ever, waiting can be ended."""

from __future__ import annotations

import threading

import pytest

from cratepy import limits
from cratepy.storage.text import memory
from cratepy.storage.text.memory import Budget, build_memory


class Stopped(Exception):
    pass


def stop() -> None:
    raise Stopped


def go_on() -> None:
    pass


def test_more_than_the_rest_waits_until_another_has_ended() -> None:
    budget = Budget(100)
    began = threading.Event()

    def third() -> None:
        with budget.take(30, go_on):
            began.set()

    thread = threading.Thread(target=third)
    with budget.take(40, go_on):
        with budget.take(40, go_on):
            thread.start()
            with pytest.raises(Stopped), budget.take(21, stop):
                pass
            assert not began.is_set()
        assert began.wait(10)
    thread.join()
    assert budget.taken == 0


def test_who_wants_more_than_there_is_takes_half() -> None:
    budget = Budget(100)
    with budget.take(1_000, go_on), budget.take(1_000, go_on):
        assert budget.taken == 100
    assert budget.taken == 0


def test_what_failed_gives_back() -> None:
    budget = Budget(100)
    with pytest.raises(Stopped), budget.take(60, go_on):
        stop()
    assert budget.taken == 0


def test_small_builds_never_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_builds", Budget(2))
    with build_memory(limits.TEXT_BUILD_SMALL_BYTES + 1, stop), build_memory(limits.TEXT_BUILD_SMALL_BYTES + 1, stop):
        with build_memory(limits.TEXT_BUILD_SMALL_BYTES, stop):
            pass
        with pytest.raises(Stopped), build_memory(limits.TEXT_BUILD_SMALL_BYTES + 1, stop):
            pass
