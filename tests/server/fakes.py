"""A compiler and an execution service for tests of the protocols: a few texts they know, nothing behind them."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa
import trio

from cratepy.clock import SystemClock
from cratepy.errors import ColumnUnknown, CrateError, DuplicateKey, ParsingError, RelationUnknown
from cratepy.execution.pending import Tell
from cratepy.execution.results import BulkItem, Result
from cratepy.execution.small import is_constant_query
from cratepy.model.arrow import arrow_schema, to_arrow
from cratepy.model.expressions import Literal
from cratepy.model.names import RelationName
from cratepy.model.plan import (
    ClosePlan,
    CompiledStatement,
    CountPlan,
    DeallocatePlan,
    DeclarePlan,
    FetchPlan,
    GetPlan,
    InsertPlan,
    NoOperationPlan,
    Plan,
    ResetPlan,
    SetPlan,
    ShowPlan,
    StatementContext,
    TransactionPlan,
)
from cratepy.model.relations import OutputColumn
from cratepy.model.state import ClusterState
from cratepy.model.types import BIGINT, INTEGER, TEXT, DataType
from cratepy.server.compiling import Compiler
from cratepy.server.session import SessionServices

TABLE = RelationName("doc", "t")


def columns_of(*columns: tuple[str, DataType]) -> tuple[OutputColumn, ...]:
    return tuple(OutputColumn(i, name, data_type) for i, (name, data_type) in enumerate(columns))


def get_plan(columns: tuple[OutputColumn, ...]) -> GetPlan:
    return GetPlan(table_uuid="u", table=TABLE, keys=(), sources=(), columns=columns)


INSERT = InsertPlan(table_uuid="u", table=TABLE, targets=("a",), rows=())


class FakeCluster:
    node_id = "n1"

    def __init__(self) -> None:
        self.state = ClusterState(version=1)
        self.is_joined = True


Run = Callable[[StatementContext], Result]


class Fakes:
    """``know`` teaches a text; ``contexts`` and ``bulks`` are what was run."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.known: dict[str, tuple[Plan, tuple[OutputColumn, ...] | None, tuple[DataType, ...], str]] = {}
        self.runs: dict[str, Run] = {}
        self.contexts: list[StatementContext] = []
        self.bulks: list[list[Any]] = []
        self.compiled: list[str] = []
        self.cancelled: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.events: dict[str, trio.Event] = {}
        self.is_blocked = trio.Event()
        self._reasons: dict[str, CrateError] = {}
        self.bulk_error_at: dict[int, CrateError] = {}
        #: Whether single inserts are begun without waiting; then ``disk`` has those that were not told yet while it is held.
        self.begins_inserts = False
        self.is_disk_held = False
        self.disk: list[Callable[[CrateError | None], None]] = []
        self.know("select 1 as a", columns_of(("a", INTEGER)), rows=[(1,)])
        self.know("select $1::int + 1 as a", columns_of(("a", INTEGER)), parameters=(INTEGER,), run=_plus_one)
        self.know("select $1 as x", columns_of(("x", TEXT)), parameters=(TEXT,), run=_echo)
        self.know_write("insert into t values ($1, $2)", (INTEGER, TEXT))

    def know(
        self,
        text: str,
        columns: tuple[OutputColumn, ...],
        *,
        rows: Sequence[tuple[Any, ...]] = (),
        parameters: tuple[DataType, ...] = (),
        run: Run | None = None,
    ) -> None:
        self.known[text] = (get_plan(columns), columns, parameters, "SELECT")
        self.runs[text] = run or (lambda context: Result(columns=columns, rows=list(rows)))

    def know_write(self, text: str, parameters: tuple[DataType, ...], *, error: CrateError | None = None) -> None:
        self.known[text] = (INSERT, None, parameters, "INSERT 0")

        def run(context: StatementContext) -> Result:
            if error is not None:
                raise error
            return Result(rowcount=1)

        self.runs[text] = run

    def services(self) -> SessionServices:
        clock = SystemClock()
        compiler = Compiler(
            self.compile, cluster=self.cluster, fold=lambda e: list(e), clock=clock, check_syntax=_check_syntax
        )
        return SessionServices(clock=clock, cluster=self.cluster, execution=self, compiler=compiler)

    # --- sql.compiler ---

    def compile(self, text: str, *, parameter_types: Sequence[DataType | None], **_: Any) -> list[CompiledStatement]:
        self.compiled.append(text)
        text = text.strip().rstrip(";").strip()
        found = self.known.get(text) or _session_statement(text)
        if found is None:
            _check_syntax(text)
            if "nosuch" in text:
                raise ColumnUnknown("Column nosuch unknown")
            raise RelationUnknown(f"Relation '{text}' unknown")
        plan, columns, parameters, tag = found
        return [
            CompiledStatement(
                text=text,
                plan=plan,
                columns=columns,
                parameter_types=parameters,
                tag=tag,
                state_version=self.cluster.state.version,
            )
        ]

    # --- execution.service ---

    def may_answer_at_once(self, plan: Plan) -> bool:
        return type(plan) is GetPlan or is_constant_query(plan)

    def get_nowait(self, compiled: CompiledStatement, context: StatementContext) -> Result | None:
        if compiled.text not in self.runs:
            return None  # as if a shard were on another node
        self.contexts.append(context)
        result = self.runs[compiled.text](context)
        return None if result.rows is None else result

    def write_nowait(self, compiled: CompiledStatement, context: StatementContext, tell: Tell) -> bool:
        if not self.begins_inserts:
            return False
        self.contexts.append(context)
        rowcount = self.runs[compiled.text](context).rowcount
        self.disk.append(lambda error: tell(rowcount if error is None else error))
        if not self.is_disk_held:
            trio.lowlevel.current_trio_token().run_sync_soon(self.let_disk_go)
        return True

    def let_disk_go(self, error: CrateError | None = None) -> None:
        """The outcome of all inserts that wait."""
        waiting, self.disk = self.disk, []
        for end in waiting:
            end(error)

    async def execute(
        self, compiled: CompiledStatement, context: StatementContext, *, timeout_s: float | None
    ) -> Result:
        self.contexts.append(context)
        if compiled.text == "block":
            event = self.events[context.job_id] = trio.Event()
            self.is_blocked.set()
            try:
                await event.wait()
            except trio.Cancelled:
                self.cancelled.append(context.job_id)
                raise
            raise self._reasons[context.job_id]
        text = (
            compiled.text.lower().rpartition(" for ")[2]
            if compiled.text.lower().startswith("declare")
            else compiled.text
        )
        return self.runs[text](context)

    async def execute_bulk(
        self,
        compiled: CompiledStatement,
        context: StatementContext,
        parameter_rows: Sequence[Sequence[Any]],
        *,
        timeout_s: float | None,
    ) -> list[BulkItem]:
        self.bulks.append(list(parameter_rows))
        items = [BulkItem(1)] * len(parameter_rows)
        for position, error in self.bulk_error_at.items():
            items[position] = BulkItem(0, error)
        return items

    def note_refused(self, context: StatementContext, error: CrateError) -> None:
        self.refused.append((context.text, error.message))

    def cancel(self, job_id: str, reason: CrateError | None = None) -> bool:
        self.cancelled.append(job_id)
        if reason is not None:
            self._reasons[job_id] = reason
        event = self.events.get(job_id)
        if event is None:
            return False
        event.set()
        return True


def know_blocking(fakes: Fakes) -> None:
    """``block`` waits until it is cancelled."""
    fakes.know("block", columns_of(("a", INTEGER)))


def big_result(rows: int, batch_rows: int = 1000) -> Callable[[StatementContext], Result]:
    columns = columns_of(("a", BIGINT), ("b", TEXT))

    def run(context: StatementContext) -> Result:
        batches = [
            pa.record_batch(
                [
                    to_arrow(list(range(start, min(start + batch_rows, rows))), BIGINT),
                    to_arrow([f"text {i}" for i in range(start, min(start + batch_rows, rows))], TEXT),
                ],
                schema=arrow_schema(columns),
            )
            for start in range(0, rows, batch_rows)
        ]
        return Result(columns=columns, batches=batches)

    return run


def _plus_one(context: StatementContext) -> Result:
    value = context.parameters[0]
    return Result(columns=columns_of(("a", INTEGER)), rows=[(None if value is None else value + 1,)])


def _echo(context: StatementContext) -> Result:
    return Result(columns=columns_of(("x", TEXT)), rows=[(context.parameters[0],)])


def _check_syntax(text: str) -> None:
    at = text.find("selct")
    if at >= 0:
        raise ParsingError(f"line 1:{at + 1}: mismatched input 'selct'")


_PATTERNS: list[tuple[str, Callable[[re.Match[str]], tuple[Plan, str]]]] = [
    (r"begin.*|start transaction", lambda m: (TransactionPlan(action="begin"), "BEGIN")),
    (r"commit|end", lambda m: (TransactionPlan(action="commit"), "COMMIT")),
    (r"rollback", lambda m: (TransactionPlan(action="rollback"), "ROLLBACK")),
    (r'savepoint "?(\w+)"?', lambda m: (TransactionPlan(action="savepoint", name=m[1]), "SAVEPOINT")),
    (r'release savepoint "?(\w+)"?|release "?(\w+)"?', lambda m: (TransactionPlan(action="release"), "RELEASE")),
    (r'rollback to (?:savepoint )?"?(\w+)"?', lambda m: (TransactionPlan(action="rollback_to"), "ROLLBACK")),
    (r"set (\w+)\s*(?:=|to)\s*'?([^']*)'?", lambda m: (SetPlan(values=((m[1], Literal(m[2], TEXT)),)), "SET")),
    (r"reset all", lambda m: (ResetPlan(name=None), "RESET")),
    (r"reset (\w+)", lambda m: (ResetPlan(name=m[1]), "RESET")),
    (r"show all", lambda m: (ShowPlan(name=None), "SHOW")),
    (r"show (\w+)", lambda m: (ShowPlan(name=m[1]), "SHOW")),
    (r"deallocate all|discard all", lambda m: (DeallocatePlan(name=None, discards_session=m[0] == "discard all"), "DEALLOCATE")),
    (r'deallocate "?(\w+)"?', lambda m: (DeallocatePlan(name=m[1]), "DEALLOCATE")),
    (r"close all", lambda m: (ClosePlan(name=None), "CLOSE")),
    (r'close "?(\w+)"?', lambda m: (ClosePlan(name=m[1]), "CLOSE")),
    (r"unlisten \*|listen \w+|select pg_advisory_unlock_all\(\)", lambda m: (NoOperationPlan(), "LISTEN")),
    (r'fetch (?:(forward|backward) )?(\d+|all) from "?(\w+)"?', lambda m: (FetchPlan(name=m[3], direction=m[1] or "forward", count=None if m[2] == "all" else int(m[2])), "FETCH")),
    (r'fetch (next|prior|first|last) from "?(\w+)"?', lambda m: (FetchPlan(name=m[2], direction=m[1], count=None), "FETCH")),
    (r'fetch (absolute|relative) (-?\d+) from "?(\w+)"?', lambda m: (FetchPlan(name=m[3], direction=m[1], count=int(m[2])), "FETCH")),
    (r'declare "?(\w+)"? (scroll )?cursor (with hold )?for select 1 as a', lambda m: (DeclarePlan(name=m[1], query=get_plan(columns_of(("a", INTEGER))), is_scrollable=bool(m[2]), is_holdable=bool(m[3])), "DECLARE")),
]  # fmt: skip


def _session_statement(text: str) -> tuple[Plan, None, tuple[DataType, ...], str] | None:
    for pattern, make in _PATTERNS:
        match = re.fullmatch(pattern, text.lower())
        if match is not None:
            plan, tag = make(match)
            return plan, None, (), tag
    return None


DUPLICATE = DuplicateKey("A document with the same primary key exists already")
COUNT = CountPlan(table_uuid="u", table=TABLE, columns=columns_of(("count", BIGINT)))


@asynccontextmanager
async def serving(server: Any) -> AsyncIterator[int]:
    """The server on a port of its own; the port."""
    listener = socket.socket()
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    port = listener.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, [listener])
        yield port
        nursery.cancel_scope.cancel()
