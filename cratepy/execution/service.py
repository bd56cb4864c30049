"""The job execution service: a compiled statement in, a Result out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from cratepy.clock import Clock
from cratepy.errors import CrateError
from cratepy.execution.local_view import LocalView
from cratepy.execution.results import BulkItem, Result
from cratepy.model.plan import CompiledStatement, StatementContext

if TYPE_CHECKING:
    from cratepy.cluster.service import ClusterService
    from cratepy.execution.engine.engine import Engine
    from cratepy.execution.system.tables import SystemTables
    from cratepy.storage.store import ShardStore

#: Compile the statement of a plan again, against the newest cluster state.
Recompile = Callable[[CompiledStatement, StatementContext], CompiledStatement]


class ExecutionService:
    """Runs the statements of one node's clients, and this node's part of other nodes' statements."""

    def __init__(
        self,
        *,
        cluster: ClusterService,
        store: ShardStore,
        engine: Engine,
        clock: Clock,
        system_tables: SystemTables,
        recompile: Recompile | None = None,
        spill_path: Path | None = None,
    ) -> None:
        raise NotImplementedError

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        raise NotImplementedError

    async def execute(
        self, compiled: CompiledStatement, context: StatementContext, *, timeout_s: float | None
    ) -> Result:
        raise NotImplementedError

    async def execute_bulk(
        self,
        compiled: CompiledStatement,
        context: StatementContext,
        parameter_rows: Sequence[Sequence[Any]],
        *,
        timeout_s: float | None,
    ) -> list[BulkItem]:
        raise NotImplementedError

    def cancel(self, job_id: str, reason: CrateError | None = None) -> bool:
        raise NotImplementedError

    def local_view(self) -> LocalView:
        raise NotImplementedError
