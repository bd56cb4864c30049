"""Floating point numbers as text, in Java's style: ``1.0E20``, ``1.0E-7``, ``0.1``, ``NaN``, ``-Infinity``.

In: a float. Out: the shortest digits that read back as the same number, with an exponent outside of [10⁻³, 10⁷).
Source: ``Double.toString`` and ``Float.toString`` (JDK 19 and later).
"""

from __future__ import annotations

import math

import numpy as np


def float_text(value: float, *, is_single: bool = False) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if math.copysign(1.0, value) < 0 else "0.0"
    digits, exponent, sign = _shortest(value, is_single=is_single)
    if -3 <= exponent < 7:
        return sign + _plain(digits, exponent)
    fraction = digits[1:] or "0"
    return f"{sign}{digits[0]}.{fraction}E{exponent}"


def _shortest(value: float, *, is_single: bool) -> tuple[str, int, str]:
    """Digits without a point, the exponent of the first one, the sign."""
    text = np.format_float_scientific(np.float32(value), trim="-") if is_single else format_scientific(value)
    sign = "-" if text.startswith("-") else ""
    mantissa, _, exponent = text.lstrip("-").partition("e")
    return mantissa.replace(".", "").rstrip("0") or "0", int(exponent), sign


def format_scientific(value: float) -> str:
    text: str = np.format_float_scientific(value, trim="-")
    return text


def _plain(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return f"{whole}.{digits[exponent + 1 :] or '0'}"
