"""A row that is in its log and waits for the disk, without a task that waits.

In: a job, the outcome that holds once the disk has the row, and whom to tell. Out: one call, on the event loop, with the
outcome, the error of the disk, or the reason why the job was stopped. Its own room because a single-row insert that costs a task's turns
around its one fsync takes twice the time.
"""

from __future__ import annotations

from collections.abc import Callable

from cratepy.errors import CrateError
from cratepy.execution.jobs import Job, JobRegistry

#: Takes a row count, or the error.
Tell = Callable[[int | CrateError], None]


#: What the client is told about an exception of a job's.
Explain = Callable[[Job, BaseException], CrateError]


class PendingWrite:
    """Ends once: by :meth:`arrive`, or by :meth:`cancel` of its job (the row is written nevertheless)."""

    __slots__ = ("_explain", "_job", "_jobs", "_outcome", "_tell")

    def __init__(self, job: Job, jobs: JobRegistry, outcome: int | CrateError, *, tell: Tell, explain: Explain) -> None:
        self._job = job
        self._jobs = jobs
        self._outcome = outcome
        self._tell = tell
        self._explain = explain
        job.add(self)

    def arrive(self, failure: BaseException | None) -> None:
        """The disk has the row, or will never have it."""
        self._end(self._outcome if failure is None else self._explain(self._job, failure))

    def cancel(self) -> None:
        self._end(self._job.stopped_error())

    def _end(self, outcome: int | CrateError) -> None:
        job = self._job
        if job.is_finished:
            return
        if isinstance(outcome, CrateError):
            self._jobs.finish(job, error=outcome.message, rowcount=0)
        else:
            self._jobs.finish(job, error=None, rowcount=outcome)
        self._tell(outcome)
