"""A process that holds one shard and nothing else: what ``make crash-kill`` kills.

    python -m tests.crash.shard_process DIRECTORY SETUP [busy]

In: lines on standard input, each a call of the shard (base64 of a pickled (method, arguments)). Out: lines with what it
returned. Real files, real fsyncs, the store's own committer; with ``busy`` a thread refreshes, merges and flushes all the
time beside the calls. The end of the input is the end of the process, without closing the shard.
"""

from __future__ import annotations

import base64
import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

from cratepy.clock import SystemClock
from cratepy.errors import ShardFailed
from cratepy.storage.shard import Shard
from cratepy.storage.store import ShardStore
from tests.crash.session import Setup, shrink_limits


def sync(store: ShardStore, shard: Shard, position: int) -> None:
    """As a statement waits for its rows."""
    is_done = threading.Event()
    errors: list[BaseException] = []

    def done(error: BaseException | None) -> None:
        if error is not None:
            errors.append(error)
        is_done.set()

    store.when_durable(shard, position, done)
    is_done.wait()
    if errors:
        raise errors[0]


def keep_busy(shard: Shard) -> None:
    try:
        while True:
            for work in (shard.refresh, shard.merge, shard.refresh, shard.flush):
                work()
                threading.Event().wait(0.001)
    except ShardFailed:
        if shard.failure is not None:
            os._exit(3)


def main() -> None:
    directory, pickled, *options = sys.argv[1:]
    setup, primary_term = pickle.loads(base64.b64decode(pickled))
    assert isinstance(setup, Setup)
    shrink_limits()
    store = ShardStore(Path(directory), clock=SystemClock())
    shard = store.open_shard(setup.definition(), 0, "a", primary_term=primary_term, create=True)
    position = 0
    if "busy" in options:
        threading.Thread(target=keep_busy, args=(shard,), daemon=True).start()
    _answer("ready")
    for line in sys.stdin.buffer:
        name, arguments, options_of_call = pickle.loads(base64.b64decode(line))
        result: Any
        try:
            if name == "sync":
                result = sync(store, shard, position)
            elif name in ("failure", "position"):
                result = getattr(shard, name)
            else:
                result = getattr(shard, name)(*arguments, **options_of_call)
            if name == "write":
                position = result.position
            elif name == "write_row" and result is not None:
                position = result
        except Exception as error:
            result = RuntimeError(f"{type(error).__name__}: {error}")
        _answer(result)
    os._exit(0)


def _answer(result: Any) -> None:
    os.write(1, base64.b64encode(pickle.dumps(result)) + b"\n")


if __name__ == "__main__":
    main()
