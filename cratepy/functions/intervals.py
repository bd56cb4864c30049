"""Intervals and calendar arithmetic on SQL values: ``[months, days, milliseconds]`` and milliseconds since 1970.

Source: CrateDB's interval arithmetic (Joda periods; hours carry into days, days never into months) and PostgreSQL's
rule that the end of a month stays inside its month.
"""

from __future__ import annotations

import calendar
from typing import Final

from cratepy.errors import RowOverflow

DAY_MS: Final = 86_400_000
Interval = list[int]
_DAYS_BEFORE_EPOCH: Final = 719_468


def normalized(months: int, days: int, milliseconds: int) -> Interval:
    """Whole days of milliseconds are days. Raises RowOverflow for more than 32 bits of months or days."""
    sign = -1 if milliseconds < 0 else 1
    carried, rest = divmod(abs(milliseconds), DAY_MS)
    days += sign * carried
    if abs(months) > 2**31 - 1 or abs(days) > 2**31 - 1:
        raise RowOverflow("interval out of range")
    return [months, days, sign * rest]


def add(left: Interval, right: Interval) -> Interval:
    return normalized(*(a + b for a, b in zip(left, right, strict=True)))


def subtract(left: Interval, right: Interval) -> Interval:
    return add(left, negate(right))


def negate(value: Interval) -> Interval:
    return [-part for part in value]


def multiply(value: Interval, factor: int) -> Interval:
    return normalized(*(part * factor for part in value))


def between(left: int, right: int) -> Interval:
    """``left - right`` of two timestamps: days and time."""
    return normalized(0, 0, left - right)


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar, for every year (Hinnant's algorithm)."""
    year -= month <= 2
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - _DAYS_BEFORE_EPOCH


def civil_from_days(days: int) -> tuple[int, int, int]:
    """Year, month and day; the inverse of :func:`days_from_civil`."""
    days += _DAYS_BEFORE_EPOCH
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def days_of_month(year: int, month: int) -> int:
    return 29 if month == 2 and calendar.isleap(year) else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def add_to_timestamp(timestamp: int, interval: Interval) -> int:
    """Months first (the day clamped to the month), then days and time. Raises RowOverflow."""
    months, days, milliseconds = interval
    if months:
        day_number, time = divmod(timestamp, DAY_MS)
        year, month, day = civil_from_days(day_number)
        year, month = year + (month - 1 + months) // 12, (month - 1 + months) % 12 + 1
        timestamp = days_from_civil(year, month, min(day, days_of_month(year, month))) * DAY_MS + time
    result = timestamp + days * DAY_MS + milliseconds
    if not -(2**63) <= result < 2**63:
        raise RowOverflow("long overflow")
    return result


def age(left: int, right: int) -> Interval:
    """``age(left, right)``: years, months, days and time from right to left, as Joda's period between two dates."""
    if left < right:
        return negate(age(right, left))
    left_day, left_time = divmod(left, DAY_MS)
    right_day, right_time = divmod(right, DAY_MS)
    left_year, left_month, left_dom = civil_from_days(left_day)
    right_year, right_month, right_dom = civil_from_days(right_day)
    months = (left_year - right_year) * 12 + left_month - right_month
    clamped = min(right_dom, days_of_month(left_year, left_month))
    if (left_dom, left_time) < (clamped, right_time):
        months -= 1
    rest = left - add_to_timestamp(right, [months, 0, 0])
    return normalized(months, 0, rest)
