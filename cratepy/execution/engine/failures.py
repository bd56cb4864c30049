"""DataFusion's and Arrow's error texts as errors of the taxonomy; their own words never reach a client.

In: an exception of the engine and the error a kernel noted before it (kernels raise CrateErrors, which lose their class
on the way through the engine). Out: a CrateError. What is not recognised is a bug: it is logged whole and told as an
internal error.
"""

from __future__ import annotations

import logging
import re
from typing import Final

from cratepy import limits
from cratepy.errors import (
    CardinalityViolation,
    CircuitBreaking,
    CrateError,
    InternalError,
    JobKilled,
    RowDivisionByZero,
    RowOverflow,
    SQLParseError,
    UnsupportedFeature,
)
from cratepy.execution.engine.kernels import BatchTooLarge

_log = logging.getLogger(__name__)

_PATTERNS: Final[tuple[tuple[re.Pattern[str], type[CrateError], str], ...]] = (
    (re.compile("Divide by zero"), RowDivisionByZero, "/ by zero"),
    (re.compile("to type Int32"), RowOverflow, "integer overflow"),
    (
        re.compile("Arithmetic ?[oO]verflow|Overflow happened|out of range Int64|to type Int64"),
        RowOverflow,
        "long overflow",
    ),
    (
        re.compile("too large to store in a Decimal|is too small to store|Decimal.*overflow", re.I),
        RowOverflow,
        "numeric overflow",
    ),
    (re.compile("[oO]verflow"), RowOverflow, "long overflow"),
    (re.compile("negative (substring length|count)"), SQLParseError, "negative substring length not allowed"),
    (
        re.compile("only support Literal types for field at idx: \\d+ in Window Function"),
        UnsupportedFeature,
        "Arguments of this window function must be constants",
    ),
    (re.compile("more than one row"), CardinalityViolation, "Subquery returned more than 1 row when it shouldn't."),
)
_EXHAUSTED: Final = re.compile(
    "Resources exhausted|Failed to allocate|Memory Exhausted|MemoryError|malloc of size", re.I
)
#: Texts of one batch of the engine are less than 2 GB.
_BATCH_TOO_LARGE: Final = re.compile(f"{BatchTooLarge.__name__}|[oO]ffset ?[oO]verflow")


def is_exhausted(error: BaseException) -> bool:
    """Whether the engine ran out of the memory it may use."""
    return isinstance(error, MemoryError) or _EXHAUSTED.search(str(error)) is not None


def is_batch_too_large(error: BaseException) -> bool:
    """Whether a function made too much of one batch of rows."""
    return isinstance(error, BatchTooLarge) or _BATCH_TOO_LARGE.search(str(error)) is not None


def translated(error: BaseException, *, noted: CrateError | None, job_id: str, memory_bytes: int) -> CrateError:
    """The error to tell. ``noted`` is what a kernel raised, if one did."""
    if noted is not None:
        return noted
    if isinstance(error, CrateError):
        return error
    text = str(error)
    if is_batch_too_large(error):
        return CircuitBreaking(
            f"Allocating memory for job {job_id} failed: a function makes more than the limit of "
            f"{limits.KERNEL_BATCH_BYTES_MAX} bytes of a few rows"
        )
    if is_exhausted(error):
        return exhausted(job_id, memory_bytes)
    for pattern, kind, message in _PATTERNS:
        if pattern.search(text):
            return kind(message)
    _log.error("job %s: the engine failed: %s", job_id, text, exc_info=error)
    return InternalError(f"internal error in job {job_id}")


def killed(job_id: str) -> JobKilled:
    return JobKilled(f"Job killed. statement of job {job_id} was stopped")


def exhausted(job_id: str, memory_bytes: int) -> CircuitBreaking:
    return CircuitBreaking(
        f"Allocating memory for job {job_id} failed: the statement needs more than the limit of {memory_bytes} bytes "
        "(engine memory)"
    )
