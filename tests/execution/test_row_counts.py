"""Row counts: what nodes tell each other, and when plans are worth making again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from cratepy.execution.row_counts import RowCounts, TellCounts


@dataclass
class FakeTransport:
    """Delivers notices at once to the transports it is linked to."""

    node_id: str
    peers: dict[str, FakeTransport] = field(default_factory=dict)
    handlers: dict[str, Callable[[str, Any], Any]] = field(default_factory=dict)
    connected: list[Callable[[str], None]] = field(default_factory=list)
    disconnected: list[Callable[[str], None]] = field(default_factory=list)
    sent: list[TellCounts] = field(default_factory=list)

    def register(self, action: str, request_type: type, handler: Callable[[str, Any], Any]) -> None:
        self.handlers[action] = handler

    def on_connect(self, callback: Callable[[str], None]) -> None:
        self.connected.append(callback)

    def on_disconnect(self, callback: Callable[[str], None]) -> None:
        self.disconnected.append(callback)

    def notify(self, node_id: str, action: str, request: TellCounts) -> bool:
        self.sent.append(request)
        self.peers[node_id].handlers[action](self.node_id, request)
        return True


class FakeNode:
    def __init__(self, node_id: str, *, shards: list[int], shards_of_table: int) -> None:
        self.shards = [
            SimpleNamespace(table_uuid="t", failure=None, is_closed=False, row_count=lambda n=n: n) for n in shards
        ]
        self.transport = FakeTransport(node_id)
        tables = {"t": SimpleNamespace(routing=(None,) * shards_of_table)}
        self.cluster: Any = SimpleNamespace(
            node_id=node_id, transport=self.transport, state=SimpleNamespace(tables=tables)
        )
        self.counts = RowCounts(cluster=self.cluster, store=SimpleNamespace(shards=lambda: self.shards))  # type: ignore[arg-type]

    def holds(self, *rows: int) -> None:
        self.shards[:] = [
            SimpleNamespace(table_uuid="t", failure=None, is_closed=False, row_count=lambda n=n: n) for n in rows
        ]


def _started(*nodes: FakeNode) -> None:
    for node in nodes:
        node.counts.start()
    for node in nodes:
        node.counts.count()


def _pair() -> tuple[FakeNode, FakeNode]:
    one = FakeNode("n1", shards=[100, 200], shards_of_table=4)
    two = FakeNode("n2", shards=[300, 400], shards_of_table=4)
    one.transport.peers["n2"], two.transport.peers["n1"] = two.transport, one.transport
    _started(one, two)
    for node, other in ((one, two), (two, one)):
        node.transport.connected[0](other.cluster.node_id)
        node.counts.count()
    return one, two


def test_a_node_alone_takes_other_shards_to_be_like_its_own() -> None:
    node = FakeNode("n1", shards=[100, 200], shards_of_table=4)
    _started(node)
    assert node.counts.rows["t"] == 600


def test_nodes_tell_each_other_when_they_connect() -> None:
    one, two = _pair()
    assert one.counts.rows["t"] == two.counts.rows["t"] == 1_000


def test_only_marked_changes_are_told() -> None:
    one, two = _pair()
    one.transport.sent.clear()
    one.holds(102, 203)
    one.counts.count()
    assert one.transport.sent == []
    one.holds(900, 200)
    one.counts.count()
    assert two.counts.rows["t"] == 1_800


def test_a_lost_node_counts_no_more_and_a_table_that_left_neither() -> None:
    one, two = _pair()
    two.holds()
    two.counts.count()
    assert one.counts.rows["t"] == 600
    one.transport.disconnected[0]("n2")
    assert one.counts.rows["t"] == 600


def test_plans_are_out_of_date_when_a_count_leaves_its_magnitude() -> None:
    one, _ = _pair()
    assert one.counts.rows["t"] == 1_000
    before = one.counts.version
    one.holds(700, 700)
    one.counts.count()
    assert one.counts.version == before
    one.holds(90_000, 90_000)
    one.counts.count()
    assert one.counts.version == before + 1


def test_plans_made_without_a_count_are_out_of_date_when_it_is_known() -> None:
    one = FakeNode("n1", shards=[], shards_of_table=4)
    _started(one)
    assert one.counts.rows.get("t") is None
    one.holds(5)
    one.counts.count()
    assert one.counts.version == 1
