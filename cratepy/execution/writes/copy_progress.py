"""How far a COPY FROM is, and what it will tell at its end.

In: files opened, blocks read, rows written or failed. Out: numbers for sys.jobs while it runs, rows of RETURN SUMMARY after.
Its own room because it is read from outside while the copy goes on. Everything happens on the trio thread.
Source of the summary's shape and bounds: CrateDB's ``SourceIndexWriterReturnSummaryProjector`` and ``UpsertResults``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from cratepy import limits
from cratepy.errors import CrateError
from cratepy.records import dataclass


@dataclass(slots=True)
class FileSummary:
    """One URI: rows written, rows failed by message; counts stay None if it could not be read at all."""

    uri: str
    success_count: int | None = 0
    error_count: int | None = 0
    counts: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    first: CrateError | None = None

    def add_error(self, error: CrateError, line: int | None) -> None:
        if self.first is None:
            self.first = error
        self.error_count = (self.error_count or 0) + 1
        message = error.message
        if message not in self.counts and len(self.counts) >= limits.COPY_SUMMARY_ERRORS_MAX:
            return
        self.counts[message] += 1
        lines = self.lines.setdefault(message, [])
        if line is not None and len(lines) < limits.COPY_SUMMARY_LINES_MAX:
            lines.append(line)

    def fail(self, error: CrateError) -> None:
        """The file cannot be read."""
        self.success_count = self.error_count = None
        self.counts[error.message] += 1
        self.lines[error.message] = []
        self.first = error

    def errors(self) -> dict[str, object]:
        """The ``errors`` column: message → count and line numbers."""
        return {
            message: {"count": count, "line_numbers": sorted(self.lines.get(message, ()))}
            for message, count in self.counts.items()
        }


@dataclass(slots=True)
class CopyProgress:
    """Numbers of a running COPY FROM, for people."""

    bytes_total: int = 0
    bytes_done: int = 0
    rows_written: int = 0
    rows_failed: int = 0
    file: str = ""
    files: list[FileSummary] = field(default_factory=list)
