"""Texts as SQL values: numbers, booleans, timestamps, times, intervals, addresses, shapes, arrays.

In: text. Out: a SQL value, or :class:`Unparsable` (ValueError) if the text is none. The cast's error text is made by
``casts``. Source: CrateDB's type classes (``BooleanType``, ``TimestampType``, ``TimeTZParser``, ``IntervalParser``,
``ArrayLiteral``); where CrateDB takes nonsense for a value it is refused here.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from typing import Any, Final

import msgspec

from cratepy.functions import intervals
from cratepy.functions.intervals import DAY_MS
from cratepy.model.addresses import normal_address


class Unparsable(ValueError):
    """The text is no value of the type."""


_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLEANS: Final = {
    **dict.fromkeys(("t", "true", "y", "yes", "on", "1"), True),
    **dict.fromkeys(("f", "false", "n", "no", "off", "0"), False),
}


def parse_integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise Unparsable(text)
    return int(text)


def parse_float(text: str) -> float:
    text = text.strip()
    if _FLOAT.fullmatch(text):
        return float(text)
    match text.lower():
        case "nan":
            return math.nan
        case "infinity" | "+infinity" | "inf":
            return math.inf
        case "-infinity" | "-inf":
            return -math.inf
    raise Unparsable(text)


def parse_decimal(text: str) -> decimal.Decimal:
    if not _FLOAT.fullmatch(text):
        raise Unparsable(text)
    return decimal.Decimal(text)


def parse_boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise Unparsable(text)
    return value


def parse_ip(text: str) -> str:
    """The normal form; IPv4 written as IPv6 becomes IPv4."""
    try:
        return normal_address(text)
    except ValueError as error:
        raise Unparsable(text) from error


_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def parse_uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise Unparsable(text)
    return text.lower()


# --- timestamps and times --------------------------------------------------------------------------------------------

_TIMESTAMP: Final = re.compile(
    r"(?P<year>[+-]?\d{4,9})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
    r"(?:[T ](?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?)?"
    r"\s?(?P<zone>Z|z|[+-]\d{1,2}(?::?\d{2})?(?::?\d{2})?)?"
)
_TIME: Final = re.compile(
    r"(?P<hour>\d{2}):?(?P<minute>\d{2})?(?::?(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?"
    r"\s?(?P<zone>Z|z|[+-]\d{1,2}(?::?\d{2})?)?"
)
_ZONE_MAX_S: Final = 18 * 3600
_ZONE_MAX: Final = datetime.timedelta(seconds=_ZONE_MAX_S)
_EPOCH: Final = datetime.datetime(1970, 1, 1)
_PLAIN_TIMESTAMP: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ](?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:[0-5]\d)?)?\Z", re.ASCII
)


def parse_timestamp(text: str, *, keeps_zone: bool) -> int:
    """Milliseconds since 1970; a number is milliseconds; without ``keeps_zone`` an offset is ignored."""
    plain = plain_timestamp(text, keeps_zone=keeps_zone)
    return any_timestamp(text, keeps_zone=keeps_zone) if plain is None else plain


def plain_timestamp(text: str, *, keeps_zone: bool) -> int | None:
    """:func:`parse_timestamp` of the forms that programs write, by what is written in C: 1 µs instead of 8; else None."""
    if not _PLAIN_TIMESTAMP.match(text):
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    offset = moment.utcoffset()
    since = moment.replace(tzinfo=None) - _EPOCH
    if offset is not None:
        if abs(offset) > _ZONE_MAX:
            return None
        if keeps_zone:
            since -= offset
    return since.days * DAY_MS + since.seconds * 1_000 + since.microseconds // 1_000


def any_timestamp(text: str, *, keeps_zone: bool) -> int:
    """:func:`parse_timestamp` of every form."""
    if _INTEGER.fullmatch(text):
        return _in_range(int(text), text)
    match = _TIMESTAMP.fullmatch(text)
    if match is None or (len(match["year"].lstrip("+-")) > 4 and match["year"][0] not in "+-"):
        raise Unparsable(text)
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if not 1 <= month <= 12 or not 1 <= day <= intervals.days_of_month(year, month):
        raise Unparsable(text)
    time = _time_ms(match, text)
    result = intervals.days_from_civil(year, month, day) * DAY_MS + time
    if keeps_zone:
        result -= _zone_seconds(match["zone"], text) * 1000
    return _in_range(result, text)


def _in_range(value: int, text: str) -> int:
    if not -(2**63) <= value < 2**63:
        raise Unparsable(text)
    return value


def _time_ms(match: re.Match[str], text: str) -> int:
    return _time_micros(match, text) // 1000


def _time_micros(match: re.Match[str], text: str) -> int:
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    if hour > 23 or minute > 59 or second > 59:
        raise Unparsable(text)
    fraction = int((match["fraction"] or "0").ljust(9, "0")) // 1000
    return (hour * 3600 + minute * 60 + second) * 1_000_000 + fraction


def _zone_seconds(zone: str | None, text: str) -> int:
    if zone is None or zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "")
    if len(digits) % 2:
        digits = "0" + digits
    hours, minutes, seconds = int(digits[0:2]), int(digits[2:4] or 0), int(digits[4:6] or 0)
    total = hours * 3600 + minutes * 60 + seconds
    if minutes > 59 or total > _ZONE_MAX_S:
        raise Unparsable(text)
    return -total if zone[0] == "-" else total


def parse_time(text: str) -> list[int]:
    """``[microseconds since midnight, offset in seconds]``; a bare number is microseconds."""
    if _INTEGER.fullmatch(text) and len(text) not in (2, 4, 6):
        micros = int(text)
        if not 0 <= micros <= 86_400_000_000:
            raise Unparsable(text)
        return [micros, 0]
    match = _TIME.fullmatch(text)
    if match is None:
        raise Unparsable(text)
    return [_time_micros(match, text), _zone_seconds(match["zone"], text)]


# --- intervals -------------------------------------------------------------------------------------------------------

#: Unit → (months, days, milliseconds).
_UNITS: Final[dict[str, tuple[int, int, int]]] = {
    **dict.fromkeys(("millennium", "millennia", "millenniums", "mil", "mils"), (12_000, 0, 0)),
    **dict.fromkeys(("century", "centuries", "cent", "c"), (1_200, 0, 0)),
    **dict.fromkeys(("decade", "decades", "dec", "decs"), (120, 0, 0)),
    **dict.fromkeys(("year", "years", "y", "yr", "yrs"), (12, 0, 0)),
    **dict.fromkeys(("month", "months", "mon", "mons"), (1, 0, 0)),
    **dict.fromkeys(("week", "weeks", "w"), (0, 7, 0)),
    **dict.fromkeys(("day", "days", "d"), (0, 1, 0)),
    **dict.fromkeys(("hour", "hours", "h", "hr", "hrs"), (0, 0, 3_600_000)),
    **dict.fromkeys(("minute", "minutes", "min", "mins", "m"), (0, 0, 60_000)),
    **dict.fromkeys(("second", "seconds", "sec", "secs", "s"), (0, 0, 1_000)),
    **dict.fromkeys(("millisecond", "milliseconds", "msec", "msecs", "ms"), (0, 0, 1)),
}
_MICROSECONDS: Final = frozenset({"microsecond", "microseconds", "usec", "usecs", "us"})
_PERIOD: Final = re.compile(
    r"(?P<sign>-?)P(?:(?P<years>-?\d+)Y)?(?:(?P<months>-?\d+)M)?(?:(?P<weeks>-?\d+)W)?(?:(?P<days>-?\d+)D)?"
    r"(?:T(?:(?P<hours>-?\d+)H)?(?:(?P<minutes>-?\d+)M)?(?:(?P<seconds>-?\d+(?:\.\d+)?)S)?)?"
)
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_CLOCK: Final = re.compile(r"(?P<sign>[+-]?)(?P<hours>\d+):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}(?:\.\d+)?))?")
_YEAR_MONTH: Final = re.compile(r"(?P<sign>[+-]?)(?P<years>\d+)-(?P<months>\d+)")
_NUMBER_AND_UNIT: Final = re.compile(r"([+-]?\d+(?:\.\d+)?)([a-zA-Z]+)")


def parse_interval(text: str) -> list[int]:
    """SQL standard (``1-2 3 4:05:06``), PostgreSQL (``1 year 2 mons``) and ISO 8601 (``P1Y2M3DT4H``)."""
    period = _PERIOD.fullmatch(text)
    if period is not None and len(text.lstrip("-")) > 1 and text[-1] not in "PT":
        return _iso_interval(period)
    if text != text.strip() or not text:
        raise Unparsable(text)
    words = [part for word in text.removeprefix("@").split() for part in _unit_apart(word)]
    is_ago = words[-1:] == ["ago"]
    if is_ago:
        words = words[:-1]
    if not words:
        raise Unparsable(text)
    total = [0, 0, 0]
    position = 0
    while position < len(words):
        used, parts = _interval_part(words, position, text)
        total = [a + b for a, b in zip(total, parts, strict=True)]
        position += used
    value = intervals.normalized(*total)
    return intervals.negate(value) if is_ago else value


def _unit_apart(word: str) -> list[str]:
    """``1h`` is ``1 h``; ``1e3`` is a number."""
    match = None if _NUMBER.fullmatch(word) else _NUMBER_AND_UNIT.fullmatch(word)
    return [word] if match is None else [match[1], match[2]]


def _interval_part(words: list[str], position: int, text: str) -> tuple[int, tuple[int, int, int]]:
    word = words[position]
    if (clock := _CLOCK.fullmatch(word)) is not None:
        milliseconds = _clock_ms(clock)
        return 1, (0, 0, -milliseconds if clock["sign"] == "-" else milliseconds)
    if (year_month := _YEAR_MONTH.fullmatch(word)) is not None:
        months = int(year_month["years"]) * 12 + int(year_month["months"])
        return 1, (-months if year_month["sign"] == "-" else months, 0, 0)
    if not _NUMBER.fullmatch(word):
        raise Unparsable(text)
    if position + 1 < len(words) and words[position + 1].lower() in _MICROSECONDS:
        return 2, _scaled(decimal.Decimal(word) / 1000, (0, 0, 1), text)
    if position + 1 < len(words) and words[position + 1].lower() in _UNITS:
        return 2, _scaled(decimal.Decimal(word), _UNITS[words[position + 1].lower()], text)
    if position + 1 < len(words) and _CLOCK.fullmatch(words[position + 1]):
        return 1, _scaled(decimal.Decimal(word), (0, 1, 0), text)
    if position + 1 == len(words) and (position == 0 or _NUMBER.fullmatch(word)):
        return 1, _scaled(decimal.Decimal(word), (0, 0, 1000), text)
    raise Unparsable(text)


def _clock_ms(clock: re.Match[str]) -> int:
    seconds = decimal.Decimal(clock["seconds"] or 0)
    return int(clock["hours"]) * 3_600_000 + int(clock["minutes"]) * 60_000 + int(seconds * 1000)


def _scaled(count: decimal.Decimal, unit: tuple[int, int, int], text: str) -> tuple[int, int, int]:
    if count != int(count) and not unit[2]:
        raise Unparsable(text)
    months, days, milliseconds = (int(count * part) for part in unit)
    return months, days, milliseconds


def _iso_interval(period: re.Match[str]) -> list[int]:
    def number(name: str) -> int:
        return int(period[name] or 0)

    months = number("years") * 12 + number("months")
    days = number("weeks") * 7 + number("days")
    milliseconds = number("hours") * 3_600_000 + number("minutes") * 60_000
    milliseconds += int(decimal.Decimal(period["seconds"] or 0) * 1000)
    value = intervals.normalized(months, days, milliseconds)
    return intervals.negate(value) if period["sign"] else value


# --- shapes and arrays -----------------------------------------------------------------------------------------------

_PAIR: Final = re.compile(r"\(\s*([^\s,]+)\s*,\s*([^\s,]+)\s*\)")
_POINT: Final = re.compile(r"POINT\s*\(\s*(\S+)\s+(\S+)\s*\)", re.IGNORECASE)


def parse_point(text: str) -> list[float]:
    """``POINT (lon lat)``, ``[lon, lat]`` or PostgreSQL's ``(lon,lat)``."""
    match = _POINT.fullmatch(text.strip()) or _PAIR.fullmatch(text.strip())
    if match is not None:
        return checked_point([parse_float(match[1]), parse_float(match[2])], text)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unparsable(text) from error
    return checked_point(value, text)


def checked_point(value: Any, shown: object) -> list[float]:
    if not isinstance(value, list) or len(value) != 2:
        raise Unparsable(str(shown))
    if not all(isinstance(part, int | float) and not isinstance(part, bool) for part in value):
        raise Unparsable(str(shown))
    longitude, latitude = float(value[0]), float(value[1])
    if not -180 <= longitude <= 180 or not -90 <= latitude <= 90:
        raise Unparsable(str(shown))
    return [longitude, latitude]


def parse_array(text: str) -> list[Any]:
    """PostgreSQL's ``{a,"b",NULL,{c}}``: items are texts, lists or None."""
    position, items = _array_items(text.strip(), 0)
    if position != len(text.strip()):
        raise Unparsable(text)
    return items


_PLAIN_ITEM: Final = re.compile(r'[^{},"\s\\](?:[^{},"\\]*[^{},"\s\\])?')
_QUOTED_ITEM: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def _array_items(text: str, position: int) -> tuple[int, list[Any]]:
    if not text.startswith("{", position):
        raise Unparsable(text)
    items: list[Any] = []
    position = _skip_blanks(text, position + 1)
    if text.startswith("}", position):
        return position + 1, items
    while True:
        item: Any
        if text.startswith("{", position):
            position, item = _array_items(text, position)
        elif (quoted := _QUOTED_ITEM.match(text, position)) is not None:
            position, item = quoted.end(), re.sub(r"\\(.)", r"\1", quoted[1])
        elif (plain := _PLAIN_ITEM.match(text, position)) is not None:
            position, item = plain.end(), None if plain[0].lower() == "null" else plain[0]
        else:
            raise Unparsable(text)
        items.append(item)
        position = _skip_blanks(text, position)
        if text.startswith("}", position):
            return position + 1, items
        if not text.startswith(",", position):
            raise Unparsable(text)
        position = _skip_blanks(text, position + 1)


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position
