"""Who may be what: the seam for authentication of both protocols.

``Authenticate`` gets the user name a client claims and the password it sent (None: none was sent) and gives the name of
the session's user, or raises Unauthorized. :func:`trust` is the rule until users exist: the superuser ``crate`` is trusted,
everybody else is unknown.
"""

from __future__ import annotations

from collections.abc import Callable

from cratepy.errors import Unauthorized
from cratepy.model.names import SUPERUSER

Authenticate = Callable[[str, str | None], str]


def trust(user: str, password: str | None) -> str:
    """Everybody who says to be ``crate`` is."""
    if user != SUPERUSER:
        raise Unauthorized(f'password authentication failed for user "{user}"')
    return user
