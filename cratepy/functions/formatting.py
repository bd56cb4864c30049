"""Timestamps and intervals as text by a pattern: date_format (MySQL's specifiers) and to_char (PostgreSQL's templates).

Source: CrateDB's TimestampFormatter and DateTimeFormatter as their answers show; to_char knows no FM and TM modifiers
and prints no zone, as there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from cratepy.functions import intervals
from cratepy.functions.datetimes import iso_week, time_zone, to_local
from cratepy.functions.intervals import DAY_MS, civil_from_days, days_from_civil
from cratepy.functions.signatures import Declaration, signatures
from cratepy.model.types import DataType

MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ROMAN: Final = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_DEFAULT_FORMAT: Final = "%Y-%m-%dT%H:%i:%s.%fZ"
_JULIAN_EPOCH: Final = 2_440_588


class Moment:
    """The parts of a timestamp that patterns ask for."""

    __slots__ = ("day", "day_of_year", "days", "hour", "minute", "month", "ms", "second", "weekday", "year")

    def __init__(self, timestamp: int) -> None:
        self.days, time = divmod(timestamp, DAY_MS)
        self.year, self.month, self.day = civil_from_days(self.days)
        self.hour, self.minute, self.second = time // 3_600_000, time // 60_000 % 60, time // 1000 % 60
        self.ms = time % 1000
        self.weekday = (self.days + 3) % 7
        self.day_of_year = self.days - days_from_civil(self.year, 1, 1) + 1

    @property
    def hour12(self) -> int:
        return self.hour % 12 or 12

    @property
    def half(self) -> str:
        return "AM" if self.hour < 12 else "PM"


def ordinal(number: int) -> str:
    return "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _week_of_year(m: Moment, first_weekday: int) -> int:
    """Weeks start on ``first_weekday`` (0 Monday, 6 Sunday); days before the first one are week 0."""
    return (m.day_of_year + 6 - (m.weekday - first_weekday) % 7) // 7


def _sunday_week(m: Moment) -> tuple[int, int]:
    """Year and week (1 to 53) of weeks that start on Sunday."""
    week = _week_of_year(m, 6)
    if week:
        return m.year, week
    last_day = Moment((days_from_civil(m.year, 1, 1) - 1) * DAY_MS)
    return m.year - 1, _week_of_year(last_day, 6)


_MYSQL: Final[dict[str, Callable[[Moment], str]]] = {
    "a": lambda m: DAYS[m.weekday][:3],
    "b": lambda m: MONTHS[m.month - 1][:3],
    "c": lambda m: str(m.month),
    "D": lambda m: f"{m.day}{ordinal(m.day)}",
    "d": lambda m: f"{m.day:02d}",
    "e": lambda m: str(m.day),
    "f": lambda m: f"{m.ms:03d}000",
    "H": lambda m: f"{m.hour:02d}",
    "h": lambda m: f"{m.hour12:02d}",
    "I": lambda m: f"{m.hour12:02d}",
    "i": lambda m: f"{m.minute:02d}",
    "j": lambda m: f"{m.day_of_year:03d}",
    "k": lambda m: str(m.hour),
    "l": lambda m: str(m.hour12),
    "M": lambda m: MONTHS[m.month - 1],
    "m": lambda m: f"{m.month:02d}",
    "p": lambda m: m.half,
    "r": lambda m: f"{m.hour12:02d}:{m.minute:02d}:{m.second:02d} {m.half}",
    "S": lambda m: f"{m.second:02d}",
    "s": lambda m: f"{m.second:02d}",
    "T": lambda m: f"{m.hour:02d}:{m.minute:02d}:{m.second:02d}",
    "U": lambda m: f"{_week_of_year(m, 6):02d}",
    "u": lambda m: f"{_monday_week(m):02d}",
    "V": lambda m: f"{_sunday_week(m)[1]:02d}",
    "v": lambda m: f"{iso_week(m.days)[1]:02d}",
    "W": lambda m: DAYS[m.weekday],
    "w": lambda m: str((m.weekday + 1) % 7),
    "X": lambda m: f"{_sunday_week(m)[0]:04d}",
    "x": lambda m: f"{iso_week(m.days)[0]:04d}",
    "Y": lambda m: f"{m.year:04d}",
    "y": lambda m: f"{m.year % 100:02d}" if m.year >= 100 else str(m.year),
}


def _monday_week(m: Moment) -> int:
    """ISO weeks of the year; days of the last week of the year before are week 0."""
    year, week = iso_week(m.days)
    return week if year == m.year else 0 if year < m.year else week


def date_format(pattern: str, timestamp: int) -> str:
    moment = Moment(timestamp)
    return re.sub(r"%(.?)", lambda m: _MYSQL[m[1]](moment) if m[1] in _MYSQL else m[1], pattern)


def _date_format(*arguments: Any) -> str:
    timestamp = arguments[-1]
    pattern = arguments[0] if len(arguments) > 1 else _DEFAULT_FORMAT
    if len(arguments) == 3:
        timestamp = to_local(timestamp, time_zone(arguments[1], "invalid time zone value '{}'"))
    return date_format(pattern, timestamp)


_POSTGRES: Final[dict[str, Callable[[Moment], str]]] = {
    "HH12": lambda m: f"{m.hour12:02d}",
    "HH24": lambda m: f"{m.hour:02d}",
    "HH": lambda m: f"{m.hour12:02d}",
    "MI": lambda m: f"{m.minute:02d}",
    "SSSSS": lambda m: str(m.hour * 3600 + m.minute * 60 + m.second),
    "SSSS": lambda m: str(m.hour * 3600 + m.minute * 60 + m.second),
    "SS": lambda m: f"{m.second:02d}",
    "MS": lambda m: f"{m.ms:03d}",
    "US": lambda m: f"{m.ms:03d}000",
    **{f"FF{n}": lambda m, n=n: str(m.ms * 1000 // 10 ** (6 - n)) for n in range(1, 7)},  # type: ignore[misc]
    "Y,YYY": lambda m: f"{m.year // 1000},{m.year % 1000:03d}",
    "YYYY": lambda m: f"{m.year:04d}",
    "YYY": lambda m: f"{m.year % 1000:03d}",
    "YY": lambda m: f"{m.year % 100:02d}",
    "Y": lambda m: str(m.year % 10),
    "IYYY": lambda m: f"{iso_week(m.days)[0]:04d}",
    "IYY": lambda m: f"{iso_week(m.days)[0] % 1000:03d}",
    "IY": lambda m: f"{iso_week(m.days)[0] % 100:02d}",
    "I": lambda m: str(iso_week(m.days)[0] % 10),
    "MONTH": lambda m: f"{MONTHS[m.month - 1].upper():<7}",
    "Month": lambda m: f"{MONTHS[m.month - 1]:<7}",
    "month": lambda m: f"{MONTHS[m.month - 1].lower():<7}",
    "MON": lambda m: MONTHS[m.month - 1][:3].upper(),
    "Mon": lambda m: MONTHS[m.month - 1][:3],
    "mon": lambda m: MONTHS[m.month - 1][:3].lower(),
    "MM": lambda m: f"{m.month:02d}",
    "DAY": lambda m: f"{DAYS[m.weekday].upper():<8}",
    "Day": lambda m: f"{DAYS[m.weekday]:<8}",
    "day": lambda m: f"{DAYS[m.weekday].lower():<8}",
    "DY": lambda m: DAYS[m.weekday][:3].upper(),
    "Dy": lambda m: DAYS[m.weekday][:3],
    "dy": lambda m: DAYS[m.weekday][:3].lower(),
    "IDDD": lambda m: f"{(iso_week(m.days)[1] - 1) * 7 + m.weekday + 1:03d}",
    "DDD": lambda m: f"{m.day_of_year:03d}",
    "DD": lambda m: f"{m.day:02d}",
    "ID": lambda m: str(m.weekday + 1),
    "D": lambda m: str((m.weekday + 1) % 7 + 1),
    "IW": lambda m: f"{iso_week(m.days)[1]:02d}",
    "WW": lambda m: f"{(m.day_of_year + Moment(days_from_civil(m.year, 1, 1) * DAY_MS).weekday - 1) // 7 + 1:02d}",
    "W": lambda m: str((m.day - 1) // 7 + 1),
    "CC": lambda m: f"{(m.year + 99) // 100:02d}",
    "J": lambda m: str(m.days + _JULIAN_EPOCH),
    "Q": lambda m: str((m.month + 2) // 3),
    "RM": lambda m: f"{_ROMAN[m.month - 1]:<4}",
    "rm": lambda m: f"{_ROMAN[m.month - 1].lower():<4}",
    "AM": lambda m: m.half,
    "PM": lambda m: m.half,
    "am": lambda m: m.half.lower(),
    "pm": lambda m: m.half.lower(),
    "A.M.": lambda m: f"{m.half[0]}.M.",
    "P.M.": lambda m: f"{m.half[0]}.M.",
    "a.m.": lambda m: f"{m.half[0].lower()}.m.",
    "p.m.": lambda m: f"{m.half[0].lower()}.m.",
    "BC": lambda m: "AD" if m.year > 0 else "BC",
    "AD": lambda m: "AD" if m.year > 0 else "BC",
    "bc": lambda m: "ad" if m.year > 0 else "bc",
    "ad": lambda m: "ad" if m.year > 0 else "bc",
    "B.C.": lambda m: "A.D." if m.year > 0 else "B.C.",
    "A.D.": lambda m: "A.D." if m.year > 0 else "B.C.",
    "b.c.": lambda m: "a.d." if m.year > 0 else "b.c.",
    "a.d.": lambda m: "a.d." if m.year > 0 else "b.c.",
    "TZH": lambda _m: "",
    "TZM": lambda _m: "",
    "TZ": lambda _m: "",
    "tz": lambda _m: "",
    "OF": lambda _m: "",
}
_TEMPLATE: Final = re.compile(
    '"((?:[^"\\\\]|\\\\.)*)"|('
    + "|".join(re.escape(word) for word in sorted(_POSTGRES, key=len, reverse=True))
    + ")(TH|th)?"
)


def to_char(timestamp: int, pattern: str) -> str:
    moment = Moment(timestamp)

    def replaced(match: re.Match[str]) -> str:
        quoted, word, suffix = match.groups()
        if word is None:
            return re.sub(r"\\(.)", r"\1", quoted)
        text = _POSTGRES[word](moment)
        if suffix and text.strip().isdigit():
            ending = ordinal(int(text))
            text += ending.upper() if suffix == "TH" else ending
        return text

    return _TEMPLATE.sub(replaced, pattern)


def _to_char_row(arguments: tuple[DataType, ...], _result: DataType) -> Callable[[Any, str], str]:
    if arguments[0].kind != "interval":
        return to_char
    year_one = days_from_civil(0, 1, 1) * DAY_MS
    return lambda value, pattern: to_char(intervals.add_to_timestamp(year_one, value), pattern)


DECLARATIONS: Final[tuple[Declaration, ...]] = (
    Declaration(
        name="date_format",
        signatures=signatures(
            *(
                f"{prefix}{kind} -> text"
                for kind in ("timestamptz", "timestamp", "bigint")
                for prefix in ("", "text,", "text,text,")
            )
        ),
        row=_date_format,
        doc="a timestamp by a pattern with MySQL's specifiers",
    ),
    Declaration(
        name="to_char",
        signatures=signatures("timestamp,text -> text", "timestamptz,text -> text", "interval,text -> text"),
        row_of=_to_char_row,
        doc="a timestamp or interval by a pattern with PostgreSQL's templates",
    ),
)
