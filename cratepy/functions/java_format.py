"""``format(template, …)``: Java's Formatter, as much of it as SQL needs.

In: a template with ``%[index$][flags][width][.precision]conversion``, values and their types. Out: the text. Widths are
bounded (CrateDB tries to build a text of a billion characters). Source: java.util.Formatter. Not yet: date conversions
other than ``%tY %tm %td %tH %tM %tS``, hash codes (``%h``) of anything but text.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Sequence
from typing import Any, Final

from cratepy.errors import SQLParseError
from cratepy.functions import intervals
from cratepy.functions.casts import text_of
from cratepy.functions.intervals import DAY_MS
from cratepy.model.types import DataType

_SPECIFIER: Final = re.compile(r"%(?:(\d+)\$)?([-#+ 0,(<]*)(\d+)?(?:\.(\d+))?([tT]?[a-zA-Z%])")
_WIDTH_MAX: Final = 50_000
_INTEGERS: Final = frozenset({"byte", "smallint", "integer", "bigint"})
_DATES: Final = {"Y": "{0:04d}", "m": "{1:02d}", "d": "{2:02d}", "H": "{3:02d}", "M": "{4:02d}", "S": "{5:02d}"}


def java_format(template: str, values: Sequence[Any], types: Sequence[DataType]) -> str:
    """Raises SQLParseError for a specifier without a value or with one of another type."""
    state = {"next": 0, "last": 0}

    def replaced(match: re.Match[str]) -> str:
        index, flags, width, precision, conversion = match.groups()
        if conversion == "%":
            return _padded("%", flags, width)
        if conversion == "n":
            return "\n"
        position = _position(state, index, flags)
        if position >= len(values):
            raise SQLParseError(f"Format specifier '{match.group()}'")
        text = _one(values[position], types[position], conversion, flags, precision)
        return _padded(text, flags, width)

    _refuse_stray_percent(template)
    return _SPECIFIER.sub(replaced, template)


def _refuse_stray_percent(template: str) -> None:
    if "%" in _SPECIFIER.sub("", template):
        raise SQLParseError(f"Conversion = '%' in format '{template}'")


def _position(state: dict[str, int], index: str | None, flags: str) -> int:
    if "<" in flags:
        return state["last"]
    if index is not None:
        position = int(index) - 1
    else:
        position = state["next"]
        state["next"] += 1
    state["last"] = position
    return position


def _padded(text: str, flags: str, width: str | None) -> str:
    if width is None:
        return text
    size = int(width)
    if size > _WIDTH_MAX:
        raise SQLParseError(f"width {size} exceeds the limit of {_WIDTH_MAX}")
    if "-" in flags:
        return text.ljust(size)
    if "0" in flags:
        sign = text[:1] if text[:1] in ("-", "+") else ""
        return sign + text[len(sign) :].rjust(size - len(sign), "0")
    return text.rjust(size)


def _one(value: Any, data_type: DataType, conversion: str, flags: str, precision: str | None) -> str:
    lowered = conversion.lower()
    if value is None:
        text = "false" if lowered == "b" else "null"
    elif lowered in ("s", "b", "h"):
        text = _general(value, data_type, lowered)
        text = text if precision is None else text[: int(precision)]
    elif lowered in ("d", "x", "o"):
        text = _whole(value, data_type, lowered, flags)
    elif lowered in ("f", "e", "g"):
        text = _floating(value, data_type, lowered, flags, precision)
    elif lowered == "c":
        text = chr(value) if data_type.kind in _INTEGERS else _mismatch("c", data_type)
    elif lowered[0] == "t" and lowered[1:]:
        text = _date_part(value, data_type, conversion[1])
    else:
        raise SQLParseError(f"Conversion = '{conversion}'")
    return text.upper() if conversion[0].isupper() else text


def _general(value: Any, data_type: DataType, conversion: str) -> str:
    if conversion == "b":
        return str(value).lower() if isinstance(value, bool) else "true"
    if conversion == "h":
        digest = 0
        for character in text_of(value, data_type):
            digest = (31 * digest + ord(character)) & 0xFFFFFFFF
        return format(digest, "x")
    return str(value).lower() if isinstance(value, bool) else text_of(value, data_type)


def _mismatch(conversion: str, data_type: DataType) -> str:
    raise SQLParseError(f"{conversion} != {data_type.name}")


def _whole(value: Any, data_type: DataType, conversion: str, flags: str) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        return _mismatch(conversion, data_type)
    if conversion == "d":
        return _signed(format(abs(value), ",d" if "," in flags else "d"), value < 0, flags)
    bits = {"byte": 8, "smallint": 16, "integer": 32}.get(data_type.kind, 64)
    text = format(value & ((1 << bits) - 1), conversion)
    return ("0x" if conversion == "x" else "0") + text if "#" in flags else text


def _signed(text: str, is_negative: bool, flags: str) -> str:
    if is_negative:
        return f"({text})" if "(" in flags else f"-{text}"
    return f"+{text}" if "+" in flags else f" {text}" if " " in flags else text


def _floating(value: Any, data_type: DataType, conversion: str, flags: str, precision: str | None) -> str:
    if data_type.kind not in ("real", "double precision", "numeric"):
        return _mismatch(conversion, data_type)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else _signed("Infinity", value < 0, flags)
    digits = 6 if precision is None else int(precision)
    if digits > _WIDTH_MAX:
        raise SQLParseError(f"precision {digits} exceeds the limit of {_WIDTH_MAX}")
    number = decimal.Decimal(value) if isinstance(value, str) else decimal.Decimal(repr(value))
    if conversion == "f":
        wide = decimal.Context(prec=digits + 400, rounding=decimal.ROUND_HALF_UP)
        rounded = abs(number).quantize(decimal.Decimal(1).scaleb(-digits), context=wide)
        return _signed(format(rounded, ",f" if "," in flags else "f"), number < 0, flags)
    mantissa, _, exponent = format(abs(number), f".{digits}e").partition("e")
    return _signed(f"{mantissa}e{int(exponent):+03d}", number < 0, flags)


def _date_part(value: Any, data_type: DataType, letter: str) -> str:
    if (not data_type.is_timestamp and data_type.kind != "date") or letter not in _DATES:
        return _mismatch(f"t{letter}", data_type)
    days, time = divmod(value, DAY_MS)
    seconds = time // 1000
    return _DATES[letter].format(*intervals.civil_from_days(days), seconds // 3600, seconds // 60 % 60, seconds % 60)
