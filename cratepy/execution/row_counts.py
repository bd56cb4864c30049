"""How many rows tables have, as far as this node has heard: what the planner's choice of broadcast or partition rests on.

In: the row counts of the open shards of every node. Out: a mapping (table uuid → rows) and ``version``, which grows when a
count has left its order of magnitude, so that plans made with the old one may be made again. Nodes tell each other: once
a second each sends the tables whose count has changed markedly, and everything to a node it has just connected to. A
count is a guess that decides where rows travel, never what is answered; it may be seconds old, or missing.

A node reports (rows, shards) of the copies it holds; the total is scaled to all shards of the table, so that replicas count
once and a node that has not reported yet is taken to be like the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

if TYPE_CHECKING:
    from cratepy.cluster.service import ClusterService
    from cratepy.storage.store import ShardStore

COUNTS: Final = "rows/counts"
_INTERVAL_S: Final = 1.0
#: A count is told again when it has changed by more than this share of itself …
_TOLD_CHANGE: Final = 0.1
#: … and plans are made again when it is that many times more or less than the one they were made with.
_MAGNITUDE: Final = 4
#: Differences among so few rows change no plan.
_FEW_ROWS: Final = 1_000

#: table uuid → (rows, shards they are in)
Counts = dict[str, tuple[int, int]]


class TellCounts(msgspec.Struct, frozen=True):
    """The sender's copies. ``is_whole`` replaces all it said before; shards = 0: it holds none of the table any more."""

    counts: Counts
    is_whole: bool


class _Looked(Mapping[str, int]):
    """Totals computed when they are looked up: a statement asks for few of many tables."""

    def __init__(self, total: Callable[[str], int | None], told: Mapping[str, Counts]) -> None:
        self._total = total
        self._told = told

    def __getitem__(self, table_uuid: str) -> int:
        rows = self._total(table_uuid)
        if rows is None:
            raise KeyError(table_uuid)
        return rows

    def __iter__(self) -> Iterator[str]:
        return iter({uuid for counts in list(self._told.values()) for uuid in counts})

    def __len__(self) -> int:
        return sum(1 for _ in self)


class RowCounts:
    """The counts of one node. Read by any thread (statements are compiled on several), changed on the event loop only."""

    def __init__(self, *, cluster: ClusterService, store: ShardStore) -> None:
        self._cluster = cluster
        self._store = store
        self._told: dict[str, Counts] = {}
        self._sent: Counts = {}
        self._unheard: set[str] = set()
        #: What plans were made with; None: the count was not known.
        self._planned: dict[str, int | None] = {}
        #: Grows whenever a count differs from what plans were made with by an order of magnitude.
        self.version = 0
        #: Rows by table uuid; what is looked up here is watched for changes of ``version``.
        self.rows: Mapping[str, int] = _Looked(self._looked_up, self._told)

    def _looked_up(self, table_uuid: str) -> int | None:
        rows = self._total(table_uuid)
        self._planned.setdefault(table_uuid, rows)
        return rows

    def _total(self, table_uuid: str) -> int | None:
        table = self._cluster.state.tables.get(table_uuid)
        parts = [counts[table_uuid] for counts in list(self._told.values()) if table_uuid in counts]
        shards = sum(part[1] for part in parts)
        if table is None or not shards:
            return None
        return sum(part[0] for part in parts) * len(table.routing) // shards

    # --- talking -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen to the other nodes."""
        transport = self._cluster.transport
        transport.register(COUNTS, TellCounts, self._on_counts)
        transport.on_connect(self._unheard.add)
        transport.on_disconnect(self._forget)

    async def run(self) -> None:
        """Count and tell, until cancelled."""
        self.start()
        while True:
            self.count()
            await trio.sleep(_INTERVAL_S)

    def count(self) -> None:
        """Count once, and tell."""
        self._tell()
        self._notice_changes()

    def _forget(self, node_id: str) -> None:
        self._told.pop(node_id, None)

    def _tell(self) -> None:
        counted = self._counted()
        self._told[self._cluster.node_id] = counted
        changed = {uuid: now for uuid, now in counted.items() if _is_news(self._sent.get(uuid), now)}
        changed |= {uuid: (0, 0) for uuid in self._sent if uuid not in counted}
        self._sent = {uuid: changed.get(uuid, self._sent.get(uuid, now)) for uuid, now in counted.items()}
        transport = self._cluster.transport
        for node_id in transport.peers:
            if node_id in self._unheard:
                if transport.notify(node_id, COUNTS, TellCounts(self._sent, is_whole=True)):
                    self._unheard.discard(node_id)
            elif changed and not transport.notify(node_id, COUNTS, TellCounts(changed, is_whole=False)):
                self._unheard.add(node_id)

    def _counted(self) -> Counts:
        counts: Counts = {}
        for shard in self._store.shards():
            if shard.failure is None and not shard.is_closed:
                rows, shards = counts.get(shard.table_uuid, (0, 0))
                counts[shard.table_uuid] = (rows + shard.row_count(), shards + 1)
        return counts

    def _on_counts(self, source: str, request: TellCounts) -> Any:
        known = {} if request.is_whole else self._told.get(source, {})
        told = {**known, **request.counts}
        self._told[source] = {uuid: count for uuid, count in told.items() if count[1]}

    def _notice_changes(self) -> None:
        for uuid, planned in self._planned.copy().items():
            now = self._total(uuid)
            if now is not None and _is_other_size(planned, now):
                self._planned.clear()
                self.version += 1
                return
            if uuid not in self._cluster.state.tables:
                del self._planned[uuid]


def _is_news(sent: tuple[int, int] | None, now: tuple[int, int]) -> bool:
    return sent is None or sent[1] != now[1] or abs(sent[0] - now[0]) > _TOLD_CHANGE * sent[0]


def _is_other_size(planned: int | None, now: int) -> bool:
    return planned is None or max(now, planned) > max(_FEW_ROWS, _MAGNITUDE * min(now, planned))
