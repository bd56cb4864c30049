"""Text of temporal values → SQL values: what clients write as text parameters.

In: ``2026-11-20 13:00:00+02``, ``1 day 02:00``, ``P1DT2H``, ``10:11:12+02:00``. Out: SQL values of
``cratepy.model.types``. Raises ValueError; the caller says which type was wanted. These are the spellings of
PostgreSQL's output styles and ISO 8601; the many more that ``CAST`` takes are the business of ``functions``.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from cratepy.model.addresses import normal_address

_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()
_DAY_MS: Final = 86_400_000
_TIMESTAMP: Final = re.compile(
    r"\s*([+-]?\d{1,9})-(\d{1,2})-(\d{1,2})"
    r"(?:[T ]+(\d{1,2})(?::(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?)?"
    r"\s*(Z|z|UTC|[+-]\d{1,2}(?::?\d{2}(?::?\d{2})?)?)?\s*(BC|AD)?\s*\Z"
)
_TIMETZ: Final = re.compile(
    r"\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d+))?)?\s*(Z|[+-]\d{1,2}(?::?\d{2}(?::?\d{2})?)?)?\s*\Z"
)
_ISO_INTERVAL: Final = re.compile(
    r"\s*(-?)P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)W)?(?:(-?\d+)D)?"
    r"(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?\d+(?:\.\d+)?)S)?)?\s*\Z"
)
_INTERVAL_PART: Final = re.compile(
    r"\s*(?:([+-]?)(\d+):(\d{2})(?::(\d{2}(?:\.\d+)?))?|([+-]?\d+(?:\.\d+)?)\s*([a-z]+))"
)
#: Unit → (months, days, milliseconds).
_UNITS: Final[dict[str, tuple[float, float, float]]] = {
    "millennium": (12_000, 0, 0), "century": (1_200, 0, 0), "decade": (120, 0, 0),
    "year": (12, 0, 0), "yr": (12, 0, 0), "y": (12, 0, 0), "month": (1, 0, 0), "mon": (1, 0, 0),
    "week": (0, 7, 0), "w": (0, 7, 0), "day": (0, 1, 0), "d": (0, 1, 0),
    "hour": (0, 0, 3_600_000), "hr": (0, 0, 3_600_000), "h": (0, 0, 3_600_000),
    "minute": (0, 0, 60_000), "min": (0, 0, 60_000), "m": (0, 0, 60_000),
    "second": (0, 0, 1000), "sec": (0, 0, 1000), "s": (0, 0, 1000),
    "millisecond": (0, 0, 1), "msec": (0, 0, 1), "ms": (0, 0, 1),
    "microsecond": (0, 0, 0.001), "usec": (0, 0, 0.001), "us": (0, 0, 0.001),
}  # fmt: skip


def timestamp_ms(text: str, *, with_zone: bool) -> int:
    """Milliseconds since 1970; a zone in the text is honoured for ``timestamptz`` and ignored for ``timestamp``.

    A bare integer is milliseconds, as in CrateDB.
    """
    stripped = text.strip()
    if stripped.lstrip("+-").isdigit():
        return int(stripped)
    match = _TIMESTAMP.match(text)
    if match is None:
        raise ValueError(text)
    year_text, month, day, hour, minute, second, fraction, zone, era = match.groups()
    year = int(year_text)
    if era == "BC":
        year = 1 - year
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 24 or minutes > 59 or seconds > 60:
        raise ValueError(text)
    ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + int((fraction or "0")[:3].ljust(3, "0"))
    if zone and with_zone:
        ms -= _offset_seconds(zone) * 1000
    return _days(year, int(month), int(day)) * _DAY_MS + ms


def date_ms(text: str) -> int:
    """Milliseconds of the midnight of the day."""
    return timestamp_ms(text, with_zone=False) // _DAY_MS * _DAY_MS


def _days(year: int, month: int, day: int) -> int:
    cycles, year_in_cycle = divmod(year - 1, 400)
    return date(year_in_cycle + 1, month, day).toordinal() - _EPOCH_DAYS + cycles * 146_097


def _offset_seconds(zone: str) -> int:
    if zone in ("Z", "z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "")
    if len(digits) in (1, 3):
        digits = "0" + digits
    seconds = int(digits[:2]) * 3600 + int(digits[2:4] or 0) * 60 + int(digits[4:6] or 0)
    return -seconds if zone[0] == "-" else seconds


def timetz_value(text: str) -> list[int]:
    """[microseconds of the day, seconds east of UTC]."""
    match = _TIMETZ.match(text)
    if match is None:
        raise ValueError(text)
    hour, minute, second, fraction, zone = match.groups()
    if int(hour) > 24 or int(minute) > 59 or int(second or 0) > 59:
        raise ValueError(text)
    seconds = (int(hour) * 60 + int(minute)) * 60 + int(second or 0)
    micros = seconds * 1_000_000 + int((fraction or "0")[:6].ljust(6, "0"))
    return [micros, _offset_seconds(zone) if zone else 0]


def ip_text(text: str) -> str:
    """The normal form of an address. Raises ValueError."""
    return normal_address(text.strip())


def interval_value(text: str) -> list[int]:
    """[months, days, milliseconds] of PostgreSQL's or ISO 8601's spelling."""
    match = _ISO_INTERVAL.match(text)
    if match is not None and any(match.groups()[1:]):
        sign = -1 if match.group(1) else 1
        years, mons, weeks, days, hours, minutes = (int(part or 0) for part in match.groups()[1:7])
        ms = (hours * 60 + minutes) * 60_000 + round(float(match.group(8) or 0) * 1000)
        return [sign * (12 * years + mons), sign * (7 * weeks + days), sign * ms]
    total = [0.0, 0.0, 0.0]
    rest = text.strip().lower()
    sign = 1
    if rest.endswith(" ago"):
        rest, sign = rest[:-4].rstrip(), -1
    rest = rest.removeprefix("@").strip()
    position = 0
    while position < len(rest):
        part = _INTERVAL_PART.match(rest, position)
        if part is None:
            raise ValueError(text)
        position = part.end()
        _add_interval_part(total, part, text)
    if not rest:
        raise ValueError(text)
    months, days_total, ms_total = total
    # Fractions go down one unit: a month has 30 days, a day 24 hours.
    days_total += (months - int(months)) * 30
    ms_total += (days_total - int(days_total)) * _DAY_MS
    return [sign * int(months), sign * int(days_total), sign * round(ms_total)]


def _add_interval_part(total: list[float], part: re.Match[str], text: str) -> None:
    negative, hours, minutes, seconds, amount, unit = part.groups()
    if amount is None:
        ms = (int(hours) * 60 + int(minutes)) * 60_000 + round(float(seconds or 0) * 1000)
        total[2] += -ms if negative == "-" else ms
        return
    weights = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
    if weights is None:
        raise ValueError(text)
    for position, weight in enumerate(weights):
        total[position] += float(amount) * weight
