"""The settings of one session: SET, RESET, SHOW, and what of them the rest of the node sees.

In: names and values as clients write them. Out: values as SHOW prints them; the search path; the statement timeout; the
settings that differ from their defaults, for the compiler and for ``StatementContext``. Unknown names are accepted, as
in CrateDB, and kept, so that SHOW answers what was set. Behaviour: CrateDB's SessionSettingRegistry (captured).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from cratepy import limits
from cratepy.errors import SettingUnknown, SQLParseError, UnsupportedFeature
from cratepy.model.names import DEFAULT_SEARCH_PATH
from cratepy.model.schema import SettingValue
from cratepy.model.session_settings import DEFINITIONS, READ_ONLY_SILENT, SETTINGS, SILENT_SETTINGS

_TRUE: Final = frozenset({"true", "on", "t", "yes", "y", "1"})
_FALSE: Final = frozenset({"false", "off", "f", "no", "n", "0"})
_PATH_ITEM: Final = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|$)|([^,]+)')
_DURATION: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_DURATION_MS: Final[dict[str, float]] = {
    "": 1, "ms": 1, "msec": 1, "millisecond": 1, "s": 1000, "sec": 1000, "second": 1000,
    "m": 60_000, "min": 60_000, "minute": 60_000, "h": 3_600_000, "hour": 3_600_000, "d": 86_400_000, "day": 86_400_000,
}  # fmt: skip
#: Settings with which the same text may give another plan.
_UTC_NAMES: Final = frozenset(
    {"utc", "gmt", "z", "zulu", "etc/utc", "default", "local", "0", "00:00", "+00:00", "-00:00"}
)


class SessionSettings:
    """Values by lower-case name; only what was set is kept."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        #: Rises with every change, so that whoever derives something knows when to do it again.
        self.version = 0
        self.search_path: tuple[str, ...] = DEFAULT_SEARCH_PATH
        self.statement_timeout_s: float | None = None

    def set(self, name: str, value: Any) -> str | None:
        """SET: ``value`` is a SQL value, a list of them, or None for DEFAULT. Gives a notice or None."""
        name = name.lower()
        if value is None:
            self.reset(name)
            return None
        if len(self._values) >= limits.SESSION_SETTINGS_MAX and name not in self._values:
            raise UnsupportedFeature(f"A session has at most {limits.SESSION_SETTINGS_MAX} settings")
        text = (
            ", ".join(_word(item) for item in value)
            if isinstance(value, Sequence) and not isinstance(value, str)
            else _word(value)
        )
        notice = None
        if name == "optimizer":
            self._set_optimizer(text)
        elif name == "timezone":
            # Zones are not kept per session: values are UTC. Saying so beats wrong times.
            if text.strip().lower().strip("'") not in _UTC_NAMES:
                notice = f"time zone {text} is ignored, sessions are always in UTC"
        else:
            self._values[name] = _checked(name, text)
        self._changed()
        return notice

    def _set_optimizer(self, text: str) -> None:
        for definition in SETTINGS:
            if definition.name.startswith("optimizer_"):
                self._values[definition.name] = _boolean(text)

    def reset(self, name: str | None) -> None:
        """RESET; None resets all."""
        if name is None:
            self._values.clear()
        elif name.lower() == "optimizer":
            self._values = {k: v for k, v in self._values.items() if not k.startswith("optimizer_")}
        else:
            self._values.pop(name.lower(), None)
        self._changed()

    def show(self, name: str) -> str | None:
        """SHOW: the value, None if it has none; raises SettingUnknown."""
        lowered = name.lower()
        if lowered in self._values:
            return self._values[lowered]
        if lowered in DEFINITIONS:
            return DEFINITIONS[lowered].default
        if lowered in SILENT_SETTINGS:
            return SILENT_SETTINGS[lowered]
        raise SettingUnknown(f"Unknown session setting name '{name}'.")

    def show_all(self) -> list[tuple[str, str | None, str]]:
        """SHOW ALL: name, value, description."""
        return [
            (definition.name, self._values.get(definition.name, definition.default), definition.description)
            for definition in SETTINGS
        ]

    @property
    def changed_values(self) -> dict[str, SettingValue]:
        """Values that differ from the defaults, booleans and integers as such."""
        found: dict[str, SettingValue] = {}
        for name, text in self._values.items():
            definition = DEFINITIONS.get(name)
            if definition is not None and text == definition.default:
                continue
            if definition is not None and definition.type == "boolean":
                found[name] = text == "true"
            elif definition is not None and definition.type == "integer":
                found[name] = int(text)
            else:
                found[name] = text
        return found

    def _changed(self) -> None:
        self.version += 1
        self.search_path = _search_path(self._values.get("search_path"))
        timeout = self._values.get("statement_timeout")
        milliseconds = duration_ms(timeout) if timeout else 0
        self.statement_timeout_s = milliseconds / 1000 if milliseconds else None


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _checked(name: str, text: str) -> str:
    """The value as SHOW prints it."""
    definition = DEFINITIONS.get(name)
    if definition is None:
        if name in READ_ONLY_SILENT and text.lower() != SILENT_SETTINGS[name].lower():
            raise UnsupportedFeature(f'"{name}" cannot be changed.')
        return text
    if definition.is_read_only:
        if name == "standard_conforming_strings" and text.lower() in _TRUE:
            return "on"
        raise UnsupportedFeature(f'"{name}" cannot be changed.')
    if name == "datestyle":
        style = text.partition(",")[0].strip().upper()
        if style != "ISO":
            raise SQLParseError(f'Invalid value for parameter "datestyle": "{style}". Valid values include: ["ISO"].')
        return "ISO"
    if name == "client_encoding":
        # asyncpg sends the value in quotes; whatever is asked for, text is UTF-8, as in CrateDB.
        return "UTF8"
    if name == "search_path":
        return ", ".join(map(_path_word, _path_items(text))) or DEFAULT_SEARCH_PATH[-1]
    if definition.type == "boolean":
        return _boolean(text)
    if definition.type == "integer":
        if not text.strip().lstrip("-").isdigit():
            raise SQLParseError(f'For input string: "{text}"')
        return text.strip()
    if definition.type == "interval":
        return duration_text(duration_ms(text))
    return text


def _boolean(text: str) -> str:
    word = text.strip().lower()
    if word in _TRUE:
        return "true"
    if word in _FALSE:
        return "false"
    raise SQLParseError(f'Can\'t convert "{text}" to boolean')


def duration_ms(text: str) -> int:
    """``500``, ``500ms``, ``1s``, ``2 minutes`` in milliseconds; raises SQLParseError."""
    lowered = text.strip().lower()
    total, position = 0.0, 0
    while position < len(lowered):
        match = _DURATION.match(lowered, position)
        unit = match.group(2) if match else ""
        weight = _DURATION_MS.get(unit, _DURATION_MS.get(unit.removesuffix("s"))) if match else None
        if match is None or weight is None:
            raise SQLParseError(f"Invalid interval format: {text}")
        total += float(match.group(1)) * weight
        position = match.end()
    if not lowered or total > limits.STATEMENT_TIMEOUT_MS_MAX:
        raise SQLParseError(f"Invalid interval format: {text}")
    return round(total)


def duration_text(milliseconds: int) -> str:
    """The duration in its largest whole unit: ``0s``, ``500ms``, ``1s``, ``2m``."""
    for unit, weight in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % weight == 0 and (milliseconds or unit == "s"):
            return f"{milliseconds // weight}{unit}"
    return f"{milliseconds}ms"


def _path_items(text: str) -> list[str]:
    """The names in a list of names; commas and blanks inside double quotes belong to the name."""
    items = []
    for match in _PATH_ITEM.finditer(text):
        quoted, plain = match.groups()
        name = quoted.replace('""', '"') if quoted is not None else plain.strip()
        if name:
            items.append(name)
    return items


def _path_word(name: str) -> str:
    """The name so that it is read back as one."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name or name != name.strip() else name


def _search_path(text: str | None) -> tuple[str, ...]:
    items = _path_items(text) if text else []
    if not items:
        return DEFAULT_SEARCH_PATH
    return tuple(items) if "pg_catalog" in items else ("pg_catalog", *items)
