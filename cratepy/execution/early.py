"""Copies of new tables that are opened while the cluster state that makes the table is not committed yet.

In: tables of states that this node has been sent and writes down just now, and the outcomes of opening their copies. Out: what to open,
and in the end whether the table came to be (then the outcomes count) or not (then its files go). Its own room because here
alone something is made for a table that nobody can see: making a copy's files durable takes as long as the publication
of the state, and now takes place meanwhile.

Only copies without any data are opened early. Whether a table came to be is known as soon as a state of the same version
or a later one is applied: committed states are one line, so either it has the table or none before it had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field

from cratepy.model.schema import TableDefinition
from cratepy.model.state import TableState
from cratepy.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A copy that the state puts on this node."""

    table_uuid: str
    shard: int
    allocation_id: str
    primary_term: int
    must_exist: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of an attempt to open a copy: with which definition (None: it is not wanted any more), and why it failed if it did."""

    definition: TableDefinition | None
    failure: str | None = None


def assignments(table: TableState, node_id: str) -> list[Assignment]:
    """The copies of a table that this node has to open, in the order of shards."""
    return [
        Assignment(
            table_uuid=table.definition.uuid,
            shard=routing.shard,
            allocation_id=copy.allocation_id,
            primary_term=routing.primary_term,
            must_exist=copy.allocation_id in routing.in_sync,
        )
        for routing in table.routing
        for copy in routing.copies
        if copy.node_id == node_id and copy.state == "initializing"
    ]


@dataclass(slots=True)
class _Early:
    """A table that may come to be."""

    definition: TableDefinition
    version: int
    wanted: int
    outcomes: list[tuple[Assignment, Outcome]] = field(default_factory=list)


class EarlyCopies:
    """See the module. On the event loop, but for ``definition``."""

    def __init__(self) -> None:
        self._tables: dict[str, _Early] = {}
        #: Tables that did not come to be, until their files are gone.
        self._going: set[str] = set()

    def __contains__(self, table_uuid: str) -> bool:
        """Whether nobody else may open or remove copies of the table."""
        return table_uuid in self._tables or table_uuid in self._going

    def definition(self, table_uuid: str) -> TableDefinition | None:
        """Any thread."""
        early = self._tables.get(table_uuid)
        return None if early is None else early.definition

    def announce(self, table: TableState, version: int, node_id: str) -> list[Assignment]:
        """What to open of a table that the state of this version makes."""
        uuid = table.definition.uuid
        wanted = assignments(table, node_id)
        if uuid in self or not wanted or any(assignment.must_exist for assignment in wanted):
            return []
        self._tables[uuid] = _Early(table.definition, version, len(wanted))
        return wanted

    def keep(self, assignment: Assignment, outcome: Outcome) -> bool:
        """Take the outcome of an early copy; False if it is none."""
        early = self._tables.get(assignment.table_uuid)
        if early is None:
            return False
        early.outcomes.append((assignment, outcome))
        return True

    def came(self, version: int, tables: Mapping[str, object]) -> list[tuple[Assignment, Outcome]]:
        """The outcomes of tables that came to be. ``version`` and ``tables`` of the state that is visible."""
        return [
            opened
            for uuid in self._settled(version, lambda uuid: uuid in tables)
            for opened in self._tables.pop(uuid).outcomes
        ]

    def went(self, version: int, tables: Mapping[str, object]) -> list[tuple[str, list[Assignment]]]:
        """Tables that did not come to be, and what was opened; they are kept from others until ``forget``."""
        gone = self._settled(version, lambda uuid: uuid not in tables)
        self._going.update(gone)
        return [(uuid, [assignment for assignment, _ in self._tables.pop(uuid).outcomes]) for uuid in gone]

    def forget(self, table_uuid: str) -> None:
        """Its files are gone."""
        self._going.discard(table_uuid)

    def _settled(self, version: int, is_such: Callable[[str], bool]) -> list[str]:
        return [
            uuid
            for uuid, early in self._tables.items()
            if len(early.outcomes) == early.wanted and is_such(uuid) and (version >= early.version)
        ]
