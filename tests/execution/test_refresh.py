"""When shards are refreshed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from cratepy.execution.refresh import due_shards, refresh_interval_ms
from cratepy.model.schema import SettingValue, TableDefinition
from tests.execution.fakes import table_definition


@dataclass(eq=False)
class Shard:
    settings: dict[str, SettingValue] = field(default_factory=dict)
    buffered_bytes: int = 1
    translog_bytes: int = 0
    flush_bytes: int = 100
    failure: str | None = None
    is_closed: bool = False

    @property
    def definition(self) -> TableDefinition:
        return msgspec.structs.replace(table_definition(), settings=self.settings)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [(None, 1000), (500, 500), ("500ms", 500), ("2s", 2000), ("1.5s", 1500), ("-1", -1), (0, 0), ("1m", 60_000)],
)
def test_the_interval_is_the_tables_setting(value: SettingValue, milliseconds: float) -> None:
    assert refresh_interval_ms({} if value is None else {"refresh_interval": value}) == milliseconds


def rounds(shard: Shard, times: list[float]) -> list[float]:
    """The times at which the shard was due."""
    seen: dict[int, float] = {}
    shards: list[Any] = [shard]
    return [now for now in times if due_shards(shards, seen, now)[0]]


def test_a_written_shard_is_due_every_interval() -> None:
    assert rounds(Shard(), [0.0, 0.5, 1.0, 1.5, 2.1, 3.0]) == [1.0, 2.1]
    assert rounds(Shard({"refresh_interval": 200}), [0.0, 0.1, 0.2, 0.3, 0.4]) == [0.2, 0.4]


def test_a_shard_nobody_wrote_to_is_never_due() -> None:
    assert rounds(Shard(buffered_bytes=0), [0.0, 1.0, 2.0]) == []


def test_minus_one_is_off_but_a_large_translog_is_still_flushed() -> None:
    off: dict[str, SettingValue] = {"refresh_interval": -1}
    assert rounds(Shard(off), [0.0, 1.0, 2.0]) == []
    assert rounds(Shard(off, translog_bytes=101), [0.0, 1.0, 1.5, 2.0]) == [1.0, 2.0]


def test_failed_and_closed_shards_are_left_alone() -> None:
    assert rounds(Shard(failure="broken"), [0.0, 2.0]) == []
    assert rounds(Shard(is_closed=True), [0.0, 2.0]) == []


def test_the_loop_sleeps_until_the_next_shard_but_at_most_a_second() -> None:
    seen: dict[int, float] = {}
    fast: Any = Shard({"refresh_interval": 200})
    slow: Any = Shard({"refresh_interval": "1h"})
    assert due_shards([slow], seen, 0.0)[1] == 1.0
    assert due_shards([fast, slow], seen, 0.1)[1] == pytest.approx(0.2)
    assert due_shards([], seen, 0.2)[1] == 1.0
    assert seen == {}
