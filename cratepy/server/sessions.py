"""The sessions open on this node: the rows of sys.sessions, and the numbers that jobs name their session by."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from cratepy.execution.local_view import CursorEntry, SessionEntry

if TYPE_CHECKING:
    from cratepy.server.cursors import Cursor
    from cratepy.server.session import Session


class SessionRegistry:
    """Sessions from their first statement to their end; used on the event loop, listed on any thread."""

    def __init__(self) -> None:
        self._next_id = itertools.count(1)
        self._sessions: dict[int, Session] = {}

    def add(self, session: Session) -> int:
        """Its number; the session must be removed when its client is gone."""
        number = next(self._next_id)
        self._sessions[number] = session
        return number

    def remove(self, number: int) -> None:
        self._sessions.pop(number, None)

    def entries(self) -> list[SessionEntry]:
        """One entry per open session."""
        return [
            SessionEntry(
                id=session.id,
                username=session.user,
                protocol=session.protocol,
                client_address=session.client_address,
                started_ms=session.started_ms,
                last_statement=session.last_statement,
                last_job_id=session.last_job_id,
                is_ssl=False,
                settings=tuple((name, str(value)) for name, value in session.settings.changed_values.items()),
                cursors=tuple(_cursor_entry(name, cursor) for name, cursor in list(session.cursors.items())),
            )
            for session in list(self._sessions.values())
        ]


def _cursor_entry(name: str, cursor: Cursor) -> CursorEntry:
    return CursorEntry(
        name=name,
        statement=cursor.statement,
        created_ms=cursor.created_ms,
        is_holdable=cursor.is_holdable,
        is_scrollable=cursor.is_scrollable,
    )
