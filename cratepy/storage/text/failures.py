"""What goes wrong with a text index, and the border at which tantivy's panics stop being BaseExceptions."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cratepy.errors import InternalError

_DISK_FULL: Final = ("No space left on device", "os error 28", "Disk quota exceeded")


class TextIndexFailed(InternalError):
    """The index library could not do what it was asked; no row is lost by it."""


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Turn what the index library raises into TextIndexFailed, or OSError if the disk is full.

    Its panics are BaseExceptions that would take a thread down; their class has no importable name.
    """
    try:
        yield
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        if any(text in str(error) for text in _DISK_FULL):
            raise OSError(errno.ENOSPC, f"{what}: {error}") from error
        raise TextIndexFailed(f"{what}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TextIndexFailed(f"{what}: the index library panicked: {error}") from error
