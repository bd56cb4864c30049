"""What the compiler may know of a client's session: its user, its search path, its settings.

The session itself lives in ``server``; a statement is compiled against this frozen view, so the same text under the same
view and cluster state always gives the same plan (it is part of the key of the plan cache).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cratepy.model.names import DEFAULT_SEARCH_PATH
from cratepy.model.schema import SettingValue


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """``settings`` holds values that differ from the defaults only, by their PostgreSQL / CrateDB names."""

    user: str = "crate"
    search_path: tuple[str, ...] = DEFAULT_SEARCH_PATH
    settings: Mapping[str, SettingValue] = {}

    @property
    def fails_on_unknown_object_key(self) -> bool:
        """``error_on_unknown_object_key``: a key that a dynamic object does not declare is an error (the default)."""
        return self.settings.get("error_on_unknown_object_key", True) is not False
