"""The registry of running statements: bounds, who may stop whom, what is told afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from cratepy.clock import FakeClock
from cratepy.errors import CrateError, InternalError, JobKilled, StatementTimeout, TooManyRequests
from cratepy.execution.jobs import Job, JobRegistry
from cratepy.execution.pending import PendingWrite
from tests.execution.fakes import statement


def run(test: Callable[[JobRegistry], Awaitable[None]], *, jobs_max: int = 10) -> None:
    trio.run(test, JobRegistry(clock=FakeClock(), jobs_max=jobs_max))


def start(jobs: JobRegistry, *, user: str = "crate", timeout_s: float | None = None) -> Job:
    context = statement("n1")
    context = type(context)(
        **{name: getattr(context, name) for name in context.__struct_fields__} | {"user": user, "text": "select 2"}
    )
    return jobs.start(context, classification="SELECT", timeout_s=timeout_s)


def test_a_running_statement_is_listed_and_then_logged() -> None:
    async def test(jobs: JobRegistry) -> None:
        job = start(jobs)
        assert [(e.username, e.statement, e.session_id) for e in jobs.jobs()] == [("crate", "select 2", 7)]
        jobs.finish(job, error=None, rowcount=3)
        jobs.finish(job, error="too late", rowcount=0)
        assert jobs.jobs() == ()
        assert [(e.job.statement, e.error, e.rowcount) for e in jobs.jobs_log()] == [("select 2", None, 3)]

    run(test)


def test_one_statement_too_many_is_refused() -> None:
    async def test(jobs: JobRegistry) -> None:
        start(jobs)
        with pytest.raises(TooManyRequests, match="limit 1"):
            start(jobs)

    run(test, jobs_max=1)


def test_the_first_reason_to_stop_wins() -> None:
    async def test(jobs: JobRegistry) -> None:
        job = start(jobs)
        job.stop(JobKilled("first"))
        job.stop(JobKilled("second"))
        with pytest.raises(JobKilled, match="first"), job.scope():
            await trio.sleep_forever()

    run(test)


def test_work_begun_after_the_stop_is_cancelled_at_once() -> None:
    async def test(jobs: JobRegistry) -> None:
        job = start(jobs)
        job.stop(JobKilled("gone"))
        with pytest.raises(JobKilled, match="gone"), job.scope():
            await trio.lowlevel.checkpoint()

    run(test)


def test_all_scopes_of_a_job_share_its_deadline() -> None:
    async def test(jobs: JobRegistry) -> None:
        job = start(jobs, timeout_s=0.01)
        for _ in range(2):
            with pytest.raises(StatementTimeout, match=r"statement_timeout \(10ms\)"), job.scope():
                await trio.sleep_forever()

    run(test)


def test_cancelling_the_caller_is_not_the_jobs_error() -> None:
    async def test(jobs: JobRegistry) -> None:
        job = start(jobs)
        with trio.CancelScope() as caller:
            caller.cancel()
            with job.scope():
                await trio.sleep_forever()
        assert caller.cancelled_caught
        assert job.error is None

    run(test)


def test_kill_all_spares_itself_and_what_others_own() -> None:
    async def test(jobs: JobRegistry) -> None:
        mine, other, itself = start(jobs, user="joe"), start(jobs, user="ann"), start(jobs, user="joe")
        assert jobs.kill(None, user="joe", except_job_id=itself.entry.id) == 1
        assert (mine.is_stopped, other.is_stopped, itself.is_stopped) == (True, False, False)
        assert jobs.kill(None, user="crate", except_job_id=itself.entry.id) == 1
        assert other.is_stopped
        assert jobs.kill("nosuch", user="crate", except_job_id="") == 0

    run(test)


def test_cancel_names_the_reason_and_says_if_there_was_a_job() -> None:
    async def test(jobs: JobRegistry) -> None:
        job = start(jobs)
        assert jobs.cancel(job.entry.id, JobKilled("user request"))
        assert str(job.stopped_error()) == "user request"
        assert not jobs.cancel("nosuch", None)

    run(test)


def test_an_operation_is_listed_with_what_it_uses_and_logged_with_its_error() -> None:
    async def test(jobs: JobRegistry) -> None:
        def work() -> None:
            with jobs.operation("job-1", "collect") as operation:
                operation.uses(100)
                operation.uses(50)
                assert [(o.job_id, o.name, o.used_bytes) for o in jobs.operations()] == [("job-1", "collect", 100)]
                raise JobKilled("stop")

        with pytest.raises(JobKilled):
            work()
        assert jobs.operations() == ()
        assert [(o.operation.used_bytes, o.error) for o in jobs.operations_log()] == [(100, "stop")]

    run(test)


def explained(job: Job, failure: BaseException) -> CrateError:
    return InternalError(f"{job.context.job_id}: {failure}")


def test_a_row_that_the_disk_will_never_have_tells_why() -> None:
    async def test(jobs: JobRegistry) -> None:
        told: list[int | CrateError] = []
        waiting = PendingWrite(start(jobs), jobs, 1, tell=told.append, explain=explained)
        waiting.arrive(OSError("gone"))
        (error,) = told
        assert isinstance(error, InternalError)
        assert [e.error for e in jobs.jobs_log()] == [error.message]
        assert error.message.endswith(": gone")

    run(test)


def test_a_row_that_waits_for_the_disk_tells_its_outcome_once() -> None:
    async def test(jobs: JobRegistry) -> None:
        told: list[int | CrateError] = []
        job = start(jobs)
        waiting = PendingWrite(job, jobs, 1, tell=told.append, explain=explained)
        waiting.arrive(None)
        waiting.cancel()
        assert told == [1]
        assert [(e.error, e.rowcount) for e in jobs.jobs_log()] == [(None, 1)]

    run(test)


def test_a_row_that_waits_for_the_disk_is_killed_at_once() -> None:
    async def test(jobs: JobRegistry) -> None:
        told: list[int | CrateError] = []
        waiting = PendingWrite(start(jobs), jobs, 1, tell=told.append, explain=explained)
        assert jobs.kill(None, user="crate", except_job_id="") == 1
        waiting.arrive(None)
        (error,) = told
        assert isinstance(error, JobKilled)
        assert jobs.jobs() == ()

    run(test)
