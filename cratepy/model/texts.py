"""Intervals and times with a zone as text: what PostgreSQL's and HTTP's clients read and what a cast to text gives.

Its own room because protocols and functions have to agree. Source: PostgreSQL's output of both types; an interval's time is
always printed, as CrateDB does. Where CrateDB prints intervals that PostgreSQL's clients cannot read (``-1 days
00:00:-01``), PostgreSQL's signs are used.
"""

from __future__ import annotations


def interval_text(value: list[int]) -> str:
    """``1 year 2 mons 3 days 04:05:06.700``, the time always; signs by PostgreSQL's rule (``+`` after a negative part)."""
    months, days, ms = value
    years = int(months / 12)
    parts: list[str] = []
    is_before_negative = False
    for amount, unit in ((years, "year"), (months - 12 * years, "mon"), (days, "day")):
        if amount:
            plus = "+" if is_before_negative and amount > 0 else ""
            parts.append(f"{plus}{amount} {unit}{'' if amount == 1 else 's'}")
            is_before_negative = amount < 0
    sign = "-" if ms < 0 else "+" if is_before_negative and ms > 0 else ""
    seconds, fraction = divmod(abs(ms), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts.append(f"{sign}{hours:02d}:{minutes:02d}:{seconds:02d}{f'.{fraction:03d}' if fraction else ''}")
    return " ".join(parts)


def timetz_text(value: list[int]) -> str:
    """``10:11:12.5+02:00`` of [microseconds of the day, seconds east of UTC]; UTC prints as ``+00``."""
    micros, offset = value
    seconds, fraction = divmod(micros, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours:02d}:{minutes:02d}:{seconds:02d}"
    if fraction:
        text += f".{fraction:06d}".rstrip("0")
    if offset == 0:
        return text + "+00"
    east = abs(offset)
    text += f"{'-' if offset < 0 else '+'}{east // 3600:02d}:{east // 60 % 60:02d}"
    return f"{text}:{east % 60:02d}" if east % 60 else text
