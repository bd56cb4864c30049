"""The processes of ``make crash-sim``: a seed in, its outcome out; a mutant in, whether it was caught.

Its own room so that worker processes import this and not the program.
"""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.process
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from tests.crash.failing import FailingCalls
from tests.crash.histories import Explorer
from tests.crash.mutants import MUTANTS, hunt
from tests.crash.session import shrink_limits
from tests.crash.threads import ThreadedRun
from tests.lifeline import end_with

#: Share of the workloads with a full-text column: building an index costs as much as fifty histories.
TEXT_SHARE: Final = 0.05
#: One of so many seeds is run under threads, too: that takes as long as all of its other histories.
THREADED_EVERY: Final = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a seed gave."""

    seed: int
    cuts: int
    errors: int
    threaded: int
    failures: tuple[str, ...]


def run_seed(seed: int) -> Outcome:
    """All histories of a seed: power cuts, then failing calls, for some then threads."""
    explorer = Explorer(seed, text_share=TEXT_SHARE)
    explorer.run()
    failing = FailingCalls(seed, text_share=TEXT_SHARE)
    failing.run()
    threaded = ThreadedRun(seed)
    if seed % THREADED_EVERY == 0:
        threaded.run()
    gc.collect()
    failures = tuple(str(failure) for failure in (*explorer.failures, *failing.failures, *threaded.failures))
    return Outcome(seed, explorer.histories, failing.histories, threaded.histories, failures)


def prepare() -> None:
    """In each process that runs histories, once."""
    shrink_limits()
    gc.disable()


def prepare_worker(main_process_id: int) -> None:
    end_with(main_process_id)
    prepare()


def outcomes(processes: int, first: int) -> Iterator[Outcome]:
    """Of this seed, the next, … for ever, in order; a dead worker ends it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.workers"])
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=prepare_worker, initargs=(os.getpid(),)
    ) as pool:
        waiting: list[tuple[int, Future[Outcome]]] = []
        seed = first
        try:
            while True:
                while len(waiting) < 2 * processes:
                    waiting.append((seed, pool.submit(run_seed, seed)))
                    seed += 1
                try:
                    yield waiting[0][1].result()
                except BrokenProcessPool:
                    seeds = ", ".join(str(number) for number, _ in waiting)
                    yield Outcome(waiting[0][0], 0, 0, 0, (f"a process died in one of the seeds {seeds}",))
                    return
                waiting.pop(0)
        finally:
            pool.shutdown(cancel_futures=True)


def _hunt_alone(index: int, histories_max: int, answer: Connection) -> None:
    prepare()
    answer.send(hunt(MUTANTS[index], histories_max))


def hunt_all(processes: int, histories_max: int) -> Iterator[tuple[str, int]]:
    """(name, histories until it was caught or 0) of each mutant. A process of its own each: some crash libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.workers"])
    running: list[tuple[int, multiprocessing.process.BaseProcess, Connection]] = []
    todo = list(range(len(MUTANTS)))
    while todo or running:
        while todo and len(running) < processes:
            index = todo.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_hunt_alone, args=(index, histories_max, sender))
            process.start()
            sender.close()
            running.append((index, process, receiver))
        index, process, receiver = running.pop(0)
        try:
            caught = receiver.recv()
        except EOFError:
            caught = 1  # The process died of it, which nobody would overlook.
        process.join()
        yield MUTANTS[index].name, caught
