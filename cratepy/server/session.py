"""One client's session, the same for every protocol: settings, transaction status, cursors, running statements.

In: compiled statements and parameter values. Out: Results. Plans that only touch the session (SET, SHOW, BEGIN, FETCH…)
are ``session_plans``; everything else goes to the execution service with a StatementContext. There are no transactions: BEGIN
and COMMIT keep the status that clients expect to see, and ROLLBACK warns if rows were written since BEGIN (CrateDB
refuses ROLLBACK, which breaks most PostgreSQL drivers). The parse cache is in ``compiling``, portals are PostgreSQL's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Final, Protocol

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import (
    CrateError,
    InFailedTransaction,
    JobKilled,
    SQLParseError,
)
from cratepy.execution.pending import Tell
from cratepy.execution.results import BulkItem, Result
from cratepy.functions.catalog import facts_for
from cratepy.model.expressions import Expression
from cratepy.model.plan import (
    CommandPlan,
    CompiledStatement,
    CopyFromPlan,
    DeletePlan,
    FetchPlan,
    InsertPlan,
    NoOperationPlan,
    Plan,
    ShowPlan,
    StatementContext,
    TransactionPlan,
    UpdatePlan,
)
from cratepy.model.relations import OutputColumn
from cratepy.model.schema import SettingValue
from cratepy.model.types import DataType
from cratepy.records import dataclass
from cratepy.server.compiling import ClusterView, Compiler
from cratepy.server.cursors import Cursor
from cratepy.server.session_plans import SESSION_PLANS, show_columns
from cratepy.server.session_settings import SessionSettings
from cratepy.server.sessions import SessionRegistry
from cratepy.server.splitting import split_statements
from cratepy.sql.session_view import SessionView

#: Plans of which executions with other parameters can be run as one bulk.
BULK_PLANS: Final = (InsertPlan, UpdatePlan, DeletePlan)
_WRITE_PLANS: Final = (InsertPlan, UpdatePlan, DeletePlan, CopyFromPlan, CommandPlan)
#: Settings that may change a plan; only these are shown to the compiler and part of the cache's key.
_PLANNING_SETTINGS: Final = frozenset({"error_on_unknown_object_key", "enable_hashjoin", "insert_select_fail_fast"})


class Execution(Protocol):
    """The part of ``execution.service.ExecutionService`` that sessions use."""

    async def execute(
        self, compiled: CompiledStatement, context: StatementContext, *, timeout_s: float | None
    ) -> Result: ...

    def may_answer_at_once(self, plan: Plan) -> bool: ...

    def get_nowait(self, compiled: CompiledStatement, context: StatementContext) -> Result | None: ...

    def write_nowait(self, compiled: CompiledStatement, context: StatementContext, tell: Tell) -> bool: ...

    async def execute_bulk(
        self,
        compiled: CompiledStatement,
        context: StatementContext,
        parameter_rows: Sequence[Sequence[Any]],
        *,
        timeout_s: float | None,
    ) -> list[BulkItem]: ...

    def cancel(self, job_id: str, reason: CrateError | None = None) -> bool: ...

    def note_refused(self, context: StatementContext, error: CrateError) -> None: ...


#: Values of expressions without columns (``execution.engine.constants.constant_values``).
ConstantValues = Callable[[Sequence[Expression], StatementContext], list[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionServices:
    """What sessions are given of their node."""

    clock: Clock
    cluster: ClusterView
    execution: Execution
    compiler: Compiler
    constant_values: ConstantValues | None = None
    sessions: SessionRegistry = field(default_factory=SessionRegistry)


class Session:
    """See the module. ``aborts_transactions``: an error inside BEGIN … COMMIT blocks until ROLLBACK (PostgreSQL)."""

    def __init__(
        self,
        services: SessionServices,
        *,
        user: str,
        aborts_transactions: bool,
        protocol: str = "psql",
        client_address: str = "",
    ) -> None:
        self.services = services
        self.user = user
        self.protocol = protocol
        self.client_address = client_address
        self.started_ms = services.clock.wall_ms()
        self.last_statement = ""
        self.last_job_id: str | None = None
        self.settings = SessionSettings()
        #: ``I`` idle, ``T`` in a transaction block, ``E`` in a failed one.
        self.transaction_status = "I"
        self.cursors: dict[str, Cursor] = {}
        #: The job of the statement that runs, for cancel requests.
        self.running_job_id: str | None = None
        self._aborts_transactions = aborts_transactions
        #: Rows were written since BEGIN.
        self.has_written = False
        #: Who holds prepared statements; called with a name, or None for all.
        self.deallocate: Callable[[str | None], bool] = lambda name: False
        self._derived_version = -1
        self._view = SessionView(user=user)
        self._view_key: tuple[Any, ...] = ()
        self._context_settings: dict[str, SettingValue] = {}
        self.id = services.sessions.add(self)

    def on_deallocate(self, deallocate: Callable[[str | None], bool]) -> None:
        """Say who holds prepared statements; called with a name or None for all."""
        self.deallocate = deallocate

    # --- compiling ---------------------------------------------------------------------------------------------------

    def _derive(self) -> None:
        if self._derived_version != self.settings.version:
            changed = self.settings.changed_values
            planning: dict[str, SettingValue] = {
                name: value
                for name, value in changed.items()
                if name in _PLANNING_SETTINGS or name.startswith("optimizer_")
            }
            self._view = SessionView(user=self.user, search_path=self.settings.search_path, settings=planning)
            self._view_key = (self.user, self.settings.search_path, tuple(sorted(planning.items())))
            self._context_settings = changed
            self._derived_version = self.settings.version

    @property
    def view_key(self) -> tuple[Any, ...]:
        """What a plan depends on in this session."""
        self._derive()
        return self._view_key

    async def compile(
        self,
        text: str,
        parameter_types: tuple[DataType | None, ...] = (),
        *,
        origin: tuple[str, int] | None = None,
    ) -> CompiledStatement:
        """One statement, from the node's cache or new."""
        self._derive()
        try:
            return await self.services.compiler.compile(
                text, parameter_types=parameter_types, view=self._view, view_key=self._view_key, origin=origin
            )
        except CrateError as error:
            self._note_refused(text, error)
            raise

    async def split(self, text: str) -> list[tuple[int, str]]:
        """The statements of a text with their offsets; several are checked for syntax before the first may run."""
        pieces = split_statements(text)
        if len(pieces) > 1:
            try:
                await self.services.compiler.check_syntax(text)
            except CrateError as error:
                self._note_refused(text, error)
                raise
        return pieces

    def _note_refused(self, text: str, error: CrateError) -> None:
        """A statement that never became a plan is in sys.jobs_log, too."""
        services = self.services
        context = StatementContext(
            job_id=services.clock.new_id(),
            session_id=self.id,
            handler_id=services.cluster.node_id,
            user=self.user,
            text=text[: limits.STATEMENT_CHARS_MAX],
            now_ms=services.clock.wall_ms(),
        )
        services.execution.note_refused(context, error)

    # --- running -----------------------------------------------------------------------------------------------------

    async def execute(self, compiled: CompiledStatement, parameters: Sequence[Any] = ()) -> Result:
        """Run one statement. The caller drains or closes the Result and calls :meth:`finish` when it is done with it."""
        plan_type = type(compiled.plan)
        if self.transaction_status == "E" and plan_type is not TransactionPlan:
            raise InFailedTransaction("current transaction is aborted, commands ignored until end of transaction block")
        handler = SESSION_PLANS.get(plan_type)
        if handler is not None:
            return await handler(self, compiled, parameters)
        context = self.context(compiled, parameters)
        result = await self.services.execution.execute(compiled, context, timeout_s=self.settings.statement_timeout_s)
        self._take_over(context, is_write=plan_type in _WRITE_PLANS)
        return result

    def get_nowait(self, compiled: CompiledStatement, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        """The rows of a GetPlan if they are all on this node, of constants or a short search, else None: then :meth:`execute` it.

        Raises CrateError.
        """
        assert self.transaction_status != "E"
        try:
            result = self.services.execution.get_nowait(compiled, self.context(compiled, parameters))
        finally:
            self.running_job_id = None
        return None if result is None else result.rows

    def write_nowait(self, compiled: CompiledStatement, parameters: Sequence[Any], tell: Tell) -> bool:
        """Insert one row without waiting; ``tell`` is called with the row count or the error once that is durable.

        False: nothing was done, :meth:`execute` it. The caller calls :meth:`finish` or :meth:`fail` when it was told. Raises CrateError.
        """
        assert self.transaction_status != "E"
        if self.settings.statement_timeout_s is not None:
            return False
        context = self.context(compiled, parameters)
        is_begun = False
        try:
            is_begun = self.services.execution.write_nowait(compiled, context, tell)
        finally:
            if not is_begun:
                self.running_job_id = None
        if is_begun:
            self._take_over(context, is_write=True)
        return is_begun

    def _take_over(self, context: StatementContext, *, is_write: bool) -> None:
        """What a statement that was run leaves in its session."""
        for name, value in context.written_settings.items():
            self.settings.set(name, value)
        if is_write and self.transaction_status != "I":
            self.has_written = True

    async def execute_bulk(
        self, compiled: CompiledStatement, parameter_rows: Sequence[Sequence[Any]]
    ) -> list[BulkItem]:
        """Run one INSERT, UPDATE or DELETE for many rows of parameters."""
        assert isinstance(compiled.plan, BULK_PLANS)
        if self.transaction_status == "E":
            raise InFailedTransaction("current transaction is aborted, commands ignored until end of transaction block")
        context = self.context(compiled, ())
        try:
            items = await self.services.execution.execute_bulk(
                compiled, context, parameter_rows, timeout_s=self.settings.statement_timeout_s
            )
        finally:
            self.finish()
        self.has_written = self.transaction_status != "I"
        return items

    def context(self, compiled: CompiledStatement, parameters: Sequence[Any]) -> StatementContext:
        """A new job's context; from now on a cancel request stops this job."""
        self._derive()
        services = self.services
        job_id = services.clock.new_id()
        self.running_job_id = self.last_job_id = job_id
        self.last_statement = compiled.text
        return StatementContext(
            job_id=job_id,
            session_id=self.id,
            handler_id=services.cluster.node_id,
            user=self.user,
            text=compiled.text,
            now_ms=services.clock.wall_ms(),
            parameters=tuple(parameters),
            parameter_types=compiled.parameter_types,
            search_path=self.settings.search_path,
            settings=self._context_settings,
            catalog=facts_for(services.cluster.state) if compiled.reads_catalog else None,
        )

    def finish(self) -> None:
        """The statement and its Result are done with."""
        self.running_job_id = None

    def fail(self) -> None:
        """A statement failed: inside a transaction block that block has failed."""
        self.running_job_id = None
        if self.transaction_status == "T" and self._aborts_transactions:
            self.transaction_status = "E"

    def cancel(self) -> bool:
        """Stop the statement that runs, at the wish of its client."""
        if self.running_job_id is None:
            return False
        return self.services.execution.cancel(self.running_job_id, JobKilled("canceling statement due to user request"))

    async def aclose(self) -> None:
        """End of the connection: nothing of the session goes on running."""
        if self.running_job_id is not None:
            self.services.execution.cancel(self.running_job_id, JobKilled("Job killed. client disconnected"))
            self.running_job_id = None
        self.services.sessions.remove(self.id)
        await self.close_cursors()

    def columns_of(self, compiled: CompiledStatement) -> tuple[OutputColumn, ...] | None:
        """The result columns, for Describe: a FETCH has those of its cursor."""
        plan = compiled.plan
        if isinstance(plan, FetchPlan) and not plan.is_move:
            cursor = self.cursors.get(plan.name)
            return cursor.columns if cursor is not None else compiled.columns
        if isinstance(plan, ShowPlan) and compiled.columns is None:
            return show_columns(plan)
        return compiled.columns

    async def close_cursors(self, *, holdable: bool = True) -> None:
        """Close all cursors, or all that end with their transaction."""
        for name in list(self.cursors):
            if holdable or not self.cursors[name].is_holdable:
                await self.cursors.pop(name).aclose()


def check_parameter_count(given: int, wanted: int) -> None:
    """A statement has a value for each of its parameters. Raises SQLParseError."""
    if wanted > given:
        raise SQLParseError(
            f"The query contains a parameter placeholder ${wanted}, but there are only {given} parameter values"
        )


def command_tag(compiled: CompiledStatement, result_rowcount: int, transaction_status: str) -> str:
    """The command tag with its count. ``transaction_status`` is the one before the statement ran.

    Transaction words stand alone, as in PostgreSQL; everything else is CrateDB's word and count. The count of DDL that
    has none is left out (CrateDB: ``ALTER -2``).
    """
    plan = compiled.plan
    tag = compiled.tag
    if isinstance(plan, TransactionPlan):
        return "ROLLBACK" if plan.action == "commit" and transaction_status == "E" else tag
    if isinstance(plan, NoOperationPlan) or result_rowcount < 0:
        return tag
    return f"{tag} {result_rowcount}"
