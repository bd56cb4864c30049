"""Which copy is scrubbed next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import trio

from cratepy import limits
from cratepy.clock import SystemClock
from cratepy.execution.scrubbing import Scrubber, next_copy
from cratepy.storage.operations import WriteBatch
from cratepy.storage.store import ShardStore
from tests.execution.fakes import table_definition


@dataclass(eq=False)
class Shard:
    failure: str | None = None
    is_closed: bool = False


def test_each_copy_has_its_turn_the_first_one_a_while_after_it_was_seen() -> None:
    first: Any = Shard()
    second: Any = Shard()
    due_at: dict[int, float] = {}
    assert next_copy([first], due_at, 0.0) is None
    assert next_copy([first, second], due_at, 1.0) is None
    assert next_copy([first, second], due_at, limits.SCRUB_FIRST_S) is first
    due_at[id(first)] = limits.SCRUB_FIRST_S + limits.SCRUB_INTERVAL_S
    assert next_copy([first, second], due_at, limits.SCRUB_FIRST_S) is None
    assert next_copy([first, second], due_at, limits.SCRUB_FIRST_S + 1.0) is second
    second.failure = "broken"
    assert next_copy([first, second], due_at, limits.SCRUB_FIRST_S + 1.0) is None
    assert next_copy([first], due_at, 2 * limits.SCRUB_INTERVAL_S) is first
    assert list(due_at) == [id(first)], "copies that are gone are forgotten"


def test_the_loop_finds_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCRUB_FIRST_S", 0.0)

    async def main() -> None:
        store = ShardStore(tmp_path, clock=SystemClock())
        shard = store.open_shard(table_definition(), 0, "a", primary_term=1, create=True)
        values = pa.RecordBatch.from_arrays([pa.array([1, 2], pa.int64())], names=["c1"])
        shard.write(WriteBatch(kind="insert", ids=["a", "b"], rows=values, primary_term=1))
        shard.flush()
        (path,) = tmp_path.rglob("seg-1")  # noqa: ASYNC240
        file = next(path.iterdir())
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Scrubber(store=store, clock=SystemClock()).run)
            with trio.fail_after(10):
                while shard.failure is None:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert file.name in str(shard.failure)
        await trio.to_thread.run_sync(store.close)

    trio.run(main)
