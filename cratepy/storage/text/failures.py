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


def translated(what: str, error: BaseException) -> BaseException:
    """What the index library has raised as TextIndexFailed, or OSError if the disk is full; anything else as it is.

    Its panics are BaseExceptions that would take a thread down; their class has no importable name.
    """
    made: Exception
    if isinstance(error, ValueError | TypeError | OverflowError | RuntimeError):
        if any(text in str(error) for text in _DISK_FULL):
            made = OSError(errno.ENOSPC, f"{what}: {error}")
        else:
            made = TextIndexFailed(f"{what}: {error}")
    elif type(error).__name__ == "PanicException":
        made = TextIndexFailed(f"{what}: the index library panicked: {error}")
    else:
        return error
    made.__cause__ = error
    return made


@contextmanager
def contained(what: str) -> Iterator[None]:
    """What is raised inside is :func:`translated`."""
    try:
        yield
    except BaseException as error:
        known = translated(what, error)
        if known is error:
            raise
        raise known  # noqa: B904 - it has its cause
