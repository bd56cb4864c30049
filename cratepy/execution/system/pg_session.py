"""Rows of pg_settings and pg_cursors: what the session that asks has set and declared.

Its own room because these are not facts of the cluster: two sessions that ask at the same time are told different things.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cratepy.execution.system.view import Provider, Row, SystemView
from cratepy.model.session_settings import SETTINGS


def _pg_settings(view: SystemView) -> Iterator[Row]:
    """The settings of the session that asks, as SHOW ALL gives them."""
    for definition in SETTINGS:
        given = view.context.settings.get(definition.name, definition.default)
        yield {
            "name": definition.name,
            "setting": definition.default if given is None else str(given),
            "short_desc": definition.description,
            "vartype": definition.type,
            "boot_val": definition.default,
            "reset_val": definition.default,
        }


def _pg_cursors(view: SystemView) -> Iterator[Row]:
    """The open cursors of the session that asks, as in PostgreSQL; nobody sees another session's."""
    for session in view.local.sessions():
        if session.id != view.context.session_id:
            continue
        for cursor in session.cursors:
            yield {
                "name": cursor.name,
                "statement": cursor.statement,
                "is_holdable": cursor.is_holdable,
                "is_binary": False,
                "is_scrollable": cursor.is_scrollable,
                "creation_time": cursor.created_ms,
            }


PROVIDERS: Final[Mapping[str, Provider]] = {"pg_cursors": _pg_cursors, "pg_settings": _pg_settings}
