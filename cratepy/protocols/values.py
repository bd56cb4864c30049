"""SQL values as the text clients read, where PostgreSQL and HTTP print them alike.

In: one SQL value (``cratepy.model.types``). Out: ``str``. Floats print in Java's style (``1.0E20``), timestamps with
three digits of fraction: what CrateDB sends and its clients compare with. Intervals and times: ``cratepy.model.texts``.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import numpy as np

_EPOCH: Final = date(1970, 1, 1)
_DAY_MS: Final = 86_400_000
#: Milliseconds of 0001-01-01 and of 10000-01-01: between them the proleptic calendar of the standard library serves.
YEAR_1_MS: Final = -62_135_596_800_000
YEAR_10000_MS: Final = 253_402_300_800_000


def double_text(value: float) -> str:
    """A double as Java prints it: plain from 10^-3 up to 10^7, else ``d.dddE<exponent>``; shortest digits."""
    if value != value:
        return "NaN"
    magnitude = -value if value < 0 else value
    if 1e-3 <= magnitude < 1e7 or magnitude == 0:
        return repr(value)
    if magnitude == float("inf"):
        return "Infinity" if value > 0 else "-Infinity"
    return _scientific(repr(value))


def real_text(value: float) -> str:
    """A real: as :func:`double_text`, with the shortest digits that name the 32-bit number."""
    if value != value:
        return "NaN"
    magnitude = abs(value)
    if magnitude == float("inf"):
        return "Infinity" if value > 0 else "-Infinity"
    text = str(np.float32(value))
    if (1e-3 <= magnitude < 1e7 or magnitude == 0) and "e" not in text:
        return text
    return _scientific(text)


def _scientific(text: str) -> str:
    """``1e+20``, ``12345678.5`` or ``0.0001`` as ``1.0E20``, ``1.23456785E7``, ``1.0E-4``."""
    sign = "-" if text.startswith("-") else ""
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{point - 1}"


def timestamp_text(value_ms: int) -> str:
    """``2026-11-20 13:00:00.000``; years before 1 get `` BC``, years above 9999 five and more digits."""
    days, ms = divmod(value_ms, _DAY_MS)
    day, era = _date_parts(days)
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{day} {hours:02d}:{minutes:02d}:{seconds:02d}.{ms:03d}{era}"


def timestamptz_text(value_ms: int) -> str:
    """As :func:`timestamp_text`, with the zone, which is always UTC."""
    text = timestamp_text(value_ms)
    return f"{text[:-3]}+00 BC" if text.endswith(" BC") else f"{text}+00"


def date_text(value_ms: int) -> str:
    """``2026-11-20`` of the midnight."""
    day, era = _date_parts(value_ms // _DAY_MS)
    return day + era


def _date_parts(days: int) -> tuple[str, str]:
    if YEAR_1_MS <= days * _DAY_MS < YEAR_10000_MS:
        return (_EPOCH + timedelta(days=days)).isoformat(), ""
    # 400 years of the Gregorian calendar are 146,097 days: shift into the range the library knows.
    cycles, rest = divmod(days - (YEAR_1_MS // _DAY_MS), 146_097)
    day = date(1, 1, 1) + timedelta(days=rest)
    year = day.year + 400 * cycles
    if year > 0:
        return f"{year:04d}-{day.month:02d}-{day.day:02d}", ""
    return f"{1 - year:04d}-{day.month:02d}-{day.day:02d}", " BC"
