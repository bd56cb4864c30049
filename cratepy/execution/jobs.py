"""The statements this node is the handler of, and the phases that run on it.

In: statements that start and end, reasons to stop them. Out: the rows of sys.jobs, sys.operations and their logs, and
cancelled scopes. A **job** is one statement on its handler; a KILL, a cancel request, ``statement_timeout``, a client
that went away and an error all end in :meth:`Job.stop`, which cancels every scope the job has opened: there is no other
way to stop work. The first reason wins. An **operation** is one phase on one node. Semantics: CrateDB's ``JobsLogs`` and
``KILL`` docs. It knows nothing of plans and queries (see ``queries``, ``phases``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

import trio

from cratepy import limits
from cratepy.clock import Clock
from cratepy.errors import CrateError, JobKilled, StatementTimeout, TooManyRequests
from cratepy.execution.local_view import JobEntry, JobLogEntry, OperationEntry, OperationLogEntry
from cratepy.model.plan import StatementContext

SUPERUSER = "crate"
_NEVER: Final = float("inf")


class Cancellable(Protocol):
    """Work of a job that can be stopped: a trio.CancelScope, or a row that waits for the disk."""

    def cancel(self) -> None: ...


class Job:
    """One running statement. Its work happens inside :meth:`scope`, in as many scopes as it needs."""

    __slots__ = (
        "_deadline",
        "_runs",
        "_scopes",
        "_timeout_s",
        "classification",
        "context",
        "error",
        "has_read",
        "is_finished",
        "is_stopped",
        "started",
        "started_ms",
    )

    def __init__(
        self,
        context: StatementContext,
        *,
        classification: str,
        timeout_s: float | None,
        started: float,
        started_ms: int,
    ) -> None:
        self.context = context
        self.classification = classification
        self.started = started
        self.started_ms = started_ms
        self.error: CrateError | None = None
        self.is_stopped = False
        self.is_finished = False
        #: A query of this statement has given rows: it cannot be repeated as a whole any more.
        self.has_read = False
        self._timeout_s = timeout_s
        self._deadline = _NEVER if timeout_s is None else trio.current_time() + timeout_s
        self._scopes: list[Cancellable] = []
        self._runs = 0

    @property
    def entry(self) -> JobEntry:
        """What is told of it; made when it is asked for."""
        context = self.context
        return JobEntry(
            id=context.job_id,
            username=context.user,
            statement=context.text,
            started_ms=self.started_ms,
            session_id=context.session_id,
            classification=self.classification,
        )

    def next_run_id(self) -> str:
        """A name for the next query this statement runs; unique in the cluster."""
        number = self._runs
        self._runs = number + 1
        return f"{self.context.job_id}/{number}"

    @contextlib.contextmanager
    def scope(self) -> Iterator[trio.CancelScope]:
        """Work of this job: cancelled when the job is stopped or its time is over; then raises the reason."""
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._scopes.append(scope)
            if self.is_stopped:
                scope.cancel()
            try:
                yield scope
            finally:
                self._scopes.remove(scope)
        if scope.cancelled_caught:
            raise self.stopped_error()

    def add(self, work: Cancellable) -> None:
        """Work that is not done in a :meth:`scope`; ``cancel`` is called if the job is stopped, once or more."""
        self._scopes.append(work)

    def stop(self, error: CrateError | None) -> None:
        """Stop all work of the job at its next await. None is for a client that does not want more rows."""
        if not self.is_stopped:
            self.is_stopped = True
            self.error = error
        for scope in tuple(self._scopes):
            scope.cancel()

    def stopped_error(self) -> CrateError:
        """Why the job was stopped."""
        if self.error is not None:
            return self.error
        if not self.is_stopped and trio.current_time() >= self._deadline:
            assert self._timeout_s is not None
            return StatementTimeout(f"Job killed. statement_timeout ({_duration_text(self._timeout_s)})")
        return JobKilled("Job killed.")


class Operation:
    """One running phase; ``used_bytes`` is what it holds at most."""

    def __init__(self, entry: OperationEntry) -> None:
        self.entry = entry
        self.used_bytes = 0

    def uses(self, used_bytes: int) -> None:
        self.used_bytes = max(self.used_bytes, used_bytes)

    def snapshot(self) -> OperationEntry:
        return dataclasses.replace(self.entry, used_bytes=self.used_bytes)


#: An ended statement: id, user, text, session, classification, end in ms, error, duration in s, rows. A plain tuple, because
#: every read by key makes one and hardly any is ever looked at.
_Ended = tuple[str, str, str, int, str, int, str | None, float, int]


class _JobsLog:
    """The newest finished statements, bounded in number and in characters. Entries are built when they are asked for."""

    def __init__(self) -> None:
        self._rows: deque[_Ended] = deque()
        self._chars = 0

    def add(self, text: str, ended: _Ended) -> None:
        """``text`` is the statement's."""
        rows = self._rows
        rows.append(ended)
        self._chars += len(text)
        while len(rows) > limits.JOBS_LOG_MAX or (self._chars > limits.JOBS_LOG_CHARS_MAX and len(rows) > 1):
            self._chars -= len(rows.popleft()[2])

    def entries(self) -> tuple[JobLogEntry, ...]:
        return tuple(_log_entry(ended) for ended in self._rows.copy())


def _log_entry(ended: _Ended) -> JobLogEntry:
    job_id, username, statement, session_id, classification, ended_ms, error, took_s, rowcount = ended
    job = JobEntry(
        id=job_id,
        username=username,
        statement=statement,
        started_ms=ended_ms - round(took_s * 1000),
        session_id=session_id,
        classification=classification,
    )
    return JobLogEntry(job=job, ended_ms=ended_ms, error=error, duration_ms=took_s * 1000, rowcount=rowcount)


class JobRegistry:
    """What runs and what ran. Belongs to the trio thread; the four listings may be called from any."""

    def __init__(self, *, clock: Clock, jobs_max: int = limits.JOBS_MAX) -> None:
        self._clock = clock
        self._jobs_max = jobs_max
        self._jobs: dict[str, Job] = {}
        #: Grows with every statement that this node begins or notes.
        self.begun = 0
        self._operations: dict[str, Operation] = {}
        self._operation_numbers = itertools.count()
        self._jobs_log = _JobsLog()
        self._operations_log: deque[OperationLogEntry] = deque(maxlen=limits.OPERATIONS_LOG_MAX)

    @property
    def has_room(self) -> bool:
        """Whether :meth:`start` would register one more."""
        return len(self._jobs) < self._jobs_max

    def start(self, context: StatementContext, *, classification: str, timeout_s: float | None) -> Job:
        """Register the statement. Raises TooManyRequests."""
        assert context.job_id not in self._jobs, f"job {context.job_id} runs already"
        if len(self._jobs) >= self._jobs_max:
            raise TooManyRequests(f"too many statements are running on this node (limit {self._jobs_max})")
        clock = self._clock
        job = Job(
            context,
            classification=classification,
            timeout_s=timeout_s,
            started=clock.monotonic(),
            started_ms=clock.wall_ms(),
        )
        self._jobs[context.job_id] = job
        self.begun += 1
        return job

    def finish(self, job: Job, *, error: str | None, rowcount: int) -> None:
        """The statement has ended: out of sys.jobs, into the log. The first call counts."""
        if job.is_finished:
            return
        job.is_finished = True
        del self._jobs[job.context.job_id]
        self.note(job.context, classification=job.classification, started=job.started, error=error, rowcount=rowcount)

    def note(
        self, context: StatementContext, *, classification: str, started: float, error: str | None, rowcount: int
    ) -> None:
        """Into the log only: also for a statement that ran without being registered, because it never waited."""
        self.begun += 1
        clock, text = self._clock, context.text
        took_s, ended_ms = clock.monotonic() - started, clock.wall_ms()
        self._jobs_log.add(
            text,
            (context.job_id, context.user, text, context.session_id, classification, ended_ms, error, took_s, rowcount),
        )

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def cancel(self, job_id: str, reason: CrateError | None) -> bool:
        """Stop one job; False if there is no such job (any more)."""
        job = self._jobs.get(job_id)
        if job is None:
            return False
        job.stop(
            reason if reason is not None else JobKilled(f"Job killed. Cancellation requested by: {job.context.user}")
        )
        return True

    def kill(self, job_id: str | None, *, user: str, except_job_id: str) -> int:
        """KILL on this node: how many statements were stopped. All but the superuser stop only their own."""
        killed = 0
        for job in list(self._jobs.values()):
            own_id = job.context.job_id
            wanted = job_id is None or own_id == job_id
            allowed = user in (SUPERUSER, job.context.user)
            if wanted and allowed and own_id != except_job_id and not job.is_stopped:
                words = "KILL ALL" if job_id is None else "KILL"
                job.stop(JobKilled(f"Job killed. {words} invoked by user: {user}"))
                killed += 1
        return killed

    @contextlib.contextmanager
    def operation(self, job_id: str, name: str) -> Iterator[Operation]:
        """A phase that runs here, for as long as the block."""
        entry = OperationEntry(
            id=str(next(self._operation_numbers)),
            job_id=job_id,
            name=name,
            started_ms=self._clock.wall_ms(),
            used_bytes=0,
        )
        operation = Operation(entry)
        self._operations[entry.id] = operation
        error: str | None = None
        try:
            yield operation
        except BaseException as raised:
            error = raised.message if isinstance(raised, CrateError) else type(raised).__name__
            raise
        finally:
            del self._operations[entry.id]
            ended_ms = self._clock.wall_ms()
            self._operations_log.append(
                OperationLogEntry(operation=operation.snapshot(), ended_ms=ended_ms, error=error)
            )

    def jobs(self) -> tuple[JobEntry, ...]:
        return tuple(job.entry for job in self._jobs.copy().values())

    def jobs_log(self) -> tuple[JobLogEntry, ...]:
        return self._jobs_log.entries()

    def operations(self) -> tuple[OperationEntry, ...]:
        return tuple(operation.snapshot() for operation in self._operations.copy().values())

    def operations_log(self) -> tuple[OperationLogEntry, ...]:
        return tuple(self._operations_log.copy())


def _duration_text(seconds: float) -> str:
    if seconds >= 1 and seconds == int(seconds):
        return f"{int(seconds)}s"
    return f"{round(seconds * 1000)}ms"
