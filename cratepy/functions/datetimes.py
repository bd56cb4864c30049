"""Dates and times: extract, date_trunc, date_bin, time zones, age, the statement's clock.

``extract(field from x)`` is a call of ``extract_<field>``. Timestamps are milliseconds since 1970 in UTC. Everything
that means "now" reads the statement's one timestamp from the context. Source: CrateDB's scalar.timestamp and
scalar.DateTruncFunction; the week starts on Monday (day of week 1 to 7, ISO weeks).
"""

from __future__ import annotations

import datetime
import functools
import re
import zoneinfo
from collections.abc import Callable
from typing import Any, Final

from cratepy.errors import SQLParseError
from cratepy.functions import intervals
from cratepy.functions.arrow_kernels import truncated_timestamps
from cratepy.functions.intervals import DAY_MS, civil_from_days, days_from_civil
from cratepy.functions.signatures import Declaration, signatures
from cratepy.functions.values import checked_integer
from cratepy.model.types import DataType

_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday; Monday is 0.
_YEAR_S: Final = 31_557_600  # PostgreSQL's 365.25 days.
_MONTH_S: Final = 2_592_000
_TIMESTAMP_FIELDS: Final = ("timestamp -> integer", "timestamptz -> integer", "date -> integer")


def iso_week(days: int) -> tuple[int, int]:
    """ISO year and week of a day number."""
    thursday = days - (days + _EPOCH_WEEKDAY) % 7 + 3
    year = civil_from_days(thursday)[0]
    return year, (thursday - days_from_civil(year, 1, 1)) // 7 + 1


def _date_field(compute: Callable[[int, int, int, int], int]) -> Callable[[int], int]:
    """A field of year, month, day and day number."""

    def extract(timestamp: int) -> int:
        days = timestamp // DAY_MS
        return compute(*civil_from_days(days), days)

    return extract


def _time_field(unit_ms: int, modulus: int) -> Callable[[int], int]:
    return lambda timestamp: timestamp % DAY_MS // unit_ms % modulus


_FROM_TIMESTAMP: Final[dict[str, Callable[[int], int]]] = {
    "century": _date_field(lambda year, _m, _d, _n: year // 100 if year >= 0 else -(-year // 100)),
    "year": _date_field(lambda year, _m, _d, _n: year),
    "quarter": _date_field(lambda _y, month, _d, _n: (month + 2) // 3),
    "month": _date_field(lambda _y, month, _d, _n: month),
    "week": _date_field(lambda _y, _m, _d, number: iso_week(number)[1]),
    "day": _date_field(lambda _y, _m, day, _n: day),
    "day_of_week": _date_field(lambda _y, _m, _d, number: (number + _EPOCH_WEEKDAY) % 7 + 1),
    "day_of_year": _date_field(lambda year, _m, _d, number: number - days_from_civil(year, 1, 1) + 1),
    "hour": _time_field(3_600_000, 24),
    "minute": _time_field(60_000, 60),
    "second": _time_field(1_000, 60),
}


def _truncated(value: int, by: int) -> int:
    return value // by if value >= 0 else -(-value // by)


def _part(value: int, by: int, modulus: int) -> int:
    magnitude = abs(value) // by % modulus
    return -magnitude if value < 0 else magnitude


_FROM_INTERVAL: Final[dict[str, Callable[[list[int]], int]]] = {
    "year": lambda value: _truncated(value[0], 12),
    "quarter": lambda value: _part(value[0], 1, 12) // 3,
    "month": lambda value: _part(value[0], 1, 12),
    "day": lambda value: value[1],
    "hour": lambda value: _truncated(value[2], 3_600_000),
    "minute": lambda value: _part(value[2], 60_000, 60),
    "second": lambda value: _part(value[2], 1_000, 60),
}
#: The engine's own date_part where it means the same.
_NATIVE_PARTS: Final = {
    "year": "year",
    "quarter": "quarter",
    "month": "month",
    "day": "day",
    "day_of_year": "doy",
    "hour": "hour",
    "minute": "minute",
    "second": "second",
    "week": "week",
}
_ALIASES: Final = {
    "day": ("extract_day_of_month", "extract_days"),
    "day_of_week": ("extract_dow", "extract_isodow"),
    "day_of_year": ("extract_doy",),
}


def _extract_row(field: str) -> Callable[[tuple[DataType, ...], DataType], Callable[..., Any]]:
    return lambda arguments, _result: (
        _FROM_INTERVAL[field] if arguments[0].kind == "interval" else _FROM_TIMESTAMP[field]
    )


def _extract_sql(field: str) -> Callable[[tuple[DataType, ...], DataType], str | None]:
    part = _NATIVE_PARTS.get(field)

    def choose(arguments: tuple[DataType, ...], _result: DataType) -> str | None:
        if part is None or arguments[0].kind == "interval":
            return None
        return f"arrow_cast(date_part('{part}', {{0}}), 'Int32')"

    return choose


_NOT_OF_INTERVALS: Final = frozenset({"century", "week", "day_of_week", "day_of_year"})


def _epoch_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any]:
    if arguments[0].kind == "interval":
        return lambda value: (
            _truncated(value[0], 12) * _YEAR_S + _part(value[0], 1, 12) * _MONTH_S + value[1] * 86_400 + value[2] / 1000
        )
    return lambda timestamp: timestamp / 1000


# --- truncating ------------------------------------------------------------------------------------------------------


def _start_of_month(days: int, months: int) -> int:
    year, month, _ = civil_from_days(days)
    return days_from_civil(year, (month - 1) // months * months + 1, 1) * DAY_MS


_TRUNCATE: Final[dict[str, Callable[[int], int]]] = {
    "second": lambda value: value - value % 1_000,
    "minute": lambda value: value - value % 60_000,
    "hour": lambda value: value - value % 3_600_000,
    "day": lambda value: value - value % DAY_MS,
    "week": lambda value: (value // DAY_MS - (value // DAY_MS + _EPOCH_WEEKDAY) % 7) * DAY_MS,
    "month": lambda value: _start_of_month(value // DAY_MS, 1),
    "quarter": lambda value: _start_of_month(value // DAY_MS, 3),
    "year": lambda value: _start_of_month(value // DAY_MS, 12),
}


def _date_trunc(unit: str, *arguments: Any) -> int:
    truncate = _TRUNCATE.get(unit.lower())
    if truncate is None:
        raise SQLParseError(f"invalid interval '{unit}' for scalar 'date_trunc'")
    timestamp = arguments[-1]
    if len(arguments) == 1:
        return truncate(timestamp)
    zone = time_zone(arguments[0], "invalid time zone value '{}'")
    return from_local(truncate(to_local(timestamp, zone)), zone)


def _date_trunc_arrow(arguments: tuple[DataType, ...], _result: DataType) -> Callable[..., Any] | None:
    return truncated_timestamps if len(arguments) == 2 else None


def _date_bin(step: list[int], timestamp: int, origin: int) -> int:
    months, days, milliseconds = step
    if months:
        raise SQLParseError("Cannot use intervals containing months or years")
    width = abs(days * DAY_MS + milliseconds)
    if width == 0:
        raise SQLParseError("Interval cannot be zero")
    return checked_integer(origin + (timestamp - origin) // width * width, "bigint")


# --- time zones ------------------------------------------------------------------------------------------------------

_OFFSET: Final = re.compile(r"(?:UTC|GMT|UT)?([+-])(\d{1,2})(?::?(\d{2}))?")
_ZONES_CACHED: Final = 512
#: Names the zone database has for fixed offsets and Java has not.
_UNKNOWN_ZONES: Final = frozenset({"EST", "MST", "HST"})


@functools.lru_cache(maxsize=_ZONES_CACHED)
def time_zone(name: str, message: str) -> datetime.tzinfo:
    """A zone by its name or offset; Java's short names (EST) are not known, as in CrateDB."""
    if name in ("Z", "UTC", "GMT", "UT"):
        return datetime.UTC
    match = _OFFSET.fullmatch(name)
    if match is not None:
        minutes = int(match[2]) * 60 + int(match[3] or 0)
        if minutes <= 18 * 60:
            return datetime.timezone(datetime.timedelta(minutes=-minutes if match[1] == "-" else minutes))
    if name not in _UNKNOWN_ZONES and ".." not in name and name != name.lower():
        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise SQLParseError(message.format(name)) from error
    raise SQLParseError(message.format(name))


_EPOCH: Final = datetime.datetime(1970, 1, 1)
#: Offsets outside of these years are those of their first and last year.
_FIRST_MS: Final = -62_135_596_800_000 + DAY_MS
_LAST_MS: Final = 253_402_300_799_999 - DAY_MS


def to_local(timestamp: int, zone: datetime.tzinfo) -> int:
    """The wall clock of the zone, as if it were UTC."""
    near = min(max(timestamp, _FIRST_MS), _LAST_MS)
    moment = (_EPOCH + datetime.timedelta(milliseconds=near)).replace(tzinfo=datetime.UTC)
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return timestamp + offset // datetime.timedelta(milliseconds=1)


def from_local(local: int, zone: datetime.tzinfo) -> int:
    """The instant at which the zone's wall clock shows ``local``; in a gap the clock before it counts."""
    near = min(max(local, _FIRST_MS), _LAST_MS)
    moment = (_EPOCH + datetime.timedelta(milliseconds=near)).replace(tzinfo=zone)
    offset = moment.utcoffset()
    assert offset is not None
    return local - offset // datetime.timedelta(milliseconds=1)


def _timezone_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[[str, int], int]:
    message = 'time zone "{}" not recognized'
    if arguments[1].kind == "timestamp with time zone":
        return lambda zone, timestamp: to_local(timestamp, time_zone(zone, message))
    return lambda zone, timestamp: from_local(timestamp, time_zone(zone, message))


# --- the statement's clock -------------------------------------------------------------------------------------------


def _now(context: Any, precision: int | None = None) -> int:
    now: int = context.now_ms
    if precision is None:
        return now
    if not 0 <= precision <= 3:
        raise SQLParseError("Precision must be between 0 and 3")
    unit = 10 ** (3 - precision)
    return now - now % unit


def _current_time(context: Any, precision: int | None = None) -> list[int]:
    if precision is not None and not 0 <= precision <= 6:
        raise SQLParseError("precision must be between [0..6]")
    micros = context.now_ms % DAY_MS * 1000
    unit = 10 ** (6 - (6 if precision is None else precision))
    return [micros - micros % unit, 0]


def _age(context: Any, left: int, right: int | None = None) -> list[int]:
    if right is None:
        today = context.now_ms - context.now_ms % DAY_MS
        return intervals.age(today, left)
    return intervals.age(left, right)


def _extract(field: str) -> Declaration:
    interval = () if field in _NOT_OF_INTERVALS else ("interval -> integer",)
    return Declaration(
        name=f"extract_{field}",
        aliases=_ALIASES.get(field, ()),
        signatures=signatures(*_TIMESTAMP_FIELDS, *interval),
        row_of=_extract_row(field),
        sql=_extract_sql(field),
        doc=f"the {field.replace('_', ' ')} of a timestamp or interval",
    )


_TRUNCATED: Final = tuple(
    text
    for kind in ("timestamp", "timestamptz", "bigint", "date")
    for text in (f"text,{kind} -> timestamptz", f"text,text,{kind} -> timestamptz")
)

DECLARATIONS: Final[tuple[Declaration, ...]] = (
    *(_extract(field) for field in _FROM_TIMESTAMP),
    Declaration(
        name="extract_epoch",
        signatures=signatures("timestamp -> double", "timestamptz -> double", "date -> double", "interval -> double"),
        row_of=_epoch_row,
        doc="seconds since 1970, or the length in seconds",
    ),
    Declaration(
        name="date_trunc",
        signatures=signatures(*_TRUNCATED),
        row=_date_trunc,
        arrow=_date_trunc_arrow,
        doc="the start of a unit",
    ),
    Declaration(
        name="date_bin",
        signatures=signatures(
            "interval,timestamptz,timestamptz -> timestamptz", "interval,timestamp,timestamp -> timestamp"
        ),
        row=_date_bin,
        doc="the start of the interval a timestamp falls in, counted from an origin",
    ),
    Declaration(
        name="timezone",
        signatures=signatures(
            "text,timestamptz -> timestamp", "text,timestamp -> timestamptz", "text,bigint -> timestamptz"
        ),
        row_of=_timezone_row,
    ),
    Declaration(
        name="now",
        aliases=("transaction_timestamp", "statement_timestamp"),
        signatures=signatures("-> timestamptz"),
        row=_now,
        takes_context=True,
        is_deterministic=False,
        doc="the start of the statement",
    ),
    Declaration(
        name="current_timestamp",
        signatures=signatures("-> timestamptz", "integer -> timestamptz"),
        row=_now,
        takes_context=True,
        is_deterministic=False,
    ),
    Declaration(
        name="current_date",
        aliases=("curdate",),
        signatures=signatures("-> date"),
        row=lambda context: context.now_ms - context.now_ms % DAY_MS,
        takes_context=True,
        is_deterministic=False,
    ),
    Declaration(
        name="current_time",
        signatures=signatures("-> timetz", "integer -> timetz"),
        row=_current_time,
        takes_context=True,
        is_deterministic=False,
    ),
    Declaration(
        name="_interval_length",
        signatures=signatures("interval -> bigint"),
        row=lambda value: value[0] * 30 * DAY_MS + value[1] * DAY_MS + value[2],
        doc="what intervals are ordered by",
    ),
    Declaration(
        name="age",
        signatures=signatures("timestamp,timestamp -> interval", "timestamp -> interval"),
        row=_age,
        takes_context=True,
        is_deterministic=False,
    ),
)
