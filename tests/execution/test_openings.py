"""Copies are opened by a few threads that take the next one themselves."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import trio
import trio.lowlevel

from cratepy import limits
from cratepy.execution.cpu import Workers
from cratepy.execution.openings import Openings


def run(test: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                await test(nursery)
                nursery.cancel_scope.cancel()

    trio.run(main)


def made(open_one: Callable[[int], str]) -> tuple[Openings[int, str], list[tuple[int, str]]]:
    """And the list that outcomes are moved to as they are announced."""
    taken: list[tuple[int, str]] = []
    openings = Openings(workers=Workers(), open_one=open_one, on_outcome=lambda: taken.extend(openings.take()))
    return openings, taken


async def wait_done(openings: Openings[int, str]) -> None:
    while openings.pending:
        await trio.lowlevel.checkpoint()


def test_every_copy_is_opened_once_however_they_come() -> None:
    async def test(nursery: trio.Nursery) -> None:
        openings, taken = made(str)
        for start in range(0, 300, 3):
            openings.add(range(start, start + 3), nursery)
            if start % 2:
                await wait_done(openings)
        await wait_done(openings)
        assert sorted(taken) == [(number, str(number)) for number in range(300)]

    run(test)


def test_a_slow_copy_holds_up_nothing_but_its_thread() -> None:
    gate, running, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def open_one(number: int) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        if number < limits.SHARD_OPENERS_MAX - 1:
            assert gate.wait(20)
        with lock:
            running[0] -= 1
        return "opened"

    async def test(nursery: trio.Nursery) -> None:
        openings, taken = made(open_one)
        openings.add(range(50), nursery)
        while openings.pending > limits.SHARD_OPENERS_MAX - 1:
            await trio.lowlevel.checkpoint()
        assert len(taken) == 50 - (limits.SHARD_OPENERS_MAX - 1)
        gate.set()
        await wait_done(openings)
        assert most[0] == limits.SHARD_OPENERS_MAX

    run(test)


def test_openings_leave_all_file_threads_to_others() -> None:
    gate = threading.Event()

    def open_one(number: int) -> str:
        assert gate.wait(20)
        return "opened"

    async def test(nursery: trio.Nursery) -> None:
        workers, taken = Workers(file_threads=1), list[tuple[int, str]]()
        openings = Openings(workers=workers, open_one=open_one, on_outcome=lambda: taken.extend(openings.take()))
        openings.add(range(50), nursery)
        assert await workers.files(str, 1) == "1"
        assert not taken
        gate.set()
        await wait_done(openings)

    run(test)
