"""The power is cut at every call to the disk: what was durable is found again, by reading and by searching alike."""

from __future__ import annotations

import random
from pathlib import Path

from cratepy.storage.shard import Shard
from tests.storage.shards import delete, insert, open_shard, scanned
from tests.storage.simulated_disk import PowerCut, SimulatedDisk
from tests.storage.text.texts import found, fulltext, match

DIRECTORY = Path("/data/indices/table-1/0/copy-1")


def life(shard: Shard, durable: dict[str, str]) -> None:
    """Writes, refreshes, a flush, a merge; ``durable`` is what a restart must show at least."""
    for round_number in range(3):
        rows = {f"r{round_number}-{n}": (n, f"x w{round_number}") for n in range(3)}
        shard.write(insert(rows))
        shard.sync()
        durable.update({row_id: text for row_id, (_, text) in rows.items()})
        shard.refresh()
        if round_number == 1:
            shard.write(delete("r0-0"))
            durable.pop("r0-0")
            shard.flush()
    shard.optimize(max_num_segments=1)


def test_what_is_durable_is_found_after_a_power_cut_anywhere() -> None:
    disk = SimulatedDisk()
    life(open_shard(DIRECTORY, files=disk, definition=fulltext()), {})
    calls = disk.calls
    assert calls > 100
    for cut_at in range(1, calls, 7):
        chance = random.Random(cut_at)
        disk = SimulatedDisk()
        disk.cut_at = cut_at
        durable: dict[str, str] = {}
        try:
            life(open_shard(DIRECTORY, files=disk, definition=fulltext()), durable)
        except PowerCut:
            pass
        disk.power_cut(chance)
        shard = open_shard(DIRECTORY, files=disk, definition=fulltext())
        rows = {row[0]: row[1] for row in scanned(shard, ("_id", "c2"))}
        assert all(rows.get(row_id) == text for row_id, text in durable.items() if row_id != "r0-0"), cut_at
        assert found(shard, match("x")) == list(rows), cut_at
        for word in ("w0", "w1", "w2"):
            assert found(shard, match(word)) == [row_id for row_id, text in rows.items() if word in text], cut_at
        shard.verify()
        shard.close()
