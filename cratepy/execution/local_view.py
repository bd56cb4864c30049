"""What a node knows about itself: the material of the sys tables, frozen or read on demand.

In: the job registry, the shard store and the cluster state of this node. Out: :class:`LocalView`, which
``SystemTables.batch`` turns into rows of sys.jobs, sys.operations, sys.shards, sys.nodes and their kin. It is its own
room so that the rows of system tables and the machinery of jobs do not import each other. What costs something to
gather (logs of 10,000 entries, statistics of a thousand shards) is a callable: a table asks only for what it shows. All
callables may be called on any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cratepy.model.state import ClusterState, NodeInfo
from cratepy.records import dataclass

if TYPE_CHECKING:
    from cratepy.storage.shard import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEntry:
    """A statement that runs on this node as its handler. ``classification`` is CrateDB's: SELECT, INSERT, DDL, …"""

    id: str
    username: str
    statement: str
    started_ms: int
    session_id: int
    classification: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLogEntry:
    """A statement that has ended; ``error`` is None if it succeeded (or its client stopped reading)."""

    job: JobEntry
    ended_ms: int
    error: str | None
    #: Time it took on the monotonic clock.
    duration_ms: float
    #: Rows returned or affected; negative if unknown.
    rowcount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEntry:
    """A phase that runs on this node. ``id`` is unique on the node; ``name`` is collect, merge, join, …"""

    id: str
    job_id: str
    name: str
    started_ms: int
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationLogEntry:
    operation: OperationEntry
    ended_ms: int
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorEntry:
    """A cursor that a session has declared; ``statement`` is the DECLARE as it was written."""

    name: str
    statement: str
    created_ms: int
    is_holdable: bool
    is_scrollable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEntry:
    """A client's session on this node, as the server tells it."""

    id: int
    username: str
    protocol: str
    client_address: str
    started_ms: int
    last_statement: str
    is_ssl: bool
    last_job_id: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    cursors: tuple[CursorEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a COPY FROM is."""

    bytes_done: int
    bytes_total: int
    rows: int


def no_progress(job_id: str) -> JobProgress | None:
    """For jobs that do not tell, which are most."""
    return None


def no_entries() -> tuple[()]:
    """For what nobody keeps here (tests, tools, a node without a server)."""
    return ()


def no_problem() -> None:
    """For views of nothing that could be wrong."""


def none() -> int:
    """For views of nothing that could be counted."""
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalView:
    """One node's view of itself at the moment a statement reads it."""

    node_id: str
    state: ClusterState
    jobs: Callable[[], Sequence[JobEntry]]
    jobs_log: Callable[[], Sequence[JobLogEntry]]
    operations: Callable[[], Sequence[OperationEntry]]
    operations_log: Callable[[], Sequence[OperationLogEntry]]
    #: The open shards of this node; ``shard.stats()`` gives their figures, ``state`` their routing.
    shards: Callable[[], Sequence[Shard]]
    sessions: Callable[[], Sequence[SessionEntry]] = no_entries
    #: Where the node's shards are, for figures of that disk.
    data_path: str = "/"
    #: Job id → progress, for statements that tell.
    progress: Callable[[str], JobProgress | None] = no_progress
    #: What is wrong with the node's disk.
    disk_problem: Callable[[], str | None] = no_problem
    #: Uuids of tables with files here that the cluster state does not have.
    dangling_tables: Callable[[], Sequence[str]] = no_entries
    #: Changes of the cluster state that wait in this node's queue, as master.
    pending_changes: Callable[[], int] = none
    #: Space that the disk keeps for further cluster states.
    state_reserve_bytes: Callable[[], int] = none
    #: No other node is asked by this statement.
    speaks_for_all: bool = False

    @property
    def node(self) -> NodeInfo | None:
        """This node in the cluster state; None before it has joined."""
        return self.state.nodes.get(self.node_id)
